"""Gradient engines: pure kernels, futures, and what evaluates them."""
