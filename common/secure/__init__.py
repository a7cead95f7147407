"""How updates travel so that the coordinator learns their sum and nothing else."""
