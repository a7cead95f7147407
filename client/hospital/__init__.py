"""One hospital on disk: who it is, what it permits, whether it is in order."""
