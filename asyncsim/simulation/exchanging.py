"""Exchange between workers in time: messages to partners, beside the push, which stays where its worker is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import simpy

from asyncsim.simulation.activities import DOWNLOAD, UPLOAD
from asyncsim.simulation.transport.transport import ANSWER, PEER

if TYPE_CHECKING:
    from asyncsim.exchange import Exchange
    from asyncsim.messages import Future, Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker

Events = Generator[Any, Any, None]


class Exchanging:
    """What a worker does with its result where workers exchange: it pushes to its own row, and its messages go to partners.

    The order of the two is the rule's. Without overlap the worker is busy until the exchange is over: ``upload`` is the way of
    its message to a partner, ``download`` that of the answer. With overlap it begins its next round meanwhile, and no span shows
    the exchange; its next one begins when this one is over.

    A worker that goes down ends its exchange: what was on its way stays with it. One that is down answers nobody; a message that
    takes no answer is there when it comes back.
    """

    def __init__(self, sim: Verbs, rule: Exchange) -> None:
        self._sim = sim
        self._rule = rule

    def push(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> Events:
        """Push and exchange, in the order of the rule."""
        sim, first = self._sim, self._rule.combines_first
        if not first:
            number = self._pushes(worker)
            yield from sim.deliver(worker, snapshot, work)
        while worker.sending is not None:
            yield from sim.wait(worker, worker.sending)
        if sim.over:
            return
        if first:
            number = self._pushes(worker)  # those that were on their way are made now
        partners = sim.progress[worker.stage].partners(worker.member, number)
        sim.server.peers.set_out(worker.index, number, partners)
        if not sim.overlapping:
            yield from self._travel(worker, number, partners)
            if first:
                yield from sim.deliver(worker, snapshot, work)
            return
        events = self._travel(worker, number, partners, behind=worker.step)
        if first:
            worker.work, worker.left = None, work
            sim.progress[worker.stage].sent(worker.member)
            events = self._then_push(worker, worker.step, snapshot, work, events)
        worker.sending = sim.env.process(self._behind(worker, events))

    def give_up(self, worker: Worker) -> None:
        """A round has been interrupted: the exchange that belongs to its push, if it has made one, will not be."""
        if worker.sending is None:
            self._over(worker, self._pushes(worker))

    def _pushes(self, worker: Worker) -> int:
        return self._sim.progress[worker.stage].received(worker.member)

    def _behind(self, worker: Worker, events: Events) -> Events:
        with suppress(simpy.Interrupt):
            yield from events
        worker.sending = None

    def _then_push(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None, events: Events) -> Events:
        """An exchange in the background, and the push after it."""
        try:
            yield from events
        except simpy.Interrupt:
            self._sim.lose(worker, step)
            if work is not None:
                work.cancel()
            return
        self._sim.arrivals.deliver(worker, step, snapshot, work)

    def _travel(self, worker: Worker, number: int, partners: tuple[int, ...], behind: int | None = None) -> Events:
        """The messages of one exchange, which have set out, go to each partner in turn: in sight, or in the background of a later
        step than ``behind``, to which they belong."""
        sim = self._sim
        step, most = worker.step if behind is None else behind, self._rule.most_partners
        try:
            for place, index in enumerate(partners):
                partner, draw = sim.workers[index], step * most + place
                if self._rule.answered and not partner.up:
                    continue
                yield from self._carry(worker, partner, PEER, draw, behind is None)
                if self._rule.answered:
                    yield from self._carry(worker, partner, ANSWER, draw, behind is None)
                if sim.over:
                    return
                if partner.up or not self._rule.answered:
                    sim.server.peers.meet(worker.index, index, number)
        except simpy.Interrupt:
            sim.server.peers.take_back(worker.index)
            self._over(worker, max(number + 1, self._pushes(worker)))
            raise
        self._over(worker, number + 1)

    def _carry(self, worker: Worker, partner: Worker, purpose: str, draw: int, shown: bool) -> Events:
        """A message to the partner, or its answer: counted for who sends it."""
        sim = self._sim
        nbytes = sim.costs.exchange_bytes or 0.0
        passage = sim.transport.carry(worker, draw, purpose, nbytes, partner)
        if passage is not None:
            if shown:
                sim.spans.begin(worker, UPLOAD if purpose == PEER else DOWNLOAD)
            yield from sim.passing(passage)
            if shown:
                sim.spans.end(worker)
        sim.observers.sent(worker if purpose == PEER else partner, purpose, nbytes)

    def _over(self, worker: Worker, exchanges: int) -> None:
        self._sim.progress[worker.stage].over(worker.member, exchanges)
        self._sim.admission.ask_again()
