"""What the result is worth, whether it may be released, and the page that says so."""
