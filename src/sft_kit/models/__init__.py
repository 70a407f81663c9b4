"""The small models that sft-kit brings along: tiny random ones for CI, and a real 135M one for the quickstart.

Owns where they come from, how they are built and where they are kept. Does not own how a model is trained.
"""
