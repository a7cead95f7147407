"""From a finished run to its figures, gates and page."""
