"""The hospital on a network: its connection to the coordinator, the bundles it approved, its backups."""
