"""Invented questions, answers and clinicians, and the judge who knows which answer is better."""
