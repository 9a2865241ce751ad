"""Gradient descent with one constant delay, in continuous time: rate of convergence, stability, stationary variance.

The equation is ``x'(t) = -a x(t - tau) + b dW/dt``. For asynchronous SGD on a quadratic of curvature h, with N workers that
each take the time 1/mu, a step eta, and updates that arrive evenly: ``a = N mu eta h``, ``tau = 1/mu``, so the only number that
matters is ``X = a tau = N eta h``.

Source: S. Yu, W. Chen, H. V. Poor, "Distributed stochastic gradient descent with staleness: a stochastic delay differential
equation based framework" (arXiv 2406.11159) has the framework, of which the abstract was read; the formulas here are standard
analysis of delay equations, derived and checked here, and are not claimed to be the paper's.
"""

from __future__ import annotations

import math

from asyncsim.errors import UserError
from asyncsim.theory.checks import not_negative, positive
from asyncsim.theory.lambert import lambert_w

LARGEST_STABLE = math.pi / 2
"""The equation is stable for X below this, and oscillates without end at it."""
FASTEST = math.exp(-1)
"""X of the fastest convergence: two real roots meet there. Below it nothing oscillates."""


def delay_rate(x: float) -> float:
    """The rate of convergence times the delay, ``-Re W0(-X)``; negative where the equation diverges (X above pi / 2).

    ``|x(t)|`` falls as ``exp(-delay_rate(X) t / tau)``: the slowest root of ``s + a exp(-s tau) = 0`` is ``s tau = W0(-a tau)``
    (standard; W0 is the principal branch of `lambert_w`). Without delay the rate times tau would be X itself. ``x`` is
    ``X = a tau``, at least 0.

    >>> round(delay_rate(0.1), 4), round(delay_rate(FASTEST), 4), round(delay_rate(1.7), 3)
    (0.1118, 1.0, -0.056)
    """
    not_negative(x=x)
    return -lambert_w(-x).real


def delay_variance(a: float, tau: float, b: float) -> float:
    """The variance of x in the long run: ``b^2 (1 + sin(a tau)) / (2 a cos(a tau))``.

    ``b^2`` is the variance that the noise adds in a unit of time; without delay the value is ``b^2 / (2 a)``, and it goes to
    infinity at ``a tau = pi / 2``. Source: U. Kuechler, B. Mensch, "Langevins stochastic differential equation extended by a
    time-delayed term", Stochastics 40, 1992 (recalled; the tests simulate the equation). Raises ``UserError`` where there is no
    stationary distribution.
    """
    positive(a=a)
    not_negative(tau=tau, b=b)
    x = a * tau
    if x >= LARGEST_STABLE:
        raise UserError(f"a tau: {x:g} has no stationary variance; allowed is less than pi / 2 = {LARGEST_STABLE:.5g}")
    return b * b * (1 + math.sin(x)) / (2 * a * math.cos(x))
