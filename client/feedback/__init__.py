"""Clinicians' choices: what to ask, how far they agree."""
