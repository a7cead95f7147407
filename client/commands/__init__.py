"""The commands of `wardround-site`, by subject; `client/cli.py` joins them."""
