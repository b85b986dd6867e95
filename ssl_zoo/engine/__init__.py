"""Training: the trainer and its hooks."""
