"""Private training at the hospital: gradients per unit, one private step, one round."""
