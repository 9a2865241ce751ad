"""Asynchronous SGD: every gradient is applied as it arrives, however stale::

    d     = g + weight_decay * theta
    v     <- momentum * v + d                 one v, at the server
    theta <- theta - lr * v                   Nesterov: theta - lr * (d + momentum * v)

Order: the push is applied, and only then does its worker read again. With equal constant compute times ``tau = N - 1``.

Source: folklore. Downpour SGD (Dean et al. 2012) without its Adagrad step, and with a push and a read for every gradient.
Left out: Downpour's accumulation of several gradients for a push (the program ``local_sgd``) and its Adagrad server.
"""

from __future__ import annotations

from asyncsim.methods.method import Method, methods


@methods.register("asgd")
class ASGD(Method):
    """Plain asynchronous SGD: every gradient is applied as it arrives, however stale."""
