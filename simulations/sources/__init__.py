"""Where a simulated federation takes its hospitals, questions and truths from."""
