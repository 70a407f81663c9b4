"""What a run will use of the machine: which GPU, and how the batch is split. Memory is planned here too, later."""
