"""What is drawn over figures is what the formulas say of these runs, with its limits; the rest is told or refused."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import made

import asyncsim
from asyncsim.errors import UserError
from asyncsim.plots import KINDS, figure, remarks, write_figure
from asyncsim.scenario import Document, build_scenario
from asyncsim.theory import gamma_staleness


def run(workers=4, lr=0.1, compute="1s", seed=0, updates=60, plan=False, **changes):
    scenario = build_scenario(Document({
        "name": "asgd", "dtype": "float64", "seed": seed, "cluster": {"workers": workers, "compute": compute},
        "task": {"kind": "quadratic", "curvature": [1.0, 0.25, 0.0], "start": [1.0, 2.0, -1.0]} | changes.pop("task", {}),
        "optimizer": {"kind": "sgd", "lr": lr} | changes.pop("optimizer", {}), "run": {"updates": updates},
        "evaluate": {"updates": 5}, "records": {"events": False},
    } | changes, "test"))  # fmt: skip
    return asyncsim.plan(scenario) if plan else asyncsim.simulate(scenario)


@pytest.fixture
def drawn():
    """Figures that are closed at the end."""
    made = []

    def draw(*arguments, **options):
        made.append(figure(*arguments, theory=True, **options))
        return made[-1].axes[0]

    yield draw
    for each in made:
        plt.close(each)


def predicted(ax) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)) for line in ax.get_lines()
        if str(line.get_label()) in ("theory", "_theory")
    ]  # fmt: skip


@pytest.mark.parametrize("metric", ["test_loss", "test_distance"])
@pytest.mark.parametrize("against", ["updates", "time"])
@pytest.mark.parametrize(
    ("method", "optimizer"), [("asgd", {"momentum": 0.5, "nesterov": True}), ("staleness_aware", {}), ("bsp", {})],
    ids=["asgd", "staleness_aware", "bsp"],
)  # fmt: skip
def test_convergence_without_chance_is_the_run_itself(drawn, method, optimizer, metric, against):
    """Constant times and no noise: from the steady staleness on (and here from the start, as the first pushes are the only
    others) the prediction lies on the run. Wrong: the same run's prediction at another step."""
    lr = 0.05
    result = run(lr=lr, method=method, optimizer=optimizer, run={"updates": 60})
    ax = drawn("convergence", [result], metric=metric, against=against)
    [(x, y)] = predicted(ax)
    assert x == pytest.approx(result.metrics["version" if against == "updates" else "time"].to_numpy(float))
    tolerance = 1e-9 if method != "staleness_aware" else 0.12  # its first gradients are less stale, and weigh more
    assert y == pytest.approx(result.metrics[metric].to_numpy(), rel=tolerance)
    other = run(lr=2 * lr, method=method, optimizer=optimizer, run={"updates": 60})
    assert y[1:] != pytest.approx(other.metrics[metric].to_numpy()[1:], rel=tolerance)


def test_convergence_with_noise_ends_at_the_predicted_floor(drawn):
    """Mean of eight seeds over the last half, 200 coordinates: within 5 %. Wrong: no noise, no staleness."""
    task = {"dim": 200, "curvature": 1.0, "start": 1.0, "noise": 0.5}
    results = [run(lr=0.15, updates=100, seed=seed, task=task) for seed in range(8)]
    [(_, y)] = predicted(drawn("convergence", results, metric="test_loss", against="updates"))
    seen = np.mean([result.metrics["test_loss"].to_numpy()[-8:] for result in results])
    assert y[-8:].mean() == pytest.approx(seen, rel=0.05)
    fresh = 200 / 2 * 0.15 * 0.25 / (2 - 0.15)
    assert fresh < 0.7 * seen


def test_staleness_is_the_law_of_equal_gamma_times(drawn):
    law = gamma_staleness(6, 0.3)
    plans = [run(6, compute={"kind": "gamma", "mean": "1s", "cv": 0.3}, updates=4000, plan=True), run(1, updates=20, plan=True)]
    ax = drawn("staleness", plans, labels=["six", "one"])
    (x, y), *_ = [pair for pair in predicted(ax) if len(pair[0]) > 1]
    assert y == pytest.approx(law[x.astype(int)])
    shares = np.bincount(plans[0].updates["staleness"], minlength=len(law))[: len(law)] / 4000
    assert abs(shares - law).sum() / 2 < 0.03


