"""The coordinator: rounds, registry, alignment, evaluation. It never holds a patient's text."""
