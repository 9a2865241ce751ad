"""Which properties of a method exclude each other, or a setting of the scenario, and why: the one table of it."""

from __future__ import annotations

from typing import NamedTuple

from asyncsim.needs import Need


class Exclusion(NamedTuple):
    """A setting that a method does not fit: it lacks a property of ``wants``, or has one of ``excludes``.

    ``{method}`` in ``reason`` stands for the method's name.
    """

    wants: Need
    excludes: Need
    reason: str

    def missed(self, needs: Need) -> Need:
        """The properties of a method with ``needs`` that are in the way, or missing."""
        return (self.wants & ~needs) | (self.excludes & needs)

    def sentence(self, method: str, needs: Need) -> str:
        """Why the method does not fit, by the name of the property."""
        names = ", ".join(f"`{name}`" for name in self.missed(needs).names)
        verb = "lacks" if self.wants & ~needs else "has"
        return f"{self.reason.format(method=method)} (the method {verb} the property {names}; see `asyncsim list --needs`)"


OVERLAP = Exclusion(
    Need.NOTHING, Need.WAITS | Need.RECALLS,
    "a push may overlap with the next computation only where nobody waits and nothing is recalled (asp)",
)  # fmt: skip
LAG = Exclusion(
    Need.OVERLAPS, Need.NOTHING,
    "in rounds with a lag a push travels while the next is computed: give the program `overlap: true`",
)  # fmt: skip
LAUNCHED = Exclusion(
    Need.OVERLAPS, Need.NOTHING,
    "`{method}` looks at pushes as they are launched, while their workers go on: give the program `overlap: true`",
)  # fmt: skip
STAGES = Exclusion(Need.NOTHING, Need.WHOLE_MODELS, "stages go with the consistency rules asp and lockstep")
VIEWS = Exclusion(
    Need.NOTHING, Need.WORKER_VIEW,
    "older versions are kept once for all workers, so none can be handed a view of its own of one (`versions: latest` can)",
)  # fmt: skip
OLDER = Exclusion(
    Need.NOTHING, Need.RECALLS | Need.ROUNDS,
    "work goes on for long on the version that its worker has, so in `{method}` there are no rounds of one version, and "
    "nothing is called back for its age",
)  # fmt: skip
UPLINK = Exclusion(
    Need.NOTHING, Need.DROPS | Need.BUFFERS,
    "only the server drops or buffers a push, so `{method}` cannot be part of an `uplink`",
)  # fmt: skip
SIZED_RECALLS = Exclusion(
    Need.NOTHING, Need.RECALLS,
    "what `{method}` leaves out of a push it remembers as the push is sent, so none may be called back on its way",
)  # fmt: skip
SIZED_VIEWS = Exclusion(
    Need.NOTHING, Need.SIZES,
    "the size of what is handed out is told by counts (`nbytes`), so `{method}` cannot be part of a `downlink`",
)  # fmt: skip
PIPELINE = Exclusion(Need.NOTHING, Need.RECALLS, "the passes of a pipeline cannot be recalled; leave `recall_after` out")
ALL_REDUCE = Exclusion(
    Need.ROUNDS | Need.EVERYONE, Need.PASSES | Need.RECALLS | Need.SUB_MODELS,
    "needs rounds in which every worker takes part (bsp, local_sgd), not `{method}`",
)  # fmt: skip
JOINING = Exclusion(
    Need.NOTHING, Need.PASSES | Need.OWN_PARAMETERS,
    "nobody joins `{method}`, whose groups go through numbered batches in step; take `down`, `stop`",
)  # fmt: skip
SERVER_CRASH = Exclusion(
    Need.NOTHING, Need.PASSES | Need.OWN_PARAMETERS,
    "in `{method}` the workers hold the parameters themselves, not a server; take `cluster.faults`",
)  # fmt: skip
WHOLE = Exclusion(
    Need.NOTHING, Need.WHOLE_MODELS, "stages exchange by the setting `gossip` of a method of pipelines, not by an `exchange`",
)  # fmt: skip
PEERS = Exclusion(
    Need.NOTHING, Need.EVERYONE | Need.ROUNDS | Need.CLOSES | Need.LAUNCHES | Need.CUTS | Need.PASSES | Need.OLD_VERSIONS
    | Need.HISTORY,
    "workers that exchange with each other apply their pushes where they are, one by one, so rounds and updates of all, stages "
    "and older versions are nothing for `{method}`",
)  # fmt: skip
IN_ROUNDS = Exclusion(
    Need.ROUNDS, Need.NOTHING,
    "an exchange in rounds takes a rule by which everybody pushes once in a round: give `{method}` `consistency: bsp`",
)  # fmt: skip
APART = Exclusion(
    Need.NOTHING, Need.EVERYONE | Need.LAUNCHES | Need.PASSES,
    "with an exchange every worker has a policy of its own, which gets the pushes of that worker alone; leave the mean of all "
    "to the exchange (`method: {{kind: custom, ...}}`)",
)  # fmt: skip
AT_HOME = Exclusion(
    Need.NOTHING, Need.PEERS,
    "pushes and parameters do not travel in `{method}`, where workers exchange with each other",
)  # fmt: skip
HEARING = Exclusion(
    Need.PEERS, Need.NOTHING,
    "the consistency rule waits for messages that workers send each other, and `{method}` has no such exchange",
)  # fmt: skip
SHARED_OUT = Exclusion(
    Need.LOCAL_RATE | Need.ROUNDS | Need.EVERYONE,
    Need.OVERLAPS | Need.RECALLS | Need.WORKER_STATE | Need.OLD_VERSIONS | Need.PASSES | Need.SIZES,
    "workers train sub-models in plain rounds of everybody, by steps of their own (a program like local_sgd), from which they "
    "take nothing along to the next: not so in `{method}`",
)  # fmt: skip
STREAM = Exclusion(
    Need.NOTHING, Need.PEERS | Need.OWN_PARAMETERS | Need.LAUNCHES | Need.HIERARCHY,
    "the items of a stream are learnt by parameters that all workers share, as they are pushed, not so in `{method}`",
)  # fmt: skip
POWER = Exclusion(
    Need.NOTHING, Need.POWER,
    "`{method}` weighs what machines draw, and none has a power: give `cluster.instance`, or leave the weight out",
)  # fmt: skip
FORESIGHT = Exclusion(
    Need.NOTHING, Need.FORESEES,
    "when a push will arrive is known in advance on links of a worker's own, to a server that takes no time, of rounds that are "
    "computed at once and do not overlap; not so for `{method}`",
)  # fmt: skip
HIERARCHICAL = Exclusion(
    Need.NOTHING,
    Need.EVERYONE | Need.ROUNDS | Need.CLOSES | Need.LAUNCHES | Need.CUTS | Need.PASSES | Need.OLD_VERSIONS | Need.OWN_PARAMETERS,
    "the servers of the regions get pushes of their own workers one by one, so `{method}` takes no rounds or updates of all, no "
    "exchange, stages or older versions",
)  # fmt: skip
REGIONAL = Exclusion(
    Need.NOTHING, Need.HIERARCHY,
    "`{method}` has several servers, and `links` between them; no shared network, service time or crash of one server is meant "
    "for those",
)  # fmt: skip
SERVICE = Exclusion(Need.NOTHING, Need.PEERS, "in `{method}` there is no server whose service could take time")
MEMORY = Exclusion(
    Need.MEMORY, Need.NOTHING,
    "this task remembers something beside its parameters, which `{method}` would neither read nor write: take `mspipe`, or "
    "give it `program: memory_pipeline`",
)  # fmt: skip
