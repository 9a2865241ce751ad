"""Gradient engines: kernels (pure functions that compute), futures (results not computed yet), and the engines that evaluate
them."""
