"""Tier 1: what patterns, lists and layouts tell, class by class and language by language."""
