"""A run's records as trace events: a lane a worker, one for the server, arrows for what travels, counters.

Workers of a run whose model is cut are called by group and stage, and their passes by the batch.

The format is Google's Trace Event Format (JSON object form). Times are microseconds with three decimals: exact nanoseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asyncsim.errors import UserError
from asyncsim.records import EVENT_KINDS, OUTCOMES, Result
from asyncsim.records.rows import WORK
from asyncsim.records.stage_tables import lane_name, stages_of
from asyncsim.trace.passes import messages, stashes
from asyncsim.trace.writing import trace_file

CLUSTER = 1  # the process
SERVER = 1  # the server's lane; that of worker w is w + FIRST
FIRST = 2
CHUNK = 8192
SLICES = {"applied": "apply", "buffered": "buffer", "dropped": "drop"}

Arrays = Mapping[str, np.ndarray]


def write_trace(result: Result, path: str | Path, start: float = 0.0, end: float | None = None) -> int:
    """Write the run's trace to ``path`` (``.json``, or ``.json.gz``); returns the number of trace events.

    ``start`` and ``end`` (virtual seconds) cut out what overlaps them. A million events take a few seconds and little memory
    beyond the tables'. ``UserError`` if the run kept no events or the file cannot be written.
    """
    events, updates, metrics = (result.tables.get(name) for name in ("events", "updates", "metrics"))
    if events is None:
        raise UserError(f"{result.path or result.name}: kept no events (`records: {{events: false}}`): there is no trace of it")
    if end is not None and end <= start:
        raise UserError(f"the trace would end at {end:g} s, before it starts at {start:g} s")
    low, high = round(start * 1e9), np.inf if end is None else round(end * 1e9)
    arrows = None if updates is None else _arrows(events, updates)
    stages = stages_of(result.manifest)
    passed = messages(events, stages) if stages > 1 else None
    held = stashes(events) if stages > 1 else None
    events = _where(events, (events["end_ns"] >= low) & (events["start_ns"] <= high))
    if updates is not None and arrows is not None:
        inside = (updates["time_ns"] >= low) & (updates["time_ns"] <= high)
        updates, arrows = _where(updates, inside), _where(arrows, inside)
    if metrics is not None:
        metrics = _where(metrics, (metrics["time_ns"] >= low) & (metrics["time_ns"] <= high))
    with trace_file(Path(path), {"displayTimeUnit": "ms", "otherData": _about(result)}) as file:
        file.write(_names(result, events))
        for part in _chunks(events):
            file.write(_spans(part, stages))
        if updates is not None and arrows is not None:
            for index, (part, ends) in enumerate(zip(_chunks(updates), _chunks(arrows), strict=True)):
                file.write(_arrivals(part, ends))
                file.write(_flows(part, ends, index * CHUNK))
                for name in ("staleness", "gap", "loss"):
                    file.write(_counter(name, part["time_ns"], part[name]))
        if passed is not None and held is not None:
            file.write(_messages(_where(passed, (passed["start_ns"] >= low) & (passed["end_ns"] <= high))))
            inside = (held["time_ns"] >= low) & (held["time_ns"] <= high)
            file.write(_counter("stash", held["time_ns"][inside], held["stash"][inside]))
        file.write(_queue(events))
        for name, values in (metrics or {}).items():
            if metrics is not None and name not in ("time_ns", "version", "pushes", "samples"):
                file.write(_counter(name, metrics["time_ns"], values))
        return file.count


def _about(result: Result) -> dict[str, Any]:
    manifest, summary = result.manifest, result.summary
    return {
        "tool": "asyncsim", "version": manifest["versions"].get("asyncsim"), "run": manifest["name"], "hash": manifest["hash"],
        "method": summary.get("method"), "seed": summary.get("seed"), "workers": summary.get("workers"),
        "timeline": manifest["fingerprints"].get("timeline"), "time": "virtual",
    }  # fmt: skip


def _names(result: Result, events: Arrays) -> list[str]:
    """Metadata: names of process and lanes, and their order from the top."""
    workers = int(result.summary.get("workers") or events["worker"].max(initial=-1) + 1)
    stages = stages_of(result.manifest)
    lanes = [(SERVER, "server"), *((worker + FIRST, lane_name(worker, stages)) for worker in range(workers))]
    lines = [
        _meta("process_name", SERVER, name=f"cluster of {result.name}"),
        _meta("process_sort_index", SERVER, sort_index=0),
    ]
    for order, (lane, name) in enumerate(lanes):
        lines += [_meta("thread_name", lane, name=name), _meta("thread_sort_index", lane, sort_index=order)]
    return lines


def _meta(what: str, lane: int, **args: Any) -> str:
    return json.dumps({"ph": "M", "name": what, "pid": CLUSTER, "tid": lane, "ts": 0, "args": args})


def _spans(events: Arrays, stages: int) -> list[str]:
    """A complete event for every span; a worker that left for good is an instant."""
    form = (
        f'{{"ph":"X","name":"%s","cat":"worker","pid":{CLUSTER},"tid":%d,"ts":%s,"dur":%s,'
        '"args":{"step":%d,"version":%d,"complete":%s}}'
    )
    stop = f'{{"ph":"i","name":"stop","cat":"worker","pid":{CLUSTER},"tid":%d,"ts":%s,"s":"t","args":{{"step":%d}}}}'
    columns = (events[name].tolist() for name in ("kind", "worker", "step", "version", "start_ns", "end_ns", "complete"))
    lines = []
    for kind, worker, step, version, start, end, complete in zip(*columns, strict=True):
        name = EVENT_KINDS[kind]
        if name == "stop":
            lines.append(stop % (worker + FIRST, _us(start), step))
        else:
            whole = "true" if complete else "false"
            name = f"{name} {step}" if stages > 1 and name in WORK else name
            lines.append(form % (name, worker + FIRST, _us(start), _us(end - start), step, version, whole))
    return lines


def _arrivals(updates: Arrays, arrows: Arrays) -> list[str]:
    """What the server does with a push, in its lane: as long as its service took, an instant's slice if that takes no time."""
    form = (
        f'{{"ph":"X","name":"%s","cat":"server","pid":{CLUSTER},"tid":{SERVER},"ts":%s,"dur":%s,'
        '"args":{"worker":%d,"step":%d,"read_version":%d,"version":%d,"staleness":%d%s}}'
    )
    names = ("outcome", "time_ns", "worker", "step", "read_version", "version", "staleness", "gap", "penalty", "loss")
    columns = (updates[name].tolist() for name in names)
    lines = []
    for begin, (outcome, time, worker, step, read, version, staleness, *numbers) in zip(
        arrows["serve_ns"].tolist(), zip(*columns, strict=True), strict=True
    ):
        more = "".join(
            f',"{name}":{value!r}' for name, value in zip(("gap", "penalty", "loss"), numbers, strict=True) if _finite(value)
        )
        name = SLICES[OUTCOMES[outcome]]
        lines.append(form % (name, _us(begin), _us(time - begin), worker, step, read, version, staleness, more))
    return lines


