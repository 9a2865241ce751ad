"""Every notebook runs from top to bottom on small settings, and is in the repository with its outputs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_some():
    assert [path.stem[:2] for path in NOTEBOOKS if path.stem[0] in "12345"] == ["1_", "2_", "3_", "4_", "5_"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_readable_where_it_lies(path):
    """With outputs, figures, no errors, no warnings, no absolute paths, and not too large."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 400_000
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    text = "".join(str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert "/site-packages" not in text
    assert str(FOLDER.parent) not in text
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "ASYNCSIM_NOTEBOOK_FAST" in code[0].source


def test_a_figure_of_ours_may_be_the_first(tmp_path):
    """What a notebook draws after it is shown, too: our style does not undo what the backend of notebooks has set."""
    pytest.importorskip("ipykernel")
    from nbclient import NotebookClient

    ours = """import asyncsim
from asyncsim.plots import staleness_histogram
result = asyncsim.simulate(asyncsim.load_scenario({scenario!r}))
staleness_histogram(result).figure"""
    scenario = tmp_path / "small.yaml"
    scenario.write_text("task: {kind: digits, model: softmax}\ncluster: {workers: 2}\nrun: {updates: 4}\n")
    own = "import matplotlib.pyplot as plt\nplt.plot([1, 2])"
    cells = [nbformat.v4.new_code_cell(text) for text in (ours.format(scenario=str(scenario)), own)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120).execute()
    assert any("image/png" in output.get("data", {}) for output in notebook.cells[1].outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch):
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("ASYNCSIM_NOTEBOOK_FAST", "1")
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    notebook = module.execute(path)
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", []))
