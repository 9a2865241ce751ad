"""No table and no line of progress loses a digit, at whatever width."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.cells import cell_len

from asyncsim.cli.console import Console
from asyncsim.cli.display import progress_line
from asyncsim.cli.layout import MOST_PARTS, Column, lay_out, show_table

WIDTHS = [*range(20, 80, 3), *range(80, 251, 17), 250, None]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def random_table(seed: int) -> tuple[list[Column], list[list[str]], int]:
    draw = np.random.default_rng(seed)
    pieces = ["4,000", "97.2 ± 0.31 % (1 of 2 diverged)", "15.5 s (1 of 2)", "1e-05", "optimizer.lr=0.125,N=16", "数据并行", "x",
              "[bold]", "bounded_staleness-with-a-name-that-goes-on-and-on-0123456789", "$1,234,567.89"]  # fmt: skip
    titles = ["variant", "optimizer.weight_decay", "virtual time to target", "staleness mean",
              "test accuracy at the common lr", "N"]  # fmt: skip
    count = int(draw.integers(1, 14))
    columns = [Column(str(draw.choice(titles)), str(draw.choice(["left", "right"]))) for _ in range(count)]
    rows = [[f"{draw.choice(pieces)}{draw.integers(1000)}" for _ in columns] for _ in range(int(draw.integers(1, 5)))]
    return columns, rows, int(draw.integers(1, min(3, count) + 1))


@pytest.mark.parametrize("seed", range(12))
def test_every_cell_is_there_whole_at_every_width(seed):
    columns, rows, keys = random_table(seed)
    for width in WIDTHS:
        file = io.StringIO() if width is None else Terminal()
        show_table(columns, rows, "a title", "a caption", keys, console=Console(file=file, width=width, no_color=True))
        text = file.getvalue()
        assert "…" not in text
        for cell in (cell for row in rows for cell in row):
            assert cell in text, width
        for word in (word for column in columns for word in column.title.replace(".", ". ").split()):
            assert word in text, width


@pytest.mark.parametrize("seed", range(12))
def test_no_line_is_longer_than_the_terminal_but_for_a_single_cell(seed):
    columns, rows, keys = random_table(seed)
    longest = max(cell_len(cell) for row in rows for cell in row) + max(cell_len(column.title) for column in columns) + 4
    for width in WIDTHS[:-1]:
        for line in lay_out(columns, rows, width, keys):
            assert cell_len(line.text) <= max(width, longest)


def test_a_wide_table_is_cut_into_some_under_each_other_then_into_blocks():
    columns = [Column("variant", "left"), *(Column(f"number {place}") for place in range(8))]
    rows = [["asgd", *(f"{place},000.25" for place in range(8))], ["bsp", *(f"{place},111.75" for place in range(8))]]
    whole, parts, blocks = (["\n".join(line.text for line in lay_out(columns, rows, room))] for room in (None, 50, 20))
    assert whole[0].count("asgd") == 1
    assert 1 < parts[0].count("asgd") <= MOST_PARTS
    assert blocks[0].count("asgd") == 1
    assert blocks[0].splitlines()[:2] == ["variant asgd", "  number 0  0,000.25"]


def test_sentences_are_wrapped_between_words():
    words = "mean staleness of all pushes that counted over the whole run"
    columns = [Column("", "left"), Column("", "left", prose=True)]
    lines = [line.text for line in lay_out(columns, [["staleness", words]], 40)]
    assert len(lines) > 2
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(" ".join(lines).split()) == f"staleness {words}"


def test_an_empty_column_is_left_out():
    file = io.StringIO()
    show_table([Column("a", "left"), Column("b"), Column("c")], [["x", "-", "1"], ["y", "", "2"]], console=Console(file=file))
    assert "b" not in file.getvalue()


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120, 200])
def test_a_line_of_progress_has_whole_parts_only(width):
    details = ["test accuracy 0.912", "virtual 1,234 s", "12,345 updates/s"]
    line = progress_line("pipedream,cluster.workers=16, seed 3", 0.4567, "12.3 s left", details, width)
    assert cell_len(line) <= width
    assert "46 %" in line
    rest = line.partition("46 %")[2]
    for part in [*details, "12.3 s left"]:
        rest = rest.replace(part, "")
    assert not rest.strip()
    if width >= 120:
        assert all(part in line for part in details)
