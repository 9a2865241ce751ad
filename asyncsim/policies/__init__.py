"""Policies: what happens to a push that arrives. Each file has one idea. Nothing here imports torch at run time, or knows of a
clock."""

from asyncsim.policies.accumulate import Accumulate
from asyncsim.policies.chain import Policy
from asyncsim.policies.clip import Clip
from asyncsim.policies.data_weights import DataWeights
from asyncsim.policies.delay_compensation import DelayCompensation
from asyncsim.policies.discrepancy import DiscrepancyCorrection
from asyncsim.policies.gap_aware import GapAware
from asyncsim.policies.look_ahead import LookAheadMomentum
from asyncsim.policies.mixing import Mixing
from asyncsim.policies.nadam import NAdam
from asyncsim.policies.prediction import WeightPrediction
from asyncsim.policies.push import Push, ServerView, Snapshot, Verdict
from asyncsim.policies.rescheduling import Rescheduling
from asyncsim.policies.schedule import Schedule, schedules
from asyncsim.policies.spike import SpikeCompensation
from asyncsim.policies.staleness import DropStale, StalenessAware
from asyncsim.policies.steps import SGD, Adam, StepRule, optimizers
from asyncsim.policies.transform import State, Transform, policies
from asyncsim.policies.uplink import Uplink, message_bytes
from asyncsim.policies.worker_momentum import WorkerMomentum

__all__ = [
    "SGD",
    "Accumulate",
    "Adam",
    "Clip",
    "DataWeights",
    "DelayCompensation",
    "DiscrepancyCorrection",
    "DropStale",
    "GapAware",
    "LookAheadMomentum",
    "Mixing",
    "NAdam",
    "Policy",
    "Push",
    "Rescheduling",
    "Schedule",
    "ServerView",
    "Snapshot",
    "SpikeCompensation",
    "StalenessAware",
    "State",
    "StepRule",
    "Transform",
    "Uplink",
    "Verdict",
    "WeightPrediction",
    "WorkerMomentum",
    "message_bytes",
    "optimizers",
    "policies",
    "schedules",
]
