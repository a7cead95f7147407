"""What is an ordinary or clinical word, what can be a name or a place, what looks like one and is neither."""
