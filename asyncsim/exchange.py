"""Exchange: workers that keep parameters of their own, and what they give each other.

A rule says to whom a worker's messages go, what they carry away, and what each holds afterwards. It knows counts and members
alone, never tensors: all that it decides is weights. So timelines do not depend on numbers, and what each holds is always a
weighted sum of what all held, whose weights add up to 1 for everybody's share: nothing is lost or made on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from asyncsim.cluster.links import Link
from asyncsim.cluster.network import Counts, blocks
from asyncsim.gossip import Complete, Gossip, Ring, gossips
from asyncsim.needs import Need
from asyncsim.policies.step_rule import StepRule
from asyncsim.registry import PAPERS, Registry, Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asyncsim.streams import Streams

    Entries = NDArray[np.int64]
    """Places in the flat vector of parameters."""

exchanges: Registry[Exchange] = Registry("exchange", home=PAPERS)

Weights = dict[int, dict[int, float]]
"""For each worker whose parameters change: the weights with which it takes those of others, and its own."""


class Exchange(Spec):
    """Every worker keeps parameters of its own, its *row*, to which its pushes are applied where it is; then it exchanges.

    A worker's exchanges have the numbers of its pushes, from 0. In one exchange a message goes to each of ``partners`` in turn,
    over the sender's uplink and the receiver's downlink, and where the rule is ``answered`` another comes back.

    - ``shares``: as the messages set out they take these shares of the sender's row with them. What arrives is added to the
      receiver's row when that next reads, but not before it has made as many pushes as the sender had.
    - ``mixes``: as a message has arrived (and been answered) these rows become weighted sums of what all hold at that instant.

    ``combines_first``: a worker exchanges first, and its push is applied when that is done; otherwise its push is applied first.
    ``in_rounds``: the graph of a rule by which all mix at once when all have pushed, and nobody has partners of its own.
    """

    needs: ClassVar[Need] = Need.OWN_PARAMETERS | Need.PEERS | Need.WHOLE_MODELS
    answered: ClassVar[bool] = False

    @property
    def combines_first(self) -> bool:
        return False

    @property
    def in_rounds(self) -> Gossip | None:
        return None

    @property
    def most_partners(self) -> int:
        """The largest number of partners in one exchange."""
        return 1

    def fits(self, num_workers: int) -> None:
        """Raise ``ValueError`` if the rule is not defined for so many workers."""
        if self.in_rounds is not None:
            self.in_rounds.matrix(num_workers)

    def partners(self, worker: int, number: int, members: Sequence[int], streams: Streams) -> tuple[int, ...]:
        """To whom the messages of ``worker`` go in its exchange ``number``, among the ``members`` (sorted; those that have not
        left). Chance comes from ``streams("purpose", worker, number)`` alone. Nobody, or up to ``most_partners`` of them."""
        return ()

    def shares(self, partners: tuple[int, ...]) -> dict[int, float]:
        """What the message to each partner takes away of the sender's row: more than 0 each, and less than 1 together."""
        return {}

    def mixes(self, worker: int, partner: int) -> Weights:
        """What changes when the message of ``worker`` has arrived at ``partner``. The weights that all together give to one row
        add up to 1."""
        return {}

    def entries(self, number: int, numbers: int, streams: Streams) -> Entries | None:
        """Which of the ``numbers`` parameters are mixed in round ``number`` (from 0) of a rule in rounds, each once; None: all.
        The others stay what they are. Chance comes from ``streams("purpose", number)`` alone."""
        return None

    def nbytes(self, nbytes: float, numbers: int) -> float:
        """Bytes of a message, of which the ``numbers`` parameters alone are ``nbytes``."""
        return nbytes


class OnGraph(Spec):
    """The field of exchanges, and of methods, whose partners are a worker's neighbours on a ``graph``. Its ``form`` is for rounds
    in which all mix at once; ``instead`` says what it is here."""

    instead: ClassVar[str]
    graph: Annotated[Gossip, gossips]

    @field_validator("graph")
    @classmethod
    def _without_form(cls, graph: Gossip) -> Gossip:
        if graph.form != type(graph).model_fields["form"].default:
            raise ValueError(f"`form` {cls.instead}")
        return graph


@exchanges.register("gossip")
class Rounds(Exchange):
    """Rounds: when every worker that is left has pushed, all mix at once with the doubly stochastic matrix of a ``graph``, which
    also says whether they step or mix first (``form``). What a worker sends is a push like any other.

    Who may go on while others are not there yet is for the consistency rule to say: `bsp`, also with a lag.
    """

    needs: ClassVar[Need] = Need.OWN_PARAMETERS | Need.WHOLE_MODELS
    graph: Annotated[Gossip, gossips] = Ring()

    @property
    def in_rounds(self) -> Gossip:
        return self.graph


class StageRounds(Rounds):
    """The same for the groups of a pipeline: for each stage the groups' workers mix its parameters. It has no name of its own:
    methods of pipelines make it of their ``gossip``, and bring the rule that keeps the groups in step."""

    needs: ClassVar[Need] = Need.OWN_PARAMETERS


@exchanges.register("all_reduce")
class AllReduced(Exchange):
    """Rounds that end with the mean of all workers' parameters, each after its own step: what an all-reduce of them gives.

    With the consistency rule ``{kind: bsp, lag: 1}`` and a program with ``overlap`` it is a lagged all-reduce: it travels while
    the next gradient is computed.
    """

    needs: ClassVar[Need] = Need.OWN_PARAMETERS | Need.WHOLE_MODELS | Need.EVERYONE

    @property
    def in_rounds(self) -> Gossip:
        return Complete()


class RegionalServers(Spec):
    """Two levels of servers: every worker reads from and pushes to the server of its region, and after ``every`` updates of its
    own a regional server sends what it has moved by since its *anchor* to the global server, and goes on without waiting. That
    takes a step, by ``step``, and answers with its parameters; what the regional one holds then becomes a weighted mean of
    both, with the weight ``share`` of the global ones, and that is the next anchor. One message of a region is under way at a
    time.

    ``regions``: how many of (nearly) equal size, or the number of workers in each; indices are consecutive. ``links``: between
    regional server and global one, out and back; one for each region, one for all, or none, where it takes no time.
    """

    kind: ClassVar[str] = "regional_servers"
    needs: ClassVar[Need] = Need.HIERARCHY
    regions: Counts = 2
    every: int = Field(default=32, ge=1)
    share: float = Field(default=0.25, ge=0, le=1)
    links: tuple[Link, ...] = ()
    step: StepRule

    def places(self, num_workers: int) -> list[int]:
        """The region of each worker. Raises ``ValueError`` if the regions are not for so many."""
        counts = self.regions
        if (counts if isinstance(counts, int) else sum(counts)) > num_workers or (
            not isinstance(counts, int) and sum(counts) != num_workers
        ):
            raise ValueError(f"`regions` {counts if isinstance(counts, int) else list(counts)} do not fit {num_workers} workers")
        places = blocks(counts, num_workers)
        if len(self.links) not in (0, 1, places[-1] + 1):
            each = f"each of the {places[-1] + 1} regions"
            raise ValueError(f"`links` has one entry for {each}, or one for all, not {len(self.links)}")
        return places

    def link(self, region: int) -> Link:
        """Between this region's server and the global one."""
        return self.links[region if len(self.links) > 1 else 0] if self.links else Link()
