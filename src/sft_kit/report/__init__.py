"""What a run leaves for people to read: the before/after report in every form, and the loss plot. Decides nothing."""
