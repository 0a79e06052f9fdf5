"""What all running fish of a pond have in common: the log, who feeds them, whom they report to, and their bounds."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fish.ahead import Ahead
from fish.explaining import Travels
from fish.feed import Feed
from fish.folding import Here
from fish.log import Log
from fish.oversight import Oversight
from fish.reports import Reports


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of each running fish, and of their number."""

    waiting_events: int = 4_096
    """Matching events that wait in the inbox; behind a longer replay it is cheaper to read them from the log."""

    snapshot_every: int = 1_024
    """Reducer calls between two stored snapshots: a restart then costs about as many."""

    idle_fish: int = 1_024
    """Fish that nobody watches and that are kept running all the same, however many are watched: the next question
    costs them nothing."""

    snapshot_bytes_per_call: int = 256
    """A large state is stored more seldom, one reducer call for each so many of its bytes: encoding these takes about
    as long as a call, and all snapshots together no longer than the folding."""

    snapshots_at_once: int = 16
    """Fish whose snapshots are stored at the same time, by a commit or two. Ten thousand may begin or end together: an
    append waits behind no more than these. What they may have encoded is bounded in bytes (`fish.ahead`)."""


Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
"""Starts a task of the pond."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all running fish of a pond have in common."""

    log: Log
    limits: Limits
    feed: Feed
    spawn: Spawn
    fell_idle: Callable[[str, int], object]
    """Is told the name and version of a fish for which nobody has any use any more."""
    reports: Reports
    travels: Travels
    here: Here
    turns_to_save: asyncio.Semaphore
    """Whoever holds one of them may encode and store snapshots: `Limits.snapshots_at_once`."""
    ahead: Ahead
    oversight: Oversight
    development: bool
