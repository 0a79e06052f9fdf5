"""The goals: what each row is to reach, in one table, so that every report can say whether it does.

A goal has one form for all: ours is to stay at most (or at least) `factor` x the bound + `plus`. Most are ratios, which
hold on any machine; some are promises to a person or to a network, and those have a `plus` alone.
"""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Side(Enum):
    """On which side of the limit ours belongs."""

    AT_MOST = "<="
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Goal:
    """Where ours belongs. `plus` is in the row's unit."""

    side: Side
    factor: float
    plus: float

    def limit(self, bound: float) -> float:
        """What ours may reach at most, or must reach at least, beside this bound."""
        return self.factor * bound + self.plus

    def is_met(self, ours: float, bound: float) -> bool:
        """Whether this is good enough."""
        limit = self.limit(bound)
        return ours <= limit if self.side is Side.AT_MOST else ours >= limit


def _at_most(factor: float = 0.0, *, plus: float = 0.0) -> Goal:
    return Goal(Side.AT_MOST, factor, plus)


def _at_least(factor: float = 0.0, *, plus: float = 0.0) -> Goal:
    return Goal(Side.AT_LEAST, factor, plus)


_CATCH_UP_EVENTS, _CATCH_UP_S = 1_000_000, 60
_LATE = ("10", "100", "1,000", "10,000")

GOALS = MappingProxyType(
    {
        "append, batch 1, p50": _at_most(2.5),
        "append, batch 1, p99": _at_most(3),
        "append, batch 1,000": _at_least(0.6),
        "append, 64 publishers": _at_least(0.4),
        "append while merging and pruning, p99.9": _at_most(plus=50),
        "query, tag of 1 % of the events": _at_most(6),
        "query, tag of 1 % of the events, fresh": _at_most(2),
        "query, rare tag, first page": _at_most(plus=5),
        "scan, all events": _at_least(0.7),
        "disk per event, payload's own bytes": _at_most(0.45),
        "cold open, page cache cold": _at_most(plus=100),
        "cold open, page cache warm": _at_most(plus=100),
        "fold, all events": _at_least(0.6),
        "reduce, all events": _at_least(0.6),
        "reduce, calls": _at_most(1),
        "cold start of a fish": _at_most(plus=100),
        **{f"time travel, {late} late": _at_most(3, plus=1) for late in _LATE},
        **{f"calls, {late} late": _at_most(2, plus=16) for late in _LATE},
        "catch-up replay, calls": _at_most(1),
        "memory of a live fish": _at_most(plus=2 * 1024),
        "dispatch of one event": _at_most(plus=0.1),
        "replicate, catch-up": _at_least(0.5),
        "replicate, delivery of one event, p50": _at_most(4),
        "replicate, delivery of one event, p99": _at_most(plus=50),
        "publish under peers, p50": _at_most(1.2),
        "publish under peers, p99": _at_most(1.5),
        "catchup, all events": _at_least(plus=_CATCH_UP_EVENTS / _CATCH_UP_S),
        "catchup, resident memory": _at_most(plus=300_000_000),
        "idle, bytes sent per node and second": _at_most(plus=200),
        "idle, reconnecting with nothing new": _at_most(plus=1_000),
        "machines, fold of 20 states": _at_least(1 / 3),
        "machines, send that settles at once, p50": _at_most(3),
        "machines, send that settles at once, p99": _at_most(3),
        "machines, send among many instances, p50": _at_most(3),
        "machines, send among many instances, p99": _at_most(3),
    }
)
"""By the row's name. The other rows inform: what they cost is set beside a bound, and nothing is promised."""
