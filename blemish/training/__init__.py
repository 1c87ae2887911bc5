"""Training: the loop, checkpoints, metrics, cost."""
