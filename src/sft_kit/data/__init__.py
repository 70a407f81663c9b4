"""Training data: what a row is, and how rows are read from and written to the formats users have.

Owns nothing of what the rows say (`identity` does) and nothing of how ms-swift reads them.
"""
