"""Data parallelism x fully decoupled backpropagation: S groups of K stages, each an FDG pipeline on batches of its own::

    g_{s,k}: gradient of group s at stage k, in the schedule and with the staleness of ``fdg``;   P doubly stochastic
    adapt then combine:   u_{s,k} <- sum_r P[s,r] (u_{r,k} - lr g_{r,k})
    combine then adapt:   u_{s,k} <- sum_r P[s,r] u_{r,k}  -  lr g_{s,k}

V. H. Pham, H.-S. Ahn 2025 (arXiv 2509.05679). Only the abstract was at hand. It says: data parallelism combined with fully
decoupled parallel backpropagation, convergence to critical points under conditions, a classification experiment on CIFAR-10.
Everything else here, the schedule, the mixing, the graph and the form, is our reconstruction and not theirs; it may differ from
the paper in anything.

Order: the groups' workers for one stage mix the parameters of that stage after each of their steps, so groups wait for each other
there. Nobody ever sends a whole model.
"""

from __future__ import annotations

from typing import Annotated

from asyncsim.gossip import Gossip, Ring, gossips
from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import TicksMethod


@methods.register("decoupled_data_parallel")
class DecoupledDataParallel(TicksMethod):
    """Data parallelism x fully decoupled parallel backpropagation, Pham and Ahn 2025 (arXiv 2509.05679).

    Our reconstruction from the abstract: every group runs an FDG pipeline on batches of its own, and after each step the groups'
    workers for one stage mix their parameters (a ring by default).
    """

    gossip: Annotated[Gossip, gossips] | None = Ring()
