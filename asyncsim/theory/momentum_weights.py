"""Weights with which a momentum of stale updates comes nearest to the momentum of fresh ones.

The mean ``r_t`` of a group of pushes is made of gradients at several versions: ``w_t[s]`` is the share that was computed at
version ``s <= t``. A momentum ``b`` of such means, ``sum over j of b^(t - j) r_j``, gives version ``s`` another weight than a
momentum of fresh gradients, which gives it ``b^(t - s)``. Both functions look for combinations of the ``r_j`` whose weights are
nearest to those, by least squares; they see shares alone, never a gradient.

T. Yu, C. Song, J. Wang, M. Chitnis, "Momentum Approximation in Asynchronous Private Federated Learning", 2024 (arXiv
2402.09247). The aim is the paper's, from secondary notes; the recursion of `light_weights` is reconstructed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.checks import momentum_of


def momentum_row(momentum: float, count: int) -> np.ndarray:
    """The weights ``momentum^(t - s)`` of the last ``count`` versions, the newest (``s = t``) last, shape ``(count,)``.

    Raises ``UserError`` for a momentum below 0 or not below 1.

    >>> momentum_row(0.5, 3).tolist()
    [0.25, 0.5, 1.0]
    """
    momentum_of(momentum)
    return momentum ** np.arange(count - 1, -1, -1, dtype=np.float64)


def light_weights(
    shares: Sequence[float], before: Sequence[float], momentum: float, cutoff: float = 0.0
) -> tuple[float, float, np.ndarray]:
    """``(c1, c2, row)``: the mean of now times ``c1`` and the momentum of before times ``c2`` come nearest to fresh momentum, and
    ``row = c1 * shares + c2 * before`` are the weights of the versions in them.

    ``shares`` are those of the versions in the mean of now and ``before`` the weights in the momentum so far: of the same
    versions, the newest last, shape ``(V,)``. ``cutoff`` is as in `full_weights`. Raises ``UserError`` if they are not as many.

    >>> c1, c2, row = light_weights([0.0, 0.0, 1.0], [0.25, 0.5, 0.0], momentum=0.5)
    >>> round(c1, 12), round(c2, 12), row.round(12).tolist()
    (1.0, 1.0, [0.25, 0.5, 1.0])
    """
    if len(shares) != len(before):
        raise UserError(f"before: {len(before)} weights for {len(shares)} shares; as many are allowed")
    pair = np.array([shares, before], dtype=np.float64)
    c1, c2 = _nearest(pair, momentum_row(momentum, len(shares)), cutoff)
    return float(c1), float(c2), c1 * pair[0] + c2 * pair[1]


def full_weights(
    shares: Sequence[Sequence[float]], momentum: float, cutoff: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """``(a, row)``: the combination ``sum of a_j r_j`` of all means comes nearest to fresh momentum, and ``row`` are the weights
    of the versions in it.

    ``shares[j]`` are those of the versions in the ``j``-th mean, the newest version last, shape ``(J, V)``. Where several
    combinations are equally near, it is the shortest of them. Means of nearly the same versions can take large weights of
    opposite signs, which multiply the noise of the gradients; directions whose singular value is below ``cutoff`` times the
    largest one are left out. Raises ``UserError`` if there are no means, or not all of as many versions.

    >>> a, row = full_weights([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]], momentum=0.5)
    >>> a.round(12).tolist(), row.round(12).tolist()
    ([0.125, 0.125, 1.5], [0.25, 0.75, 0.75])
    """
    if not len(shares):
        raise UserError("shares: give at least one mean")
    for index, row in enumerate(shares):
        if len(row) != len(shares[0]):
            raise UserError(f"shares[{index}]: {len(row)} versions, and shares[0] has {len(shares[0])}; as many are allowed")
    rows = np.array(shares, dtype=np.float64)
    a = _nearest(rows, momentum_row(momentum, rows.shape[1]), cutoff)
    return a, a @ rows


def _nearest(rows: np.ndarray, wanted: np.ndarray, cutoff: float) -> np.ndarray:
    return np.linalg.lstsq(rows.T, wanted, rcond=cutoff or None)[0]
