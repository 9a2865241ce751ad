"""Gradient descent whose delays are drawn from a gamma distribution, in continuous time: the equation of the mean.

``E x'(t) = -a E x(t - T)`` with T gamma of mean ``tau``, independent of x, and coefficient of variation ``cv``; its shape is
``k = 1 / cv^2``. The roots of ``s + a (1 + s tau / k)^-k = 0`` decide. With ``cv = 0`` the delay is constant, with ``cv = 1``
exponential, and more than 1 is refused: such delays have no fastest step. `X = a tau` as in `constant_delay`. The formulas
are derived here (standard analysis; the row "random delays" of the literature was read as an abstract only, ICC 2024,
document 10622795).

**They speak of the mean.** A single run with random delays may grow while the mean over runs falls: see `mean_square`.
"""

from __future__ import annotations

import cmath
import math

from asyncsim.errors import UserError
from asyncsim.theory.bisection import bisected
from asyncsim.theory.checks import not_negative
from asyncsim.theory.constant_delay import FASTEST, LARGEST_STABLE, delay_rate
from asyncsim.theory.following import followed

NEARLY_CONSTANT = 1e-4
"""A coefficient of variation below this is taken as 0: rates then differ by less than 1e-7."""


def gamma_limit(cv: float) -> float:
    """The largest X for which the mean converges: ``k tan(pi / 2k) / cos(pi / 2k)^k``; infinite for ``cv`` 1.

    It goes to pi / 2 as cv goes to 0: at a given mean, regular delays are the least stable.

    >>> [round(gamma_limit(cv), 3) for cv in (0.1, 0.5, 2**-0.5, 1.0)]
    [1.59, 2.274, 4.0, inf]
    """
    _check(cv)
    if cv < NEARLY_CONSTANT:
        return LARGEST_STABLE
    if cv == 1:
        return math.inf
    shape = 1 / cv**2
    angle = math.pi / (2 * shape)
    return shape * math.tan(angle) * math.exp(-shape * math.log(math.cos(angle)))


def gamma_fastest(cv: float) -> float:
    """X of the fastest convergence of the mean, where two real roots meet: ``(k / (k + 1))^(k + 1)``; there the rate times the
    mean delay is ``k / (k + 1)``. It is 1/e for constant and 1/4 for exponential delays.

    >>> gamma_fastest(1.0), round(gamma_fastest(0.0), 6)
    (0.25, 0.367879)
    """
    _check(cv)
    if cv < NEARLY_CONSTANT:
        return FASTEST
    shape = 1 / cv**2
    return math.exp(-(shape + 1) * math.log1p(1 / shape))


def gamma_rate(x: float, cv: float) -> float:
    """The rate of convergence of the mean times the mean delay, ``-Re s tau``; negative where the mean diverges.

    Up to `gamma_fastest` the slowest root is real, and found by bisection; beyond it two complex roots leave the real axis,
    and are followed by Newton's iteration. For exponential delays it is ``(1 - sqrt(1 - 4 X)) / 2``, and 1/2 from
    ``X = 1/4`` on.
    """
    not_negative(x=x)
    _check(cv)
    if cv < NEARLY_CONSTANT or x == 0:
        return delay_rate(x)
    shape = 1 / cv**2
    fastest = gamma_fastest(cv)
    if x <= fastest:
        return _real_root(x, shape)
    return -_complex_root(x, shape, fastest).real


def _check(cv: float) -> None:
    if not 0 <= cv <= 1:
        raise UserError(f"cv: {cv!r} must be from 0 (constant delays) to 1 (exponential ones)")


def _real_root(x: float, shape: float) -> float:
    """Bisection of ``r - x (1 - r / k)^-k``, r the rate, between 0 and the double root ``k / (k + 1)``."""
    low, high = bisected(lambda rate: rate < x * math.exp(-shape * math.log1p(-rate / shape)), 0.0, shape / (shape + 1))
    return (low + high) / 2


def _complex_root(x: float, shape: float, fastest: float) -> complex:
    """The upper root of the pair that leaves the real axis at ``fastest``, in the logarithm: ``log(-s) + k log(1 + s / k)
    = log X``."""
    top = -shape / (shape + 1)
    bend = 1 / top**2 + 1 / (shape * (1 + top / shape) ** 2)
    return followed(
        lambda s: cmath.log(-s) + shape * cmath.log(1 + s / shape),
        lambda s: 1 / s + 1 / (1 + s / shape),
        top, bend, math.log(fastest), math.log(x),
    )  # fmt: skip
