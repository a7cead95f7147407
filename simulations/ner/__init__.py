"""Training of the names network that `client/deid/tagger.py` runs: `make ner`."""
