"""The Lambert W function, in which the roots of equations with a constant delay are written."""

from __future__ import annotations

import cmath
import math

from asyncsim.errors import UserError

MOST_STEPS = 100


def lambert_w(z: complex, branch: int = 0) -> complex:
    """The number ``w`` with ``w exp(w) = z`` on one branch; branch 0 is the principal one.

    Halley's iteration from a start that depends on the place: the series in ``p = sqrt(2 (e z + 1))`` near the branch point
    ``-1/e``, the series at 0, else the logarithm. The starts and the iteration are those of R. M. Corless, G. H. Gonnet,
    D. E. G. Hare, D. J. Jeffrey, D. E. Knuth, "On the Lambert W function", Advances in Computational Mathematics 5, 1996,
    eq. 4.20, 4.22, 5.9. SciPy has the same function; this one keeps `asyncsim plan` free of SciPy's start-up time, and
    the tests compare the two.

    Raises ``UserError`` for 0 on another branch than 0, where W is minus infinity, and for a value that is not finite.
    """
    z = complex(z)
    if not (math.isfinite(z.real) and math.isfinite(z.imag)):
        raise UserError(f"z: {z!r} must be finite")
    if z == 0:
        if branch:
            raise UserError(f"branch: {branch} is minus infinity at z = 0; allowed there is branch 0")
        return 0j
    w = _start(z, branch)
    for _ in range(MOST_STEPS):
        power = cmath.exp(w)
        error = w * power - z
        slope = power * (w + 1)
        if error == 0 or slope == 0:
            break
        step = error / (slope - (w + 2) * error / (2 * w + 2))
        w -= step
        if abs(step) <= 4e-16 * (1 + abs(w)):
            break
    return w


def _start(z: complex, branch: int) -> complex:
    distance = cmath.sqrt(2 * (math.e * z + 1))
    near_branch_point = abs(z + math.exp(-1)) < 0.3
    if branch == 0 and near_branch_point:
        return -1 + distance - distance**2 / 3 + 11 / 72 * distance**3
    if near_branch_point and (branch, z.imag >= 0) in ((-1, True), (1, False)):
        return -1 - distance - distance**2 / 3 - 11 / 72 * distance**3
    if branch == 0 and abs(z) < 1 and z.real > -0.4:  # left of that, W is far from its series at 0
        return z * (1 - z)
    log = cmath.log(z) + 2j * math.pi * branch
    return log - cmath.log(log) if abs(log) > 1 else log
