"""Clinicians' preferences: what to ask, the page that asks it, how well the answers agree, and what of them training sees.

items → pairs (what to ask next) → desk (one annotator's screen) → web (the page) → settling (votes to outcome and weight) → vault
"""
