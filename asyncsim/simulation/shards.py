"""The shards of a server: of which kinds there are, and the one that is all there is of a model in one piece."""

from __future__ import annotations

from collections.abc import Sequence

from asyncsim.simulation.hierarchy import Hierarchy
from asyncsim.simulation.peers import Peers
from asyncsim.simulation.rows import Mixed
from asyncsim.simulation.shard import Shard

AnyShard = Shard | Mixed | Peers | Hierarchy


class Shards:
    """One shard, or one for each stage of a model."""

    def __init__(self, shards: Sequence[AnyShard]) -> None:
        self.shards = shards

    @property
    def whole(self) -> Shard:
        """The one shard of whole models that lie at a server."""
        shard = self.shards[0]
        assert isinstance(shard, Shard)
        return shard

    @property
    def peers(self) -> Peers:
        """The one shard of workers that exchange with each other, and what they send each other."""
        shard = self.shards[0]
        assert isinstance(shard, Peers)
        return shard

    @property
    def hierarchy(self) -> Hierarchy:
        """The one shard of regional servers and a global one."""
        shard = self.shards[0]
        assert isinstance(shard, Hierarchy)
        return shard
