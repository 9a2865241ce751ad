"""What the fleet is like, as data: delays, speed over time, links, faults. No clock runs here and nothing is trained."""

from asyncsim.cluster.bathtub import Bathtub
from asyncsim.cluster.cluster import Cluster, Group, Override
from asyncsim.cluster.composite import Mixture, Part, Scaled, Tiers
from asyncsim.cluster.delays import ComputeDelay, Delay, LastingDelay, SteadyDelay, steady
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
from asyncsim.cluster.foreground import Foreground, Session, Usage
from asyncsim.cluster.happenings import Event, Script
from asyncsim.cluster.links import Link, ServerSpec
from asyncsim.cluster.load import Load
from asyncsim.cluster.machines import Cvb, EdgeTiers, GammaHeterogeneous, GammaHomogeneous, Preset, SpotDown, SpotUp
from asyncsim.cluster.network import Flat, Loss, Network, Rack
from asyncsim.cluster.outage_sources import Outage, Outages, Rolling
from asyncsim.cluster.outages import Faults, Maintenance, Zones
from asyncsim.cluster.phones import App, Phone
from asyncsim.cluster.prices import Instance
from asyncsim.cluster.profiles import WorkerProfile
from asyncsim.cluster.recorded import Recorded
from asyncsim.cluster.regions import AflWireless, Aws2017Regions, Cluster100MBps, Region
from asyncsim.cluster.speed import Episode, Segment, Speed, segments
from asyncsim.cluster.two_state import TwoState

__all__ = [
    "AflWireless",
    "App",
    "Aws2017Regions",
    "Bathtub",
    "Cluster",
    "Cluster100MBps",
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
    "Flat",
    "Foreground",
    "Gamma",
    "GammaHeterogeneous",
    "GammaHomogeneous",
    "Group",
    "Instance",
    "LastingDelay",
    "Link",
    "Load",
    "Lognormal",
    "Loss",
    "Maintenance",
    "Mixture",
    "Network",
    "Outage",
    "Outages",
    "Override",
    "Pareto",
    "Part",
    "Phone",
    "Preset",
    "Rack",
    "Recorded",
    "Region",
    "Rolling",
    "Scaled",
    "Script",
    "Segment",
    "ServerSpec",
    "Session",
    "ShiftedExponential",
    "Speed",
    "SpotDown",
    "SpotUp",
    "SteadyDelay",
    "Tiers",
    "TwoState",
    "Uniform",
    "Usage",
    "Weibull",
    "WorkerProfile",
    "Zones",
    "segments",
    "steady",
]
