"""The properties of the parts of a method: what each part needs and does.

Each part declares its own properties once. They are checked in one place, `asyncsim.methods.fitting`, and every other room
relies on them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Need(enum.Flag):
    """Properties of transforms, step rules, consistency rules, programs and exchanges.

    A part declares those that hold for it in ``needs``, joined by ``|``. What is declared is enforced: a transform that drops a
    push without having said so ends the run with an error. What cannot go together is refused before the run
    (`asyncsim.methods.fitting`), by the name of the property.
    """

    NOTHING = 0

    VALUES = enum.auto()
    DROPS = enum.auto()
    BUFFERS = enum.auto()
    MEANS = enum.auto()
    WAITS = enum.auto()
    RECALLS = enum.auto()
    OVERLAPS = enum.auto()
    LOCAL_RATE = enum.auto()
    EVERYONE = enum.auto()
    ROUNDS = enum.auto()
    CUTS = enum.auto()
    PASSES = enum.auto()
    WHOLE_MODELS = enum.auto()
    OWN_PARAMETERS = enum.auto()
    WORKER_VIEW = enum.auto()
    WORKER_STATE = enum.auto()
    OLD_VERSIONS = enum.auto()
    SIZES = enum.auto()
    LAGS = enum.auto()
    CLOSES = enum.auto()
    PEERS = enum.auto()
    HEARS = enum.auto()
    LAUNCHES = enum.auto()
    SUB_MODELS = enum.auto()
    MEMORY = enum.auto()
    HISTORY = enum.auto()
    POWER = enum.auto()
    PACES = enum.auto()
    FORESEES = enum.auto()
    HIERARCHY = enum.auto()

    @property
    def decides_by_values(self) -> bool:
        """Does the timeline depend on numbers? It does where a part that looks at them decides who waits, or what becomes of a
        push."""
        return Need.VALUES in self and bool(self & DECISIONS)

    @property
    def numeric(self) -> bool:
        """Does a part look at numbers and decide nothing but sizes, so that a push without numbers can do without it?"""
        return Need.VALUES in self and not self & DECISIONS & ~Need.SIZES

    @property
    def names(self) -> list[str]:
        """The properties by name, in the order of the list."""
        return [str(need.name).lower() for need in self]


DECISIONS = Need.DROPS | Need.BUFFERS | Need.WAITS | Need.RECALLS | Need.SIZES
"""The properties that have an effect in virtual time."""

MEANING: dict[Need, str] = {
    Need.VALUES: "looks at gradients, parameters or losses; a part that needs them and decides nothing is left out of plans",
    Need.DROPS: "may discard a push (`Verdict.DROPPED`)",
    Need.BUFFERS: "may keep a push until others have come (`Verdict.BUFFERED`)",
    Need.MEANS: "asks for means of pushes only, so none of them is computed ahead of the others",
    Need.WAITS: "may make a worker wait before it reads",
    Need.RECALLS: "may call back work in flight",
    Need.OVERLAPS: "a push travels while its worker computes the next one",
    Need.LOCAL_RATE: "the schedule drives a learning rate of the worker's own, not the server's",
    Need.EVERYONE: "an update takes a push of every worker",
    Need.ROUNDS: "all workers read the same version, and nobody reads the next before it has delivered (with `lags`: sent)",
    Need.CUTS: "can compute a model that is cut into stages",
    Need.PASSES: "computes forward and backward passes of stages, whatever their number, in steps that are numbered alike",
    Need.WHOLE_MODELS: "counts rounds of whole models, not of stages",
    Need.OWN_PARAMETERS: "every group keeps parameters of its own; there is no server that holds them",
    Need.WORKER_VIEW: "hands each worker something of its own, which is made at every read (otherwise once a version)",
    Need.WORKER_STATE: "keeps state at the worker from one round to the next; it is lost when the worker goes down",
    Need.OLD_VERSIONS: "reads versions of the parameters that are not the newest, which a shard has to keep",
    Need.CLOSES: "closes a group of pushes at a time of its own, not only when a push arrives",
    Need.SIZES: "the size of a message depends on what is in it, not on counts alone",
    Need.LAGS: "the push of a round travels while the next round is computed",
    Need.PEERS: "workers send messages to each other; a push stays at its own worker",
    Need.HEARS: "waits for the messages of other workers, so it takes an exchange between them",
    Need.LAUNCHES: "is told of a push when it is launched (sent while its worker goes on), not only when it arrives",
    Need.SUB_MODELS: "gives some workers a share of the model to train; their compute times and messages are smaller by it",
    Need.MEMORY: "carries what a task remembers beside its parameters from round to round, and reads it as late as it says",
    Need.HISTORY: "asks for the versions of the parameters between the one that a push was computed on and the newest",
    Need.POWER: "weighs the power that machines draw, so it takes machines that have one",
    Need.PACES: "sets the number of batches of a round anew in every round, by the speed that has been measured of its worker",
    Need.FORESEES: "knows when the pushes that are under way will arrive, as a simulation can and a server cannot",
    Need.HIERARCHY: "workers share the servers of their regions, which exchange with a global one",
}
"""What each property says about a part."""


def joined(parts: Iterable[Need]) -> Need:
    """The union of the properties of all parts."""
    result = Need.NOTHING
    for part in parts:
        result |= part
    return result
