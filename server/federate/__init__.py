"""Rounds with the hospitals: who takes part, what their masked updates sum to, where to resume."""
