"""One worker: its machine, its links, and what it is doing at the moment."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from asyncsim.cluster import Link, WorkerProfile
from asyncsim.simulation.activities import IDLE
from asyncsim.streams import Streams

if TYPE_CHECKING:
    from simpy.events import Event, Process

    from asyncsim.messages import Future
    from asyncsim.simulation.stations import Stations


class Costs(NamedTuple):
    """What the stages of a model cost in time and bytes, with one entry for each stage; a whole model is one stage.

    Stage ``k`` takes ``shares[k]`` of the time of a gradient of the whole model, and the share ``forward`` of that in the
    forward pass. ``message_bytes`` of parameters travel from shard to worker and ``push_bytes`` back; None says that the
    shard lies on the worker's own machine. ``boundary_bytes`` travel in each direction between stages ``k`` and ``k + 1``
    over ``link`` (the sender's uplink if it is None). Where workers exchange with each other, a message between two of them has
    ``exchange_bytes``; one between the servers of two levels ``relay_bytes``.

    A worker that is to train a share of the neurons takes ``part(share)`` of the time, and of the bytes in each direction.
    """

    shares: tuple[float, ...] = (1.0,)
    forward: float = 1 / 3
    message_bytes: tuple[float | None, ...] = (0.0,)
    push_bytes: tuple[float | None, ...] = (0.0,)
    boundary_bytes: tuple[float, ...] = ()
    link: Link | None = None
    exchange_bytes: float | None = None
    part: Callable[[float], float] = float
    relay_bytes: float = 0.0


class Worker:
    """The state of one worker.

    Its durations come from streams of its own, addressed by purpose and step. ``activity`` (an index into ``EVENT_KINDS``,
    or ``IDLE``) and ``since`` say what it does and from when, so that an interrupt can record the part that was done.
    """

    __slots__ = (
        "absent",
        "activity",
        "announced",
        "down_until",
        "due",
        "gone",
        "index",
        "late_times",
        "left",
        "measured",
        "member",
        "pace",
        "part",
        "process",
        "profile",
        "sending",
        "serve_from",
        "served",
        "since",
        "speed",
        "stage",
        "stations",
        "step",
        "times",
        "up",
        "usage",
        "version",
        "work",
    )  # fmt: skip

    def __init__(self, profile: WorkerProfile, streams: Streams, costs: Costs) -> None:
        index, num_stages = profile.worker, len(costs.shares)
        self.index = index
        self.member, self.stage = divmod(index, num_stages)  # the member of its shard, and which shard
        self.profile = profile
        self.times = profile.compute.draws(streams, "compute", index)
        self.late_times = profile.compute.draws(streams, "compute", index) if num_stages > 1 else self.times  # late passes
        self.speed = profile.speed(streams)
        self.usage = profile.usage(streams)
        self.step = 0
        self.activity = IDLE
        self.since = 0
        self.version = -1
        self.part = 1.0  # of a whole model's times and bytes, which this step takes
        self.down_until = 0
        self.due = True  # a new snapshot: a push of it has made an update since its read, or what it had begun is lost
        self.up = True
        self.gone = False
        self.absent = False  # left the group, and will join again
        self.announced = 0  # crashes that it has been warned of; while there are any it begins nothing new
        self.served: Event | None = None  # of its push that the server has not applied yet
        self.serve_from = 0  # when the server turns to that push
        self.sending: Process | None = None  # of a push that travels while the worker computes
        self.work: Future | None = None  # computed on, and not yet delivered
        self.left: Future | None = None  # the result that it delivered last, where the next begins from what that left
        self.stations: Stations | None = None  # of its batches beside training, where it has any; lost as it goes down
        self.process: Process | None = None
        self.pace: tuple[int, int] | None = None  # first batch of this round and their number, where a program sets that
        self.measured = 0, 0  # batches that it has computed in such rounds, and the time (ns) that those took

    def interrupt(self, cause: object) -> None:
        """Interrupt what it does; its process is told the ``cause``."""
        assert self.process is not None, "its life has begun"
        self.process.interrupt(cause)

    def seconds(self, batches: int) -> float | Fraction:
        """The compute time of this step at full speed, the sum of ``batches`` draws, or its part of that; or of as many as its
        ``pace`` says."""
        first, batches = self.pace or (self.step * batches, batches)
        whole = self.times[first] if batches == 1 else self.times.total(first, batches)
        return whole if self.part == 1.0 else whole * self.part

    def set_pace(self, batches: int) -> tuple[int, int]:
        """Begin a round of so many batches, the next after those that it has begun before. Returns the first, and how many."""
        self.pace = sum(self.pace or (0, 0)), batches
        return self.pace

    def finish(self, now: int, seconds: float | Fraction) -> int:
        """When work of so many seconds at full speed is done if it begins now (ns); at least 1 ns later."""
        return max(now + 1, self.speed.finish(now, seconds))
