"""EASGD, elastic averaging: every worker keeps a model of its own, which it and the centre pull towards each other now and then::

    worker i, in every round:   d = alpha * (x_i - theta)         x_i begins as the theta that it reads first
        x_i   <- x_i - d;   theta <- theta + lr * d               at one instant where messages take no time; lr: the server's, 1
        local_steps times:   x_i <- x_i - local_lr * factor * g   momentum:  v_i <- local_momentum * v_i - local_lr * factor * g
                                                                             x_i <- x_i + v_i,  g at  x_i + local_momentum * v_i

S. Zhang, A. Choromanska, Y. LeCun 2015, *Deep learning with Elastic Averaging SGD* (arXiv 1412.6651): the asynchronous algorithm,
with ``alpha = beta / N``. The rules of EASGD and EAMSGD are as we remember the paper.

Order: read, send the difference, then compute. The first gradient of a round is that of ``x_i`` before it was pulled; the
others are where ``x_i`` is. The first round of a worker sends zeros, as ``x_i`` is what it has just read.
``factor`` is the schedule's at the read. The momentum ``v_i`` goes on from round to round, and is not pulled.
Where reading and sending take time the worker is pulled by the centre that it read, and the centre by a difference as old as
the way takes: that is its staleness. Sum of all ``x_i`` and ``theta``: no elastic step changes it.
Ours: a worker that goes down loses its model and momentum, and begins with what it then reads.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Gradient
from asyncsim.methods.local_steps import OwnModel
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import StepRule
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Program, programs

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class ElasticSteps(OwnModel):
    """A kernel: the pull of the centre, and ``steps`` steps of the worker's own. The result is ``-pull * (x - theta)``, shape
    ``(P,)``."""

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int, carry: Tensor | None) -> Gradient:
        from asyncsim.engine.kernels import gradient

        own, velocity = self.held(params, carry)
        difference = (own - params) * self.pull
        point, local, loss, statistics = own, own - difference, params.new_zeros(()), None
        for index in range(step * self.steps, (step + 1) * self.steps):
            if self.momentum:
                point = point.add(velocity, alpha=self.momentum)
            result = gradient(task, streams, point, worker, index)
            velocity = velocity.mul(self.momentum).add_(result.gradient, alpha=-self.lr)
            local = local + velocity
            point, loss, statistics = local, loss + result.loss, result.statistics
        return Gradient(-difference, loss / self.steps, statistics, self.left(local, velocity))


@programs.register("elastic")
class Elastic(Program):
    """Read, push what pulls the centre to the worker's own model, and take ``steps`` steps with it (Zhang et al. 2015).

    Meant for a server that steps with ``{kind: sgd, lr: 1}``. ``momentum`` is that of EAMSGD, Nesterov's.
    """

    needs: ClassVar[Need] = Need.WORKER_STATE | Need.LOCAL_RATE
    pull: float = Field(default=0.1, ge=0, le=1)
    steps: int = Field(default=4, ge=1)
    lr: float = Field(default=0.05, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)

    @property
    def batches(self) -> int:
        return self.steps

    def kernel(self, snapshot: Snapshot) -> Any:
        return ElasticSteps(self.pull, self.steps, self.lr * snapshot.lr_factor, self.momentum)

    def round(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, None]:
        snapshot = yield from sim.read(worker)
        work = sim.submit(worker, snapshot, self.kernel)
        yield from sim.upload(worker)
        yield from sim.push(worker, snapshot, work)
        yield from sim.compute(worker, worker.seconds(self.batches))


class ElasticSettings(Spec):
    """``beta``: the pull of all workers together, so that one's is ``beta / N``; ``alpha`` gives one's instead."""

    beta: float = Field(default=0.9, ge=0, le=1)
    alpha: float | None = Field(default=None, ge=0, le=1)
    local_steps: int = Field(default=4, ge=1)
    local_lr: float = Field(default=0.05, ge=0)


def elastic(settings: ElasticSettings, num_workers: int, momentum: float) -> Elastic:
    """The program of a method with these settings."""
    pull = settings.beta / num_workers if settings.alpha is None else settings.alpha
    return Elastic(pull=pull, steps=settings.local_steps, lr=settings.local_lr, momentum=momentum)


@methods.register("easgd")
class Easgd(ElasticSettings, Method):
    """EASGD, Zhang et al. 2015: models of their own, which the centre and they pull towards each other. For the optimizer
    ``{kind: sgd, lr: 1}``."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, ASP(), elastic(self, num_workers, 0.0))