def _flows(updates: Arrays, arrows: Arrays, first: int) -> Iterator[str]:
    """Arrows read -> push -> apply. An arrow's end must lie within a slice, so a push is drawn 1 ns before its span's end."""
    form = f'{{"ph":"%s","name":"push","cat":"flow","id":%d,"pid":{CLUSTER},"tid":%d,"ts":%s%s}}'
    columns = (arrows[name].tolist() for name in ("read_ns", "push_ns"))
    for index, (worker, time, read, push) in enumerate(
        zip(updates["worker"].tolist(), updates["time_ns"].tolist(), *columns, strict=True), start=first
    ):
        if read < 0:
            continue
        yield form % ("s", index, worker + FIRST, _us(read), "")
        yield form % ("t", index, worker + FIRST, _us(push), "")
        yield form % ("f", index, SERVER, _us(time), ',"bp":"e"')


def _messages(passed: Arrays) -> Iterator[str]:
    """Arrows from the pass that sends an activation or an error signal to the one that takes it."""
    form = f'{{"ph":"%s","name":"%s","cat":"message","id":%d,"pid":{CLUSTER},"tid":%d,"ts":%s%s}}'
    names = ("up", "batch", "source", "start_ns", "target", "end_ns")
    columns = (passed[name].tolist() for name in names)
    for index, (up, batch, source, start, target, end) in enumerate(zip(*columns, strict=True)):
        name = f"{'activation' if up else 'error signal'} {batch}"
        yield form % ("s", name, index, source + FIRST, _us(start), "")
        yield form % ("f", name, index, target + FIRST, _us(end), ',"bp":"e"')


