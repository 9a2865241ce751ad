"""Policies: what happens to a push that arrives. Each file has one idea. Nothing here imports torch at run time, or knows of a
clock.

The roles (transform, step rule, schedule) and the parts that several papers share. A part that one paper alone has is in that
paper's file, in `asyncsim.methods`.
"""

from asyncsim.messages import Push, ServerView, Snapshot, Verdict
from asyncsim.policies.accumulate import Accumulate
from asyncsim.policies.accumulate_by_loss import AccumulateByLoss
from asyncsim.policies.chain import Policy, PolicyState
from asyncsim.policies.clip import Clip
from asyncsim.policies.data_weights import DataWeights
from asyncsim.policies.gaussian_noise import GaussianNoise
from asyncsim.policies.momentum import HeavyBall, Moments, Velocity
from asyncsim.policies.muon import Muon
from asyncsim.policies.nadam import NAdam
from asyncsim.policies.prediction import WeightPrediction
from asyncsim.policies.schedule import Schedule
from asyncsim.policies.staleness import DropStale, StalenessAware
from asyncsim.policies.state import State
from asyncsim.policies.step_rule import StepRule
from asyncsim.policies.steps import SGD, Adam, heavy_ball
from asyncsim.policies.sub_models import SubModels
from asyncsim.policies.transform import Shapes, Transform
from asyncsim.policies.uplink import Message, Uplink, by_layer, message_bytes
from asyncsim.policies.zero_start import ZeroStart

__all__ = [
    "SGD",
    "Accumulate",
    "AccumulateByLoss",
    "Adam",
    "Clip",
    "DataWeights",
    "DropStale",
    "GaussianNoise",
    "HeavyBall",
    "Message",
    "Moments",
    "Muon",
    "NAdam",
    "Policy",
    "PolicyState",
    "Push",
    "Schedule",
    "ServerView",
    "Shapes",
    "Snapshot",
    "StalenessAware",
    "State",
    "StepRule",
    "SubModels",
    "Transform",
    "Uplink",
    "Velocity",
    "Verdict",
    "WeightPrediction",
    "ZeroStart",
    "by_layer",
    "heavy_ball",
    "message_bytes",
]
