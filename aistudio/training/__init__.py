"""Training on one's own data: sources, cached data sets, samplers, losses, one loop, checkpoints, export."""
