"""Local SGD, or FedAvg: in every round each worker takes local steps, then the models are averaged::

    worker i:  x_i <- s;   local_steps times:  x_i <- x_i - local_lr * factor * g(x_i);   push  D_i = s - x_i
    server:    theta <- theta - lr * mean of the D_i                       lr = 1: theta is the mean of the x_i

Source: folklore in many forms (parallel SGD with periodic averaging, FedAvg).

Order: all read one version, a worker that has delivered waits, the last of the round completes the mean. ``factor`` is the
schedule's at the read. With ``local_momentum`` the local step is heavy ball, and its velocity begins at zero in every round. A
momentum of the scenario's optimiser acts at the server, on the means.
Left out: sampling of clients, weights by data size, local weight decay, unequal numbers of local steps.
"""

from __future__ import annotations

from asyncsim.consistency import BSP
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import Accumulate, StepRule


@methods.register("local_sgd")
class LocalSgdMethod(LocalMethod):
    """Local SGD / FedAvg, synchronous: every worker takes its local steps, then the models are averaged."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((Accumulate(members=True),), optimizer, BSP(), self.local())
