"""The hospital's part in a federated round."""
