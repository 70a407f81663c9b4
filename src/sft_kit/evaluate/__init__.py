"""Whether the identity took, and whether it leaked: which questions are asked, and how answers are scored.

Pure: it takes answers as text and never starts a model.
"""
