"""Accumulated decoupled learning: FDG whose stages update after every ``M`` gradients, so that staleness, in updates, shrinks::

    schedule of ``fdg``;  the update of a stage is the sum of M gradients                      M = accumulate
    forward first, gradient j = 0..M-1 of an update:  tau = floor((2(K-k) + M - 1 - j) / M),   in the mean 2(K-k) / M

H. Zhuang et al., "Accumulated Decoupled Learning", ICML 2021 (arXiv 2012.03747). The full text was not at hand; from the authors'
public code and its figures. The formula of the staleness is derived, and agrees with the figure.

Order: as in ``fdg``; a gradient is collected at the end of its backward pass, the ``M``-th makes the update in the same tick.
Differs from the code: it stashes no parameters (``backward_weights: current``). The mean in place of the sum (``total: false``)
is our addition. With ``sharing: asynchronous`` the gradients of all groups are counted together.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import TicksMethod


@methods.register("adl")
class Adl(TicksMethod):
    """Accumulated decoupled learning, Zhuang et al. 2020 (arXiv 2012.03747): every stage updates after ``accumulate`` gradients.

    ``total``: their sum is applied, as in the public code; otherwise their mean.
    """

    accumulate: int = Field(default=4, ge=1)
    total: bool = True

    @property
    def gathers(self) -> tuple[int, bool]:
        return self.accumulate, self.total
