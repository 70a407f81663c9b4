"""Identity data: from a name and an author to training rows and held-out questions.

Owns the templates' shape, the choice of rows and the guards on names. Does not own file formats (`data`) or
the scoring of answers (`evaluate`).
"""
