"""EAMSGD: elastic averaging whose workers take steps with a momentum of their own::

    worker i, in every round:   d = alpha * (x_i - theta);   x_i <- x_i - d;   theta <- theta + lr * d
        local_steps times:      v_i <- local_momentum * v_i - local_lr * factor * g(x_i + local_momentum * v_i)
                                x_i <- x_i + v_i

S. Zhang, A. Choromanska, Y. LeCun 2015 (arXiv 1412.6651), as we remember the paper; ``local_momentum`` 0.99 is its value.

Order and all else: as in `asyncsim.methods.easgd`, whose program this is. Without momentum it is EASGD to the bit.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.methods.easgd import ElasticSettings, elastic
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule


@methods.register("eamsgd")
class Eamsgd(ElasticSettings, Method):
    """EAMSGD, Zhang et al. 2015: EASGD with Nesterov's momentum at the workers. For the optimizer ``{kind: sgd, lr: 1}``."""

    local_lr: float = Field(default=0.005, ge=0)
    local_momentum: float = Field(default=0.99, ge=0, lt=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, ASP(), elastic(self, num_workers, self.local_momentum))
