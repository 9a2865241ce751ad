"""Gossip: which groups average their parameters with which, as doubly stochastic matrices over graphs."""

from __future__ import annotations

import csv
import io
import math
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.paths import ScenarioPath
from asyncsim.registry import PAPERS, Registry, Spec
from asyncsim.userfiles import MEGABYTE, read_text

gossips: Registry[Gossip] = Registry("gossip", default="ring", home=PAPERS)

Matrix = list[list[float]]
MOST_BYTES = 100 * MEGABYTE
"""Of a file with a matrix: some 2,000 groups."""
Form = Literal["adapt_then_combine", "combine_then_adapt"]


class Gossip(Spec):
    """Every group keeps parameters of its own and mixes them with its neighbours' after every step.

    ``form``: a group steps first and then all mix, or all mix the old parameters and then step.
    """

    needs: ClassVar[Need] = Need.OWN_PARAMETERS
    form: Form = "adapt_then_combine"

    @abstractmethod
    def neighbours(self, group: int, groups: int) -> set[int]:
        """The groups whose parameters ``group`` receives, without itself. Raises ``ValueError`` if the graph is not defined for
        so many groups."""

    def matrix(self, groups: int) -> Matrix:
        """The weights ``P[s][r]`` with which group s takes the parameters of group r; rows and columns add up to 1.

        By default these are Metropolis weights: ``1 / (1 + max(degree))`` for neighbours, and the rest on the diagonal.
        """
        near = [self.neighbours(group, groups) - {group} for group in range(groups)]
        matrix = [[0.0] * groups for _ in range(groups)]
        for s in range(groups):
            for r in sorted(near[s]):
                matrix[s][r] = 1.0 / (1 + max(len(near[s]), len(near[r])))
            matrix[s][s] = 1.0 - sum(matrix[s])
        return matrix


@gossips.register("complete")
class Complete(Gossip):
    """Every group hears all others, so the result is the mean of all."""

    def neighbours(self, group: int, groups: int) -> set[int]:
        return set(range(groups))


@gossips.register("ring")
class Ring(Gossip):
    """Every group hears the two beside it."""

    def neighbours(self, group: int, groups: int) -> set[int]:
        return {(group - 1) % groups, (group + 1) % groups}


@gossips.register("torus")
class Torus(Gossip):
    """Every group hears the four around it, on a grid of ``rows`` rows that is closed in both directions."""

    rows: int | None = Field(default=None, ge=1)

    def neighbours(self, group: int, groups: int) -> set[int]:
        rows = self.rows or max(each for each in range(1, math.isqrt(groups) + 1) if groups % each == 0)
        if groups % rows:
            raise ValueError(f"a torus of {rows} rows needs a multiple of {rows} groups, not {groups}")
        columns = groups // rows
        row, column = divmod(group, columns)
        around = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
        return {(r % rows) * columns + c % columns for r, c in around}


@gossips.register("hypercube")
class Hypercube(Gossip):
    """Every group hears those whose binary number differs from its own in one digit."""

    def neighbours(self, group: int, groups: int) -> set[int]:
        if groups & (groups - 1):
            raise ValueError(f"a hypercube needs 1, 2, 4, 8, ... groups, not {groups}")
        return {group ^ (1 << digit) for digit in range(groups.bit_length() - 1)}


@gossips.register("exponential")
class Exponential(Gossip):
    """Every group hears those 1, 2, 4, 8, ... places ahead, all with the same weight (a directed graph; Assran et al. 2019)."""

    def neighbours(self, group: int, groups: int) -> set[int]:
        return {(group + (1 << digit)) % groups for digit in range(max(1, (groups - 1).bit_length()))}

    def matrix(self, groups: int) -> Matrix:
        near = [self.neighbours(group, groups) | {group} for group in range(groups)]
        return [[1.0 / len(near[s]) if r in near[s] else 0.0 for r in range(groups)] for s in range(groups)]


@gossips.register("matrix")
class FromFile(Gossip):
    """The matrix in a CSV ``file`` without a header, with one row for each group."""

    shorthand: ClassVar[str | None] = "file"
    file: ScenarioPath

    def neighbours(self, group: int, groups: int) -> set[int]:
        return {r for r, weight in enumerate(self.matrix(groups)[group]) if weight}

    def matrix(self, groups: int) -> Matrix:
        lines = io.StringIO(read_text(Path(self.file), MOST_BYTES), newline="")
        try:
            matrix = [[float(cell) for cell in row] for row in csv.reader(lines) if row]
        except (ValueError, csv.Error) as error:
            raise UserError(f"{self.file}: no matrix of numbers: {error}") from None
        if len(matrix) != groups or any(len(row) != groups for row in matrix):
            raise UserError(f"{self.file}: has {len(matrix)} rows; a square of {groups} is needed, one row a group")
        for place in range(groups):
            for what, values in (("row", matrix[place]), ("column", [row[place] for row in matrix])):
                if min(values) < 0 or not math.isclose(sum(values), 1.0, abs_tol=1e-9):
                    raise UserError(f"{self.file}, {what} {place + 1}: weights must not be negative and add up to 1")
        return matrix
