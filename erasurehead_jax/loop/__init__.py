"""Coded gradients in a training loop of one's own: on the ranks that `run` has started, or simulated."""
