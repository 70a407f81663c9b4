"""What can be known about a run before it starts: the facts, gathered once, and the rules that judge them."""
