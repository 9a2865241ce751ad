"""The messages between the stages of a pipeline, and what the stages hold, found from the events."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from asyncsim.records.rows import EVENT_KINDS

Arrays = Mapping[str, np.ndarray]
FORWARD, BACKWARD, BOTH, INFERENCE = (EVENT_KINDS.index(kind) for kind in ("forward", "backward", "compute", "inference"))


def messages(events: Arrays, stages: int) -> dict[str, np.ndarray]:
    """A row for every activation and error signal that was taken: ``up``, ``batch``, the workers ``source`` and ``target``, and a
    moment in the pass that made it (1 ns before its end: an arrow begins within a slice) and the start of the one that took it.
    """
    whole = {name: column[events["complete"]] for name, column in events.items()}
    parts = []
    for up, kinds in ((True, (FORWARD, BOTH, INFERENCE)), (False, (BACKWARD, BOTH))):
        chosen = np.isin(whole["kind"], kinds)
        worker, step, start, end = (whole[name][chosen].astype(np.int64) for name in ("worker", "step", "start_ns", "end_ns"))
        target = worker + (1 if up else -1)
        inside = worker // stages == target // stages
        keys = worker << 40 | step
        order = np.argsort(keys, kind="stable")
        wanted = target << 40 | step
        place = np.minimum(np.searchsorted(keys[order], wanted), max(len(keys) - 1, 0))
        taker = order[place] if len(keys) else place
        there = inside & (keys[taker] == wanted)
        parts.append({
            "up": np.full(there.sum(), up), "batch": step[there], "source": worker[there], "target": target[there],
            "start_ns": np.maximum(start, end - 1)[there], "end_ns": start[taker][there],
        })  # fmt: skip
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def stashes(events: Arrays) -> dict[str, np.ndarray]:
    """How many batches, over all workers, wait between their two passes: ``stash`` from each ``time_ns`` on."""
    forward, backward = (events["end_ns"][events["complete"] & (events["kind"] == kind)] for kind in (FORWARD, BACKWARD))
    times, place = np.unique(np.concatenate([[0], forward, backward]).astype(np.int64), return_inverse=True)
    steps = np.zeros(len(times), np.int64)
    np.add.at(steps, place, np.concatenate([[0], np.ones(len(forward), np.int64), -np.ones(len(backward), np.int64)]))
    return {"time_ns": times, "stash": np.cumsum(steps)}
