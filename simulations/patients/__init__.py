"""Invented patients and their notes, with the truth of what identifies them."""
