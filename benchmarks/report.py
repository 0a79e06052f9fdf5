"""Rows of figures: medians of ours and of the bound, their ratio, and how far it spread; as a table or as JSON.

The ratio is ours / bound everywhere. Whether that should be high (a rate) or low (a time) is said by `better`, and how
high or low by the row's goal, where `goals` has one.
"""

import json
import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from benchmarks.goals import GOALS, Goal

_VERDICTS = {True: "met", False: "missed", None: ""}
_FIGURES = (1, 2, 3, 6)  # columns that are aligned to the right


class Better(Enum):
    """In which direction a figure is better."""

    HIGHER = "higher"
    LOWER = "lower"


class Pair(NamedTuple):
    """One run: our figure and the bound's, measured one right after the other."""

    ours: float
    bound: float


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured. There is at least one run."""

    name: str
    unit: str
    better: Better
    runs: tuple[Pair, ...]

    @property
    def ours(self) -> float:
        """The median of ours."""
        return statistics.median(run.ours for run in self.runs)

    @property
    def bound(self) -> float:
        """The median of the bound."""
        return statistics.median(run.bound for run in self.runs)

    @property
    def ratio(self) -> float:
        """Median by median, ours / bound."""
        return self.ours / self.bound

    @property
    def ratios(self) -> tuple[float, ...]:
        """Each run's own ratio."""
        return tuple(run.ours / run.bound for run in self.runs)

    @property
    def goal(self) -> Goal | None:
        """What is promised of it; most rows have one."""
        return GOALS.get(self.name)

    @property
    def is_met(self) -> bool | None:
        """Whether the medians reach the goal; None where there is none."""
        return None if self.goal is None else self.goal.is_met(self.ours, self.bound)

    def to_json(self) -> dict[str, Any]:
        """The row as plain values; `samples` are the runs, each as [ours, bound]."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better.value,
            "ours": self.ours,
            "bound": self.bound,
            "ratio": self.ratio,
            "goal": self._goal_json(),
            "met": self.is_met,
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "runs": len(self.runs),
            "samples": [list(run) for run in self.runs],
        }

    def _goal_json(self) -> dict[str, Any] | None:
        if self.goal is None:
            return None
        goal = self.goal
        return {
            "side": goal.side.value,
            "factor": goal.factor,
            "plus": goal.plus,
            "limit": goal.limit(self.bound),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a benchmark found, and in words what it measured and left out."""

    benchmark: str
    events: int
    rows: tuple[Row, ...]
    measured: str
    left_out: str

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(
            {
                "benchmark": self.benchmark,
                "events": self.events,
                "rows": [row.to_json() for row in self.rows],
                "machine": machine(),
                "measured": self.measured,
                "left_out": self.left_out,
            },
            indent=2,
        )

    def to_text(self) -> str:
        """A table for people."""
        head = ("row", "ours", "bound", "ratio", "goal", "met", "min..max", "unit", "better")
        here = ", ".join(f"{name} {value}" for name, value in machine().items())
        return "\n".join(
            (
                f"{self.benchmark}: {len(self.rows[0].runs)} runs, ours and the bound in turn; ratio = ours / bound",
                *_aligned([head, *map(_cells, self.rows)]),
                f"Measured: {self.measured}",
                f"Left out: {self.left_out}",
                f"Machine: {here}",
            )
        )


def machine() -> dict[str, Any]:
    """What the figures depend on and the reader cannot see."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def _cells(row: Row) -> tuple[str, ...]:
    spread = f"{min(row.ratios):.2f}..{max(row.ratios):.2f}"
    figures = (_figure(row.ours), _figure(row.bound), f"{row.ratio:.2f}")
    judged = (_goal_text(row), _VERDICTS[row.is_met])
    return row.name, *figures, *judged, spread, row.unit, row.better.value


def _goal_text(row: Row) -> str:
    """Such as `<= 3 x + 1 ms`."""
    goal = row.goal
    if goal is None:
        return ""
    parts = [f"{goal.factor:.3g} x"] if goal.factor else []
    parts += [f"{_figure(goal.plus)} {row.unit}"] if goal.plus else []
    return f"{goal.side.value} {' + '.join(parts)}"


def _figure(value: float) -> str:
    """Three digits that count, and no more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in _FIGURES else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
