"""What the name of a metric tells. Names are ``<split>_<metric>``, such as ``test_auc``."""

from __future__ import annotations

RISING = ("accuracy", "auc", "precision")
"""The last words of the names of metrics of which more is better; of all others less is."""


def rising(metric: str) -> bool:
    """Is more of the metric better?"""
    return metric.rpartition("_")[2] in RISING
