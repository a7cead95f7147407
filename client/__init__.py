"""The hospital: everything that may see a patient lives here and nowhere else."""
