"""Ours and the bound in turn, so that what else the machine does falls on both alike."""

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.report import Better, Pair, Row

Figures = Mapping[str, float]
"""A figure for each row, by the row's name."""

Measure = Callable[[], Figures]
"""Measures once, from a fresh start."""

RATE = "events/s"
"""The unit of what is better when higher."""

LATENCY = "ms"
"""The unit of what is better when lower."""


SIZE = "bytes"
"""The unit of what is better when smaller."""


CALLS = "calls"
"""The unit of calls of a reducer, which are exact: fewer are better."""


def alternate(runs: int, unit: str, ours: Measure, bound: Measure) -> tuple[Row, ...]:
    """So many pairs of measurements; who goes first changes each time. Both give the same rows."""
    pairs = [_pair(ours, bound, is_ours_first=number % 2 == 0) for number in range(runs)]
    better = Better.HIGHER if unit == RATE else Better.LOWER
    return tuple(
        Row(name, unit, better, tuple(Pair(our[name], raw[name]) for our, raw in pairs))
        for name in pairs[0][0]
    )


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """A new empty folder, gone afterwards. All stand next to each other, on one filesystem."""
    with TemporaryDirectory(prefix="shoal-benchmark-") as name:
        yield Path(name)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = perf_counter()

    def rate(self, events: int) -> float:
        """Events per second so far."""
        return events / (perf_counter() - self._start)

    def lap_ms(self) -> float:
        """Milliseconds so far."""
        return (perf_counter() - self._start) * 1_000


def percentiles(name: str, latencies_ms: Sequence[float]) -> Figures:
    """The rows p50 and p99 of these latencies; p99 is the one that at most 1 in 100 exceeds."""
    ordered = sorted(latencies_ms)
    return {f"{name}, p50": statistics.median(ordered), f"{name}, p99": _within(ordered, 0.99)}


def p999(name: str, latencies_ms: Sequence[float]) -> Figures:
    """The row p99.9 of these latencies, which at most 1 in 1,000 exceeds."""
    return {f"{name}, p99.9": _within(sorted(latencies_ms), 0.999)}


def _within(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]


def _pair(ours: Measure, bound: Measure, *, is_ours_first: bool) -> tuple[Figures, Figures]:
    if is_ours_first:
        ours_found = _clean(ours)
        return ours_found, _clean(bound)
    bound_found = _clean(bound)
    return _clean(ours), bound_found


def _clean(measure: Measure) -> Figures:
    """Measure without the garbage of the one before, and without the collector walking over the benchmark's samples."""
    gc.collect()
    gc.freeze()
    try:
        return measure()
    finally:
        gc.unfreeze()
