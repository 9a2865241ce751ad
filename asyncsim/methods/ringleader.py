"""Ringleader ASGD: a table of the workers' gradients, so that each counts alike, however fast it is; one new model a round::

    tables (G_i, b_i) and (G'_i, b'_i) of sums and numbers; a step:   theta <- theta - lr * (1 / N) * sum over i of G_i / b_i
    phase 1   every gradient goes to its worker's G; when all b_i >= 1, the worker that was the last is served, and phase 2 begins
    phase 2   the first gradient of a worker goes to its G, and it is served; those of workers that have been go to their G'
    to serve  a step is taken, and the worker reads; all others go on at the model that they have
    when all N have been served:   G, b <- G', b'   and   G', b' <- 0

A. Maranjyan, P. Richtarik, "Ringleader ASGD", 2025: the rule is from detailed secondary notes, not from the paper's text.

Order: a gradient enters its table, the step is taken, and only who is served reads. A gradient is up to ``2 N - 2`` versions old
when it is used, which is reached; a round has ``N`` updates, and everybody gets one model in it.
The notes also say that a worker gets the current model after each gradient of phase 1. That would be a second one in a round, so
here it stays with the one that it was served.
Who has left for good is in no table any more; one that was down, or joins, reads the newest model, and is waited for. The
samples of an update are those of the gradients that have entered the table since the last.
Left out: the choice of the rate.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Future, Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.step_rule import divided
from asyncsim.policies.transform import policies
from asyncsim.simulation.programs import Program, programs

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker


@dataclass(slots=True)
class Tables(State):
    """The sums of the first table, shape ``(P,)`` each, and their numbers, by worker; the pushes that are still to be added to
    it; those of the second table; and who is still to be served in phase 2 (nobody: it is phase 1)."""

    sums: dict[int, Tensor] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    fresh: list[Push] = field(default_factory=list)
    later: list[Push] = field(default_factory=list)
    unserved: list[int] = field(default_factory=list)


@policies.register("gradient_table")
class GradientTable(Transform):
    """Each worker's mean gradient in a table, whose mean over all workers is applied ``N`` times a round, once for each of them
    (Ringleader ASGD, Maranjyan and Richtarik 2025)."""

    needs: ClassVar[Need] = Need.BUFFERS | Need.MEANS

    def init(self, params: Tensor | None, num_workers: int) -> Tables:
        return Tables()

    def update(self, push: Push, state: Tables, server: ServerView) -> Push | Verdict:
        members = [worker for worker in range(server.num_workers) if worker not in server.departed]
        if state.unserved:
            state.unserved = [worker for worker in state.unserved if worker not in server.departed]
            if not state.unserved:
                self.close(state)
        if state.unserved and push.worker not in state.unserved:
            state.later.append(push)
            return Verdict.BUFFERED
        state.fresh.append(push)
        if not state.unserved:
            known = {*state.counts, *(each.worker for each in state.fresh)}
            if not known.issuperset(members):
                return Verdict.BUFFERED
            state.unserved = members
        state.unserved = [worker for worker in state.unserved if worker != push.worker]
        push.samples = sum(each.samples for each in state.fresh)
        self.enter(state, push)
        if push.payload is not None:
            means = [state.sums[worker] / state.counts[worker] for worker in members if worker in state.sums]
            push.replaced, push.penalty = sum(means[1:], start=means[0]).div_(len(means)), 1.0
        if not state.unserved:
            self.close(state)
        return push

    def enter(self, state: Tables, last: Push) -> None:
        """Add the pushes that have come to the sums."""
        pushes, state.fresh = state.fresh, []
        Future.gather([push.payload for push in pushes if push.payload is not None and push.replaced is None])
        for push in pushes:
            state.counts[push.worker] = state.counts.get(push.worker, 0) + 1
            if push.payload is None:
                continue
            gradient = divided(push)
            known = state.sums.get(push.worker)
            state.sums[push.worker] = gradient.clone() if known is None else known.add_(gradient)
            if push is not last:
                push.payload.release()

    def close(self, state: Tables) -> None:
        """A round is over: the second table becomes the first."""
        state.sums, state.counts, state.fresh, state.later = {}, {}, state.later, []


@programs.register("until_updated")
class UntilUpdated(Program):
    """One gradient after the other at one snapshot: a worker reads anew only after a push of it has made an update, or when what
    it had begun is lost. The server keeps ``versions`` versions; who has an older one reads anew as well."""

    needs: ClassVar[Need] = Need.OLD_VERSIONS
    versions: int = Field(default=16, ge=1)

    def keep(self, stage: int) -> int:
        return self.versions

    def begin(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, Snapshot]:
        kept = sim.progress[worker.stage].version - worker.version < self.versions
        if kept and not worker.due:
            return (yield from sim.read(worker, worker.version, again=True))
        snapshot = yield from sim.read(worker)
        worker.due = False
        return snapshot


@methods.register("ringleader")
class Ringleader(Method):
    """Ringleader ASGD, Maranjyan and Richtarik 2025: the mean over workers of their mean gradients, so that fast ones do not
    count more where data differ; everybody gets one new model a round."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((GradientTable(),), optimizer, ASP(), UntilUpdated(versions=2 * num_workers))
