"""What a person sees while runs go on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rich.cells import cell_len
from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from asyncsim.cli.console import Console
from asyncsim.metrics import rising
from asyncsim.records import Result
from asyncsim.run.moments import Moment
from asyncsim.scenario import Study
from asyncsim.sweep.runner import Report
from asyncsim.units import show_seconds

BAR, WIDE = 24, 100
NAME = 28
"""Columns of a bar, and those that a name may take before it is shortened, which only a line that goes away again does."""


class Progressing(ProgressColumn):
    """One line a run, of whole parts: what has no room is left out, no number is cut."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        told = "" if left is None or not math.isfinite(left) else f"{show_seconds(left)} left"
        return Text(progress_line(task.description, task.percentage / 100, told, task.fields["detail"], self.console.width))


def progress_line(name: str, share: float, left: str, details: Sequence[str], width: int) -> str:
    """``name``, a bar, how much of it is done, ``details`` (the first are the most wanted), and what is ``left``, in ``width``
    columns. Where room is short the bar goes first, then details from the last on, then the time left."""
    done = f"{100 * share:.0f} %"
    room = width - 1 - len(done) - 2
    most = max(4, min(room, NAME))
    name = name if cell_len(name) <= most else shortened(name, most)
    name += " " * (NAME - cell_len(name)) if width >= WIDE else ""
    room -= cell_len(name)
    parts = []
    for part in (left, *details):
        if part and room >= cell_len(part) + 2:
            parts.append(part)
            room -= cell_len(part) + 2
        elif part:
            break
    size = min(BAR, room - 2)
    bar = ["━" * round(size * share) + "─" * (size - round(size * share))] if size >= 6 else []
    told = [part for part in parts if part != left] + ([left] if left in parts and left else [])
    return "  ".join([name, *bar, done, *told])


def shortened(name: str, most: int) -> str:
    """Both ends of a name: variants differ at its beginning, points and seeds at its end."""
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


class Display:
    """Shows the reports of a study while it goes on.

    On a terminal: one bar for all runs, and one for each run that is going on, with updates per second, virtual time and
    time left. Elsewhere: one line when a run ends. With ``quiet``: errors only, on stderr.
    """

    def __init__(self, study: Study, quiet: bool = False) -> None:
        self.study = study
        self.quiet = quiet
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal and not quiet
        self._started: dict[int, float] = {}
        self._bars: dict[int, TaskID] = {}
        self._progress = Progress(Progressing(self.console), console=self.console, transient=True)
        self._total: TaskID | None = None
        self.finished = 0
        self.errors: dict[str, list[str]] = {}
        """Errors, and the runs for which they are still to be printed: if all runs fail alike, that is said once, by others."""

    def __enter__(self) -> Display:
        if self.live:
            self._progress.start()
            if len(self.study) > 1:
                count = len(self.study)
                self._total = self._progress.add_task(self.study.name, total=count, detail=[f"0/{count} runs"])
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._progress.stop()

    def __call__(self, report: Report) -> None:
        if report.moment is not None:
            self._moment(report.index, report.moment)
        elif report.waiting:
            if not self.quiet:
                self._say(f"{self._name(report.index)}: another process is doing this run; waiting for it")
        elif report.error is not None:
            self._close(report.index)
            self.errors.setdefault(report.error, []).append(self._name(report.index))
            if self.finished:
                self.tell_errors()
        elif report.result is not None:
            self._close(report.index)
            if not self.quiet:
                self._say(self._ended(report, report.result))
            self.finished += 1
            self.tell_errors()

    def tell_errors(self) -> None:
        """Print the errors that were not printed yet."""
        for error, names in self.errors.items():
            for name in names:
                self._say(f"{name}: failed: {error}", style="red")
            names.clear()

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.say(text, style)

    def _name(self, index: int) -> str:
        scenario = self.study.scenarios[index]
        return f"{self.study.labels[index]}, seed {scenario.seed}" if self.study.several else scenario.name

    def _moment(self, index: int, moment: Moment) -> None:
        if not self.live:
            return
        started = self._started.setdefault(index, time.monotonic())
        if index not in self._bars:
            self._bars[index] = self._progress.add_task(self._name(index), total=1.0, detail=[])
        rate = moment.updates / max(1e-9, time.monotonic() - started)
        words = ["diverged"] if moment.diverged else []
        words += [
            f"{name.replace('_', ' ')} {value:.3f}"
            for name, value in moment.metrics.items()
            if rising(name) and math.isfinite(value)
        ]
        words += [f"virtual {show_seconds(moment.time)}", f"{rate:,.0f} updates/s"]
        self._progress.update(self._bars[index], completed=moment.done, detail=words)

    def _close(self, index: int) -> None:
        if index in self._bars:
            self._progress.remove_task(self._bars.pop(index))
        if self._total is not None:
            self._progress.advance(self._total)
            done = int(self._progress.tasks[0].completed)
            self._progress.update(self._total, detail=[f"{done}/{len(self.study)} runs"])

    def _ended(self, report: Report, result: Result) -> str:
        summary = result.summary
        words = [f"{summary['updates']:,} updates", f"virtual {show_seconds(summary['time'])}"]
        words += [f"{key} {summary[key]:.4f}" for key in summary if rising(key) and summary[key] is not None]
        if summary["status"] == "diverged":
            at = summary.get("diverged_at_update")
            words.append("diverged" if at is None else f"diverged at update {at:,}")
        seconds = summary.get("wall_seconds")
        words.append("reused" if report.reused or seconds is None else f"{seconds:.1f} s")
        return f"{self._name(report.index)}: {', '.join(words)}"
