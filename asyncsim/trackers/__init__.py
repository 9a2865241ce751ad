"""Experiment trackers: TensorBoard, MLflow, Weights & Biases, or your own, told about a run while it goes on."""

from asyncsim.trackers.follow import Followers, following
from asyncsim.trackers.tracker import KINDS, Tracker, make_tracker

__all__ = ["KINDS", "Followers", "Tracker", "following", "make_tracker"]
