"""What the fleet is like, as data: delays, speed over time, links, faults. No clock runs here and nothing is trained."""

from asyncsim.cluster.cluster import Cluster, Event, Group, Override
from asyncsim.cluster.composite import Mixture, Part, Scaled, Tiers
from asyncsim.cluster.delays import ComputeDelay, Delay, LastingDelay, SteadyDelay, delays, steady
from asyncsim.cluster.distributions import (
    Constant,
    Exponential,
    Gamma,
    Lognormal,
    Pareto,
    ShiftedExponential,
    Uniform,
    Weibull,
)
from asyncsim.cluster.empirical import Empirical
from asyncsim.cluster.links import Faults, Link, Server
from asyncsim.cluster.machines import Cvb, EdgeTiers, GammaHeterogeneous, GammaHomogeneous, Preset, SpotDown, SpotUp
from asyncsim.cluster.profiles import WorkerProfile
from asyncsim.cluster.recorded import Recorded
from asyncsim.cluster.speed import Episode, Segment, Speed, segments
from asyncsim.cluster.two_state import TwoState

__all__ = [
    "Cluster",
    "ComputeDelay",
    "Constant",
    "Cvb",
    "Delay",
    "EdgeTiers",
    "Empirical",
    "Episode",
    "Event",
    "Exponential",
    "Faults",
    "Gamma",
    "GammaHeterogeneous",
    "GammaHomogeneous",
    "Group",
    "LastingDelay",
    "Link",
    "Lognormal",
    "Mixture",
    "Override",
    "Pareto",
    "Part",
    "Preset",
    "Recorded",
    "Scaled",
    "Segment",
    "Server",
    "ShiftedExponential",
    "Speed",
    "SpotDown",
    "SpotUp",
    "SteadyDelay",
    "Tiers",
    "TwoState",
    "Uniform",
    "Weibull",
    "WorkerProfile",
    "delays",
    "segments",
    "steady",
]
