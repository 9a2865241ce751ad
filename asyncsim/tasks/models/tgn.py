"""A temporal graph network: what every node remembers, and the score of a link."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Links(NamedTuple):
    """``B`` interactions, and as many pairs that did not interact. All that the network is asked about them.

    ``nodes``, shape ``(U,)``, are the nodes that matter, each once, in rising order; ``rows``, shape ``(U, W)``, is what is
    remembered of them. The other numbers of nodes are places in ``nodes``: ``ends``, shape ``(3, B)``, holds i, j and the node
    that stands in for j in a pair that did not interact, ``neighbours``, shape ``(3, B, R)``, their last partners before.
    ``time`` has shape ``(B,)``, ``features`` ``(B, F)``; ``ages`` says how long ago an end met a neighbour, ``known`` whether
    there is such a neighbour, both ``(3, B, R)``, and ``links``, shape ``(3, B, R, F)``, are the features of that meeting."""

    nodes: Tensor
    rows: Tensor
    ends: Tensor
    time: Tensor
    features: Tensor
    neighbours: Tensor
    ages: Tensor
    known: Tensor
    links: Tensor

    def clone(self) -> Links:
        """The same in tensors of its own."""
        return Links(*(each.clone() for each in self))


class Tgn(nn.Module):
    """Memory with a mailbox, one layer of attention, a link predictor (after Rossi et al. 2020, arXiv 2006.10637).

    A node's row, shape ``(W,)``, holds its memory ``s`` (``width`` numbers), the time up to which that knows, its mail (its own
    memory, its partner's, and the features of their last interaction), and the time of that; the last is -1 if there is none.

        s_v  <- GRU([mail_v, phi(time of the mail - time of the memory)], s_v)       as the node is read, if it has mail
        h_v   = tanh(W [s_v, attention of (s_v, phi(0)) to its neighbours' (s_w, features, phi(age))])
        score = MLP([h_i, h_j, h_i * h_j])
        phi(x) = cos(omega x + b)                                                     of ``width`` frequencies, learnt
    """

    def __init__(self, width: int, features: int, neighbours: int) -> None:
        super().__init__()
        self.width, self.features = width, features
        self.frequencies = nn.Parameter(10.0 ** -torch.linspace(0, 4, width))
        self.phases = nn.Parameter(torch.zeros(width))
        self.memory = nn.GRUCell(3 * width + features, width)
        self.query = nn.Linear(2 * width, width) if neighbours else None
        self.values = nn.Linear(2 * width + features, 2 * width) if neighbours else None
        self.embedding = nn.Linear(2 * width if neighbours else width, width)
        self.predictor = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1))

    @property
    def row(self) -> int:
        """The numbers in the row of a node, W."""
        return 3 * self.width + self.features + 2

    def unwritten(self, nodes: int) -> Tensor:
        """The rows of nodes that nothing is known of, shape ``(nodes, W)``."""
        rows = self.phases.detach().new_zeros(nodes, self.row)
        rows[:, -1] = -1
        return rows

    def recalled(self, rows: Tensor) -> Tensor:
        """The memory of nodes with these rows, shape ``(U, width)``, once their mail is read."""
        memory, since, mail, sent = self._parts(rows)
        read = self.memory(torch.cat([mail, self._phi(sent - since)], 1), memory)
        return torch.where(sent.unsqueeze(1) >= 0, read, memory)

    def forward(self, batch: Links) -> Tensor:
        """The scores, shape ``(2 B,)``: of the interactions first, then of the pairs that did not interact."""
        return self.scores(batch, self.recalled(batch.rows))

    def scores(self, batch: Links, memory: Tensor) -> Tensor:
        """The same from the memory that was ``recalled``."""
        i, j, other = self._embedded(batch, memory)
        pairs = torch.cat([torch.cat([i, end, i * end], 1) for end in (j, other)])
        return self.predictor(pairs).squeeze(1)

    def written(self, batch: Links, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What a batch writes: the nodes that interacted, shape ``(V,)``, and their new rows, ``(V, W)``. Of several interactions
        of one node in a batch the last one counts."""
        size = batch.ends.shape[1]
        ends = batch.ends[:2].t().reshape(-1)  # i, j, i, j, ... in order of time
        place = torch.arange(2 * size, device=ends.device)
        last = torch.full((len(batch.nodes),), -1, device=ends.device).scatter_reduce(0, ends, place, "amax")
        touched = (last >= 0).nonzero().squeeze(1)
        last = last[touched]
        event, partner = last // 2, ends[last ^ 1]
        _, since, _, sent = self._parts(batch.rows[touched])
        known = torch.where(sent >= 0, sent, since).unsqueeze(1)
        mail = torch.cat([memory[touched], memory[partner], batch.features[event]], 1)
        return batch.nodes[touched], torch.cat([memory[touched], known, mail, batch.time[event].unsqueeze(1)], 1)

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Memory, the time up to which it knows, mail, and the time of that."""
        return rows[:, : self.width], rows[:, self.width], rows[:, self.width + 1 : -1], rows[:, -1]

    def _phi(self, time: Tensor) -> Tensor:
        return torch.cos(time.unsqueeze(-1) * self.frequencies + self.phases)

    def _embedded(self, batch: Links, memory: Tensor) -> Tensor:
        """The embeddings of all ends, shape ``(3, B, width)``."""
        own = memory[batch.ends]
        if self.query is None or self.values is None:
            return torch.tanh(self.embedding(own))
        now = self._phi(own.new_zeros(())).expand_as(own)
        query = self.query(torch.cat([own, now], -1)).unsqueeze(-2)
        seen = torch.cat([memory[batch.neighbours], batch.links, self._phi(batch.ages)], -1)
        keys, values = self.values(seen).chunk(2, -1)
        weights = (query * keys).sum(-1) / math.sqrt(self.width)
        weights = weights.masked_fill(~batch.known, -1e9).softmax(-1) * batch.known
        return torch.tanh(self.embedding(torch.cat([own, (weights.unsqueeze(-1) * values).sum(-2)], -1)))
