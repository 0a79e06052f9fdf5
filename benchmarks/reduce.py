"""Reducing: the rate of `fold`, and the number of reducer calls that it takes, which is exact."""

from dataclasses import replace

from benchmarks import fold
from benchmarks.report import Better, Pair, Report, Row
from benchmarks.rounds import CALLS


def measure(events: int, runs: int) -> Report:
    """All rows."""
    folded = fold.measure(events, runs)
    # `fold` has seen to it that there was one call for each event.
    calls = Row("reduce, calls", CALLS, Better.LOWER, (Pair(events, events),) * runs)
    rate = replace(folded.rows[0], name="reduce, all events")
    return replace(folded, benchmark="reduce", rows=(rate, calls))
