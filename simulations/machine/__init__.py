"""One machine plays a federation: the grid in one process, workers, dropouts, what leaves and what it costs."""
