"""Many seeds, on all cores: each is played in one of some processes, and told of in the order of the seeds.

What a campaign has been through, it sums up: virtual time over real time, and how many seeds reached each marker. What
failed is made small, saved as a plan that replays it, and drawn.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from simulations.markers import MARKERS
from simulations.picture import draw_svg
from simulations.plan import Plan, draw_plan
from simulations.planted import BUGS, hunt
from simulations.play import Outcome, play, shrunk

MARKED_SEEDS = 1_000
"""A campaign of so many seeds must have reached every marker."""

SHRINKING_S = 60.0
"""Real seconds that are spent on making one failure small."""

TWICE_EVERY = 20
"""One seed of so many is played twice, and both runs must have the same digest."""

CHUNK = 4
"""Seeds that a process takes at once."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Scope:
    """What is common to the seeds of a campaign; see `draw_plan`."""

    nodes: int | None = None
    seconds: float = 60.0
    every_kind: bool = False


@dataclass(slots=True)
class Summary:
    """What a campaign has been through."""

    seeds: int = 0
    failed: int = 0
    virtual_s: float = 0.0
    markers: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome in."""
        self.seeds += 1
        self.failed += bool(outcome.failure)
        self.virtual_s += outcome.virtual_s
        self.markers.update(outcome.markers)

    @property
    def missed(self) -> list[str]:
        """The markers that no seed reached, where there were enough seeds to say so."""
        names = [marker.name for marker in MARKERS if not self.markers[marker.name]]
        return names if self.seeds >= MARKED_SEEDS else []


def played(seeds: Iterable[int], scope: Scope, jobs: int) -> Iterator[Outcome]:
    """Play seeds in so many processes; yields in the order of the seeds."""
    return _spread(partial(_play_seed, scope), seeds, jobs, CHUNK)


def hunted(seeds: range, jobs: int) -> Iterator[tuple[str, Outcome | None]]:
    """Hunt every planted bug in so many processes; yields its name, and the first outcome that found it."""
    found = _spread(partial(_hunt_number, seeds), range(len(BUGS)), jobs, 1)
    return ((bug.name, outcome) for bug, outcome in zip(BUGS, found, strict=True))


def keep_failure(outcome: Outcome, folder: Path) -> tuple[Plan, Path, Path]:
    """Make a failure small, save its plan, and draw it; returns the plan, its file and the picture's."""
    kind = ":".join(outcome.failure.split(":")[:2])  # the error and, where one is broken, the law
    deadline = time.monotonic() + SHRINKING_S

    def fails(plan: Plan) -> bool:
        return time.monotonic() < deadline and play(plan).failure.startswith(kind)

    small = shrunk(outcome.plan, fails)
    saved, drawn = (folder / f"failing-{small.seed}.{ending}" for ending in ("json", "svg"))
    saved.write_text(small.to_json(), "utf-8")
    drawn.write_text(draw_svg(play(small, keeps=True).notes, title=f"seed {small.seed}"), "utf-8")
    return small, saved, drawn


def _play_seed(scope: Scope, seed: int) -> Outcome:
    plan = draw_plan(seed, nodes=scope.nodes, seconds=scope.seconds, every_kind=scope.every_kind)
    outcome = play(plan)
    if seed % TWICE_EVERY == 0 and not outcome.failure:
        again = play(plan)
        if again.digest != outcome.digest:
            return replace(outcome, failure="not repeatable: two runs have different digests")
    return outcome


def _hunt_number(seeds: range, number: int) -> Outcome | None:
    return hunt(BUGS[number], seeds)


def _spread(
    work: Callable[[_Item], _Result], items: Iterable[_Item], jobs: int, chunk: int
) -> Iterator[_Result]:
    if jobs == 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as workers:
        yield from workers.map(work, items, chunksize=chunk)
