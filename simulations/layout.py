"""How far down each moment of a run stands in its picture.

Quick work is pulled apart until nothing touches, quiet stretches are cut short, and otherwise time goes evenly. It is
geometry alone: items that need room go in, heights come out, and nothing is known of what they mean.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

PIXELS_PER_SECOND = 40.0
MIN_PIXELS_PER_SECOND = 4.0
ACTIVE_PIXELS = 2000.0
"""A run that is busy for long gets fewer pixels for a second, so that it stays about this high."""

QUIET_S = 2.2
"""A stretch in which nothing is drawn is cut short if it is longer."""

BREAK_PIXELS = 46.0

DROP = 13.0
"""By how much an arrow falls at least: one that is level does not say which way time went."""


class Item(NamedTuple):
    """Something that needs room: in its column nothing else stands within `height` below it."""

    at: float
    column: str
    height: float
    clears: bool = False
    """Whether whatever happens later, in any column, stands below all of it."""


class Break(NamedTuple):
    """A quiet stretch that was cut short."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Scale:
    """How far down each moment stands, piecewise linear, and where each item does."""

    moments: tuple[float, ...]
    heights: tuple[float, ...]
    places: tuple[float, ...]
    breaks: tuple[Break, ...]
    bottom: float

    def y(self, at: float) -> float:
        """The height of a moment."""
        place = bisect_right(self.moments, at)
        if place == 0:
            return self.heights[0]
        if place == len(self.moments):
            return self.heights[-1]
        before, after = self.moments[place - 1], self.moments[place]
        low, high = self.heights[place - 1], self.heights[place]
        return low + (high - low) * (at - before) / (after - before)


def make_scale(
    items: Sequence[Item],
    falls: Sequence[tuple[float, float]],
    moments: Iterable[float],
    top: float,
) -> Scale:
    """The heights at which no items touch, arrows (from `falls`: since, until) fall, and time never goes up.

    `items` are in the order of time; their places come in the same order.
    """
    every = sorted({*moments, *(item.at for item in items), *(at for fall in falls for at in fall)})
    begun = {at: [since for since, until in group] for at, group in _by_end(falls)}
    at_moment = {at: list(same) for at, same in groupby(items, key=lambda item: item.at)}
    rate = _rate(every)
    free: dict[str, float] = {}
    heights: dict[float, float] = {}
    places: list[float] = []
    floor, before = top, every[0] if every else 0.0
    for at in every:
        waits = [heights[since] + DROP for since in begun.get(at, ()) if since < at]
        wanted = [free.get(item.column, top) for item in at_moment.get(at, ())]
        base = max(floor + _natural(at - before, rate), *waits, *wanted, top)
        heights[at] = floor = base
        for item in at_moment.get(at, ()):
            place = max(base, free.get(item.column, top))
            places.append(place)
            free[item.column] = place + item.height
            floor = max(floor, place + item.height) if item.clears else floor
        before = at
    breaks = tuple(Break(one, two) for one, two in pairwise(every) if two - one > QUIET_S)
    bottom = max([floor, *free.values()])
    return Scale(
        tuple(heights) or (0.0,), tuple(heights.values()) or (top,), tuple(places), breaks, bottom
    )


def _by_end(
    falls: Sequence[tuple[float, float]],
) -> Iterator[tuple[float, list[tuple[float, float]]]]:
    for at, same in groupby(sorted(falls, key=lambda fall: fall[1]), key=lambda fall: fall[1]):
        yield at, list(same)


def _rate(moments: Sequence[float]) -> float:
    active = sum(min(after - before, QUIET_S) for before, after in pairwise(moments))
    return min(PIXELS_PER_SECOND, max(MIN_PIXELS_PER_SECOND, ACTIVE_PIXELS / max(active, 1.0)))


def _natural(seconds: float, rate: float) -> float:
    return BREAK_PIXELS if seconds > QUIET_S else seconds * rate
