"""What a private step is, what it costs, and what is left to spend."""
