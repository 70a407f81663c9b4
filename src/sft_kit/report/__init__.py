"""What a run leaves for people to read: the before/after report and the loss plot. Draws; decides nothing."""
