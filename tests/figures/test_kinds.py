"""Every kind draws one, many, labelled, planned and diverged runs into the axes it is given, or says why it can't."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
from handmade import made

import asyncsim
from asyncsim.errors import UserError
from asyncsim.plots import KINDS, figure, write_figure, write_figures
from asyncsim.plots.fields import labels_for
from asyncsim.plots.kinds import figure_bytes
from asyncsim.plots.scales import plain
from asyncsim.plots.style import KNOWN, colours, looks

SEVERAL = [
    made(method=method, workers=n, seed=seed, time_to_target=5.0 / n, cost_to_target=0.1 * n, energy_to_target=50.0 + n,
         diverged=(method, n, seed) == ("dana", 4, 1))
    for method in ("asgd", "dana") for n in (1, 4) for seed in (0, 1)
]  # fmt: skip
NEEDS = {"heat_map": {"y": "method"}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("runs", "suffix"), [(SEVERAL[:1], "pdf"), (SEVERAL, "svg")], ids=["one", "many"])
def test_the_same_runs_give_the_same_bytes(kind, runs, suffix, tmp_path):
    """All three formats of all kinds are written in the tests of the command."""
    options = NEEDS.get(kind, {})
    one, other = (write_figure(figure(kind, runs, **options), tmp_path / f"{name}.{suffix}") for name in "ab")
    assert one.read_bytes().startswith({"pdf": b"%PDF", "svg": b"<?xml"}[suffix])
    assert one.read_bytes() == other.read_bytes()
    assert sorted(tmp_path.iterdir()) == [one, other]


@pytest.mark.parametrize("kind", KINDS)
def test_the_given_axes_come_back_and_none_are_opened(kind, ax):
    before = plt.get_fignums()
    runs = SEVERAL[0] if kind in ("gantt", "schedule") else SEVERAL
    assert KINDS[kind].draw(runs, ax=ax, **NEEDS.get(kind, {})) is ax
    assert plt.get_fignums() == before
    assert ax.get_xlabel()
    assert ax.get_ylabel() or kind == "time_shares"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].tables])
def test_missing_tables_are_said(kind):
    lean = made(tables=())
    if kind == "convergence":
        lean.summary.pop("test_accuracy")
    with pytest.raises(UserError, match=r"there is no table|have no metrics"):
        figure(kind, [lean])


def test_a_plan_can_be_drawn_where_it_has_numbers():
    scenario = asyncsim.Scenario.model_validate(
        {"task": {"kind": "quadratic"}, "cluster": {"workers": 3}, "run": {"updates": 30}, "method": "asgd"}
    )
    result = asyncsim.plan(scenario)
    for kind in ("staleness", "staleness_over_time", "gantt", "schedule", "time_shares", "speedup"):
        plt.close(figure(kind, [result]))
    reasons = {"convergence": "no metrics", "final": "no metrics", "time_to_target": "no target"}
    for kind, why in (reasons | {"gap": "have no gap", "gap_over_time": "have no gap"}).items():
        with pytest.raises(UserError, match=why):
            figure(kind, [result])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("convergance", {}, "kind: 'convergance' is unknown; did you mean `convergence`; there are: convergence, final"),
        ("staleness", {"metric": "test_loss"}, "kind staleness: takes no metric"),
        ("convergence", {"metric": "test_acuracy"}, "no metric 'test_acuracy'; did you mean `test_accuracy`"),
        ("final", {"metric": "stalenes_mean"}, "did you mean `staleness_mean`"),
        ("convergence", {"against": "epochs"}, "against: 'epochs' is none of time, updates, samples"),
        ("gap_over_time", {"against": "samples"}, "against: 'samples' is none of time, updates"),
        ("speedup", {"of": "epochs"}, "of: 'epochs' is none of"),
        ("schedule", {"batches": 0}, "batches: 0 must be 1 or more"),
        ("schedule", {"start": 2.0, "end": 1.0}, "would end at 1 s, not after its start at 2 s"),
        ("gantt", {"batches": 3}, "kind gantt: takes no batches"),
        ("time_to_target", {"metric": "test_error"}, "needs a level too"),
        ("final", {"x": "workerz"}, "no run has the field 'workerz'; did you mean `workers`"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_no_figure(kind, options, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        figure(kind, SEVERAL, **options)


def test_a_run_that_has_not_ended_is_left_out_of_what_needs_an_end(ax):
    killed = made(workers=8)
    killed.summary.clear()
    killed.summary["status"] = "running"
    KINDS["final"].draw([*SEVERAL, killed], ax=ax)
    assert 8 not in [x for bars in ax.containers for x in bars[0].get_xdata()]
    with pytest.raises(UserError, match="no run has ended"):
        figure("final", [killed])


def test_a_file_of_another_kind_or_nowhere(tmp_path):
    for name, message in (("a.gif", r"ends in \.png, \.pdf, \.svg"), ("no/a.png", "there is no folder")):
        with pytest.raises(UserError, match=message):
            write_figure(figure("final", SEVERAL), tmp_path / name)


def test_write_figures(tmp_path):
    written = write_figures(SEVERAL, ["a"] * 4 + ["b"] * 4, tmp_path / "new")
    assert [path.name for path in written] == ["convergence.png", "staleness.png", "gantt.png"]
    written = write_figures(SEVERAL, ["a"] * 4 + ["b"] * 4, tmp_path / "new", swept="workers")
    assert written[1].read_bytes() == figure_bytes(figure("final", SEVERAL), "png")


# Labels and looks.


def test_default_labels():
    assert labels_for([made(seed=0), made(seed=1)]) == ["asgd", "asgd"]
    assert labels_for([made(workers=1), made(workers=2)]) == ["asgd, N = 1", "asgd, N = 2"]
    assert labels_for([made(workers=1), made(workers=2)], without=["workers"]) == ["asgd", "asgd"]
    assert labels_for([made(name="s-a"), made(name="s-b", method="dana")]) == ["a", "b"]
    swept = [made(name=f"s-{v},workers={n}", workers=n) for v in ("a", "b") for n in (2, 4)]
    assert labels_for(swept) == ["a, N = 2", "a, N = 4", "b, N = 2", "b, N = 4"]
    assert labels_for(swept, without=["workers"]) == ["a", "a", "b", "b"]
    assert labels_for([made(name=f"s-workers={n}", workers=n) for n in (2, 4)]) == ["asgd, N = 2", "asgd, N = 4"]
    rates = [made(changes={"optimizer.lr": lr, "optimizer.momentum": m}) for lr, m in ((0.1, 0.9), (0.1, 0.5), (0.2, 0.5))]
    assert labels_for(rates) == ["asgd, lr 0.1, momentum 0.9", "asgd, lr 0.1, momentum 0.5", "asgd, lr 0.2, momentum 0.5"]


def test_a_method_has_its_colour_in_every_company():
    for others in ([], ["bsp"], ["x", "y", "z"]):
        assert colours([*others, "gap_aware"])["gap_aware"] == KNOWN["gap_aware"]
    assert colours(["gap_aware, N = 4", "asgd"])["gap_aware, N = 4"] == KNOWN["gap_aware"]


def test_looks_differ():
    many = looks([f"m{letter}" for letter in "abcdefghij"])
    assert len({(look.colour, look.dash, look.point) for look in many.values()}) == 10
    assert len({look.colour for look in many.values()}) == 10
    assert len(set(colours([f"m{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]))) == 26


def test_numbers_get_a_ramp_in_their_order():
    light = {
        label: sum(int(code[i : i + 2], 16) for i in (1, 3, 5)) for label, code in colours(["N = 16", "N = 2", "N = 4"]).items()
    }
    assert light["N = 2"] < light["N = 4"] < light["N = 16"]


PLAIN = {0.05: "0.05", 2: "2", 20000: "20,000", 5e6: "5M", 0: "0", 1e-6: "$10^{-6}$", 1e9: "$10^{9}$"}


@pytest.mark.parametrize(("value", "text"), PLAIN.items())
def test_plain_numbers(value, text):
    assert plain(value) == text