def test_final_marks_the_best_number_of_workers_and_where_runs_diverge(drawn):
    """lr 0.1 on curvature 1: best N by a search over real runs of equal virtual time, and the first that grew."""
    task = {"dim": 1, "curvature": 1.0, "start": 1.0}
    counts = [1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 24]
    results = [run(n, updates=30 * n, task=task, evaluate={"updates": 10}) for n in counts]
    ends = [abs(result.summary["test_distance"]) for result in results]
    ax = drawn("final", results, metric="test_distance")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "theory: fastest N = 5" in texts
    assert counts[int(np.argmin(ends))] in (4, 5)
    assert "theory: diverges, N > 16" in texts
    assert [end > 1 for end in ends] == [n > 16 for n in counts]
    assert ax.get_yscale() == "log"


def test_labels_without_theory_are_named_and_the_rest_is_drawn(drawn):
    results = [run(), run(method="gap_aware"), run(method="dc_asgd")]
    ax = drawn("convergence", results, labels=["asgd", "gap_aware", "dc_asgd"], metric="test_loss")
    assert len(predicted(ax)) == 1
    told = "; ".join(remarks(ax.figure))
    assert "no theory for gap_aware: gap_aware does more to a gradient than to average it" in told
    assert "no theory for dc_asgd" in told


@pytest.mark.parametrize(
    ("kind", "changes", "options", "message"),
    [
        ("convergence", {"method": "gap_aware"}, {"metric": "test_loss"}, "gap_aware does more to a gradient"),
        ("convergence", {"optimizer": {"kind": "adam"}}, {"metric": "test_loss"}, "steps of adam are not proportional"),
        ("convergence", {"schedule": {"kind": "cosine"}}, {"metric": "test_loss"}, "its learning rate is not constant"),
        ("convergence", {"method": {"kind": "asgd", "before": [{"kind": "clip", "max_norm": 1}]}}, {"metric": "test_loss"},
         "more parts than its own"),
        ("convergence", {"optimizer": {"weight_decay": 0.1}}, {"metric": "test_loss"}, "weight decay adds a curvature"),
        ("final", {"optimizer": {"momentum": 0.5}}, {"metric": "test_loss"}, "without momentum"),
        ("final", {}, {"metric": "test_loss", "x": "optimizer.lr"}, "about worker counts, not optimizer.lr"),
        ("final", {"compute": {"kind": "uniform", "low": "1s", "high": "2s"}}, {"metric": "test_loss"}, "not gamma"),
        ("staleness", {"method": "ssp"}, {}, "workers differ, wait, stop or send"),
        ("staleness", {"cluster": {"workers": 4, "uplink": {"latency": "1ms"}}}, {}, "workers differ, wait, stop or send"),
        ("staleness", {}, {"by": "stage"}, "nothing about the stages"),
        ("gap", {}, {}, "there is no theory to draw over it; there is for convergence, final, staleness"),
    ],
)  # fmt: skip
def test_what_theory_cannot_say_is_refused(kind, changes, options, message):
    with pytest.raises(UserError, match=message):
        figure(kind, [run(**changes)], theory=True, **options)


def test_runs_of_real_tasks_have_no_path():
    with pytest.raises(UserError, match="the task is not quadratic"):
        figure("convergence", [made()], theory=True)


def test_the_figure_is_the_same_bytes_and_plain_without_theory(tmp_path):
    results = [run(), run(2)]
    files = [
        write_figure(figure("convergence", results, metric="test_loss", theory=theory), tmp_path / f"{place}.png").read_bytes()
        for place, theory in enumerate((True, True, False))
    ]
    assert files[0] == files[1] != files[2]
    assert {name for name, kind in KINDS.items() if kind.theory} == {"convergence", "final", "staleness"}