def _arrows(events: Arrays, updates: Arrays) -> dict[str, np.ndarray]:
    """For every push, by worker and step: the start of the first span after its read, a moment in the last one before the server
    (-1 where the events do not have them), and the start of its service."""
    travel = [EVENT_KINDS.index(name) for name in ("download", *WORK, "upload")]
    work = _where(events, np.isin(events["kind"], travel) & events["complete"])
    serve = _where(events, events["kind"] == EVENT_KINDS.index("serve"))
    keys = _keys(updates)
    read = np.full(len(keys), -1, np.int64)
    push = np.full(len(keys), -1, np.int64)
    if len(work["step"]):
        spans = _keys(work)
        order = np.lexsort((work["start_ns"], spans))
        spans = spans[order]
        left, right = np.searchsorted(spans, keys, "left"), np.searchsorted(spans, keys, "right")
        there = right > left
        first, last = order[left[there]], order[right[there] - 1]
        read[there] = work["start_ns"][first]
        push[there] = np.maximum(work["start_ns"][last], work["end_ns"][last] - 1)
    begin = updates["time_ns"].copy()
    if len(serve["step"]):
        spans = _keys(serve)
        order = np.lexsort((serve["start_ns"], spans))
        place = np.searchsorted(spans[order], keys)
        place[place == len(spans)] = 0
        there = spans[order[place]] == keys
        begin[there] = serve["start_ns"][order[place[there]]]
    return {"read_ns": read, "push_ns": push, "serve_ns": begin}


def _keys(rows: Arrays) -> np.ndarray:
    return rows["worker"].astype(np.int64) << 40 | rows["step"]


def _counter(name: str, times: np.ndarray, values: np.ndarray) -> Iterator[str]:
    """The counter's value from each time on; numbers that JSON cannot hold are left out."""
    form = f'{{"ph":"C","name":{json.dumps(name)},"pid":{CLUSTER},"tid":{SERVER},"ts":%s,"args":{{"value":%r}}}}'
    kept = np.isfinite(values)
    for time, value in zip(times[kept].tolist(), values[kept].tolist(), strict=True):
        yield form % (_us(time), value)


def _queue(events: Arrays) -> Iterator[str]:
    """The number of pushes that wait at the server, from the first to the last."""
    waits = _where(events, events["kind"] == EVENT_KINDS.index("queue"))
    ones = np.ones(len(waits["start_ns"]), np.int64)
    times = np.concatenate([[0], waits["start_ns"], waits["end_ns"]]).astype(np.int64)
    times, place = np.unique(times, return_inverse=True)
    steps = np.zeros(len(times), np.int64)
    np.add.at(steps, place, np.concatenate([[0], ones, -ones]))
    yield from _counter("queue length", times, np.cumsum(steps))


def _where(rows: Arrays, chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[chosen] for name, column in rows.items()}


def _chunks(rows: Arrays) -> Iterator[dict[str, np.ndarray]]:
    length = len(next(iter(rows.values())))
    for first in range(0, length, CHUNK):
        yield {name: column[first : first + CHUNK] for name, column in rows.items()}


def _us(nanoseconds: int) -> str:
    """Nanoseconds as microseconds, with all digits."""
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"


def _finite(value: float) -> bool:
    return value - value == 0.0
