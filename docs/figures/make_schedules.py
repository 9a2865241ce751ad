"""Draw the schedules of the documentation: ``python docs/figures/make_schedules.py``. Timelines alone, no gradients."""

from pathlib import Path

import matplotlib.pyplot as plt

import asyncsim
from asyncsim.plots import schedule
from asyncsim.plots.kinds import headless, write_figure
from asyncsim.plots.style import DOUBLE, RC
from asyncsim.records import Result
from asyncsim.scenario import Scenario

FOLDER = Path(__file__).parent
TOGETHER = ("bp", "gpipe", "pipedream", "fdg")
UNTIL = {
    "bp": 36, "gpipe": 10, "ddg": 36, "features_replay": 36, "fdg": 36, "adl": 36, "pipedream": 36, "pipedream_2bw": 10,
    "nesterov_pipeline": 36, "decoupled_data_parallel": 24,
}  # fmt: skip
"""Virtual seconds shown: twelve ticks, and fewer where there are micro-batches or groups."""


def timeline(method: str, groups: int = 1) -> Result:
    """Four stages of equal time: a batch takes one second forward and two backward at each."""
    return asyncsim.plan(
        Scenario.model_validate({
            "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [48] * 4}, "batch": 32},
            "stages": {"count": 4, "time": "equal"},
            "cluster": {"workers": 4 * groups, "compute": "12s"},
            "method": method,
            "run": {"updates": 20},
        })
    )  # fmt: skip


def draw(runs: dict[str, Result], end: float, path: Path) -> None:
    """One schedule below the other; the first has the legend."""
    heights = [0.45 + 0.17 * run.summary["workers"] for run in runs.values()]
    with plt.rc_context(RC):
        drawn, places = plt.subplots(
            len(runs), 1, figsize=(DOUBLE, sum(heights) + 0.3), layout="constrained", sharex=True, squeeze=False,
            gridspec_kw={"height_ratios": heights},
        )  # fmt: skip
        for ax, (name, run) in zip(places[:, 0], runs.items(), strict=True):
            schedule(run, end=end, ax=ax).set_title(name, loc="left")
            if ax is not places[0, 0]:
                ax.get_legend().remove()
            if ax is not places[-1, 0]:
                ax.set_xlabel("")
        write_figure(drawn, path)


if __name__ == "__main__":
    headless()
    for method, end in UNTIL.items():
        groups = 2 if method == "decoupled_data_parallel" else 1
        draw({method: timeline(method, groups)}, float(end), FOLDER / "schedules" / f"{method}.png")
    draw({method: timeline(method) for method in TOGETHER}, 24.0, FOLDER / "schedules" / "together.png")
