"""Rewrite ``golden.json`` after a change that is meant to change results::

    python tests/determinism/record_golden.py

Timelines are replaced, trajectories for this environment; those of other environments go wherever a timeline changed, and
must be recorded there again.
"""

from __future__ import annotations

import json

from golden import FILE, SCENARIOS, environment, read, runs

import asyncsim


def main() -> None:
    old = read() if FILE.exists() else {"timelines": {}, "trajectories": {}}
    timelines, trajectories = {}, {}
    for path in SCENARIOS:
        for key, scenario in runs(path):
            fingerprints = asyncsim.simulate(scenario).fingerprints
            timelines[key], trajectories[key] = fingerprints["timeline"], fingerprints["trajectory"]
            changed = [name for name, value in (("timeline", timelines[key]),) if old["timelines"].get(key) != value]
            if old["trajectories"].get(environment(), {}).get(key) != trajectories[key]:
                changed.append("trajectory")
            print(f"{key}: {' and '.join(changed) + ' new' if changed else 'as before'}")
    kept = {
        where: {key: value for key, value in known.items() if old["timelines"].get(key) == timelines.get(key)}
        for where, known in old["trajectories"].items()
    }
    new = {"timelines": timelines, "trajectories": kept | {environment(): trajectories}}
    FILE.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
