"""The temporal graph network and its memory as plain loops: an interaction at a time, dictionaries, equations. Nothing of the
project's network, batches or programs is used, but for the numbers at the start and the drawn pairs that did not interact."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asyncsim.streams import Streams


class Node(NamedTuple):
    """What is remembered of a node: memory, the time up to which it knows, mail, and the time of that (-1: none)."""

    s: Tensor
    since: float
    mail: Tensor
    sent: float


class Loop:
    """``run`` learns from a scenario's batches with momentum SGD, rate 0.1 and momentum 0.9, in float64."""

    def __init__(self, scenario: Any) -> None:
        self.spec, self.seed, self.method = scenario.task, scenario.seed, scenario.method
        self.data, self.width = self.spec.data(), self.spec.width
        task = self.spec.build(scenario.seed, "cpu", "float64", 1)
        self.theta, self.shapes = task.init(), [tuple(each.shape) for each in task.parameters]
        self.others = sorted(set(self.data.j.tolist()))
        self.train = self.spec.bounds(self.data.size)["train"][1]
        self.partners: dict[int, set[int]] = {node: set() for node in range(self.data.nodes)}
        for i, j in zip(self.data.i[: self.train].tolist(), self.data.j[: self.train].tolist(), strict=True):
            self.partners[i].add(j)
            self.partners[j].add(i)

    def run(self, arrivals: list[tuple[int, int]], forgets: bool = True) -> np.ndarray:
        """The parameters after batches (step, missing writes). A step that is left out was lost with all memory."""
        theta, velocity, before = self.theta.clone(), torch.zeros_like(self.theta), -1
        versions: list[dict[int, Node]] = [{}]
        for step, missing in arrivals:
            if step % (self.train // self.spec.batch) == 0 or (forgets and step != before + 1):
                versions = [{}]
            read = versions[max(0, len(versions) - 1 - missing)]
            leaf = theta.clone().requires_grad_()
            loss, fresh = self.batch(leaf, read, step)
            (gradient,) = torch.autograd.grad(loss, leaf)
            versions.append({**versions[-1], **fresh})
            velocity = 0.9 * velocity + gradient
            theta, before = theta - 0.1 * velocity, step
        return theta.numpy()

    def batch(self, theta: Tensor, read: dict[int, Node], step: int) -> tuple[Tensor, dict[int, Node]]:
        """The mean loss of a batch, and what it writes."""
        self.unpack(theta)
        self.known: dict[int, Tensor] = {}
        size = self.spec.batch
        first = step % (self.train // size) * size
        drawn = Streams(self.seed)("negative", 0, step).integers(len(self.others), size=size)
        events = range(first, first + size)
        read = self.mixed(read, events) if self.method.blend else read
        total, fresh = theta.new_zeros(()), {}
        for event, draw in zip(events, drawn, strict=True):
            i, j, other = int(self.data.i[event]), int(self.data.j[event]), self.others[draw]
            h_i, h_j, h_o = (self.embedding(read, node, event) for node in (i, j, other))
            total = total + torch.log1p(torch.exp(-self.score(h_i, h_j))) + torch.log1p(torch.exp(self.score(h_i, h_o)))
            for node, partner in ((i, j), (j, i)):
                old = self.node(read, node)
                mine, its = (self.recalled(read, each).detach() for each in (node, partner))
                mail = torch.cat([mine, its, self.feature(event)])
                fresh[node] = Node(mine, old.sent if old.sent >= 0 else old.since, mail, float(self.data.time[event]))
        return total / (2 * size), fresh

    def mixed(self, read: dict[int, Node], events: range) -> dict[int, Node]:
        """The mitigation: those of the batch that have waited longest get a share of what similar nodes remember."""
        nodes = sorted({int(each[event]) for event in events for each in (self.data.i, self.data.j)})
        waited = [float(self.data.time[events[-1]]) - self.node(read, node).since for node in nodes]
        limit, result = np.quantile(waited, self.method.quantile), dict(read)
        for node, wait in zip(nodes, waited, strict=True):
            own = self.node(read, node)
            newer = [each for each in self.similar(node) if self.node(read, each).since > own.since]
            if wait > limit and newer:
                mean = sum((self.node(read, each).s for each in newer), start=torch.zeros(self.width)) / len(newer)
                result[node] = own._replace(s=(1 - self.method.blend) * own.s + self.method.blend * mean)
        return result

    def similar(self, node: int) -> list[int]:
        mine = self.partners[node]
        shares = {
            each: len(mine & its) / len(mine | its) for each, its in self.partners.items() if each != node and mine & its
        }  # fmt: skip
        return sorted(shares, key=lambda each: (-shares[each], each))[: self.method.similar]

    # The network.

    def unpack(self, theta: Tensor) -> None:
        pieces = theta.split([int(np.prod(shape)) for shape in self.shapes])
        self.p = [piece.reshape(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def phi(self, time: float) -> Tensor:
        return torch.cos(self.p[0] * time + self.p[1])

    def node(self, read: dict[int, Node], node: int) -> Node:
        mail = torch.zeros(2 * self.width + self.data.features.shape[1], dtype=torch.float64)
        return read.get(node, Node(torch.zeros(self.width, dtype=torch.float64), 0.0, mail, -1.0))

    def feature(self, event: int) -> Tensor:
        return torch.from_numpy(self.data.features[event])

    def recalled(self, read: dict[int, Node], number: int) -> Tensor:
        """What a node remembers once its mail is read; kept for the rest of the batch."""
        if number not in self.known:
            self.known[number] = self.gated(self.node(read, number))
        return self.known[number]

    def gated(self, node: Node) -> Tensor:
        """GRU: r, z, n of the gates, in PyTorch's order."""
        if node.sent < 0:
            return node.s
        x = torch.cat([node.mail, self.phi(node.sent - node.since)])
        (r_x, z_x, n_x), (r_s, z_s, n_s) = ((w @ v + b).chunk(3) for w, v, b in
                                            ((self.p[2], x, self.p[4]), (self.p[3], node.s, self.p[5])))  # fmt: skip
        r, z = (1 / (1 + torch.exp(-(one + two))) for one, two in ((r_x, r_s), (z_x, z_s)))
        return (1 - z) * torch.tanh(n_x + r * n_s) + z * node.s

    def embedding(self, read: dict[int, Node], node: int, event: int) -> Tensor:
        own, count = self.recalled(read, node), self.spec.neighbours
        if not count:
            return torch.tanh(self.p[6] @ own + self.p[7])
        met = [before for before in range(event) if node in (self.data.i[before], self.data.j[before])
               and self.data.time[before] < self.data.time[event]][-count:]  # fmt: skip
        seen = own.new_zeros(self.width)
        if met:
            query = self.p[6] @ torch.cat([own, self.phi(0.0)]) + self.p[7]
            keys, values = [], []
            for before in met:
                partner = int(self.data.j[before] if self.data.i[before] == node else self.data.i[before])
                age = float(self.data.time[event] - self.data.time[before])
                there = torch.cat([self.recalled(read, partner), self.feature(before), self.phi(age)])
                key, value = (self.p[8] @ there + self.p[9]).chunk(2)
                keys.append(query @ key / self.width**0.5)
                values.append(value)
            weights = torch.exp(torch.stack(keys))
            seen = (weights / weights.sum()) @ torch.stack(values)
        return torch.tanh(self.p[10] @ torch.cat([own, seen]) + self.p[11])

    def score(self, one: Tensor, other: Tensor) -> Tensor:
        w1, b1, w2, b2 = self.p[-4:]
        return (w2 @ torch.relu(w1 @ torch.cat([one, other, one * other]) + b1) + b2).squeeze()
