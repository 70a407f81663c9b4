"""A training run: the process it is, the directory it lives in, the order in which it happens."""
