"""What hospital and coordinator agree on. Nothing here can carry a patient."""
