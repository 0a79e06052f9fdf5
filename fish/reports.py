"""What the fish of a pond have to report: stops, skipped events, slow reducers, code that changed without its version.

A report is a value. The latest are kept, and whoever asked for it is called with each. The same thing is reported once:
a replay that comes to a skipped event again says nothing new.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from lamport.ids import EventKey

KEPT_REPORTS = 1_000
"""Reports that are kept; older ones were logged."""

_LOGGER = logging.getLogger("shoal.fish")


class ReportKind(Enum):
    """What happened."""

    STOPPED = "stopped"
    """A reducer raised, and the fish stands at its last good state."""
    SKIPPED = "skipped"
    """A reducer raised, and the fish goes on without this event, as its definition says."""
    OVERRAN = "overran"
    """A reducer held up the node for a while, and was done before it was interrupted."""
    REDEFINED = "redefined"
    """The selection, initial state or code is another one than before, and the version is the same."""


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that happened to a fish; `key` is the event it happened at, where there is one."""

    fish: str
    version: int
    kind: ReportKind
    key: EventKey | None
    text: str


class Activity(NamedTuple):
    """What a pond is at: how many fish it runs, how many of them begin or fold, and how many effects run or wait."""

    fish: int
    starting: int
    """Fish that have shown no state yet: they fold what is stored."""
    folding: int
    """Others that have events to fold, or hold some back for a catch-up."""
    effects: int
    is_catching_up: bool

    @property
    def is_busy(self) -> bool:
        """Whether states are going to change by what is known already."""
        return bool(self.starting or self.folding or self.effects)


class Reports:
    """The latest reports of a pond."""

    def __init__(self) -> None:
        self.listener: Callable[[Report], object] | None = None
        self._kept: deque[Report] = deque(maxlen=KEPT_REPORTS)

    @property
    def all(self) -> tuple[Report, ...]:
        """Those that are kept, oldest first."""
        return tuple(self._kept)

    def add(self, report: Report) -> None:
        """Keep a report, log it, and tell the listener; nothing where it is known."""
        if report in self._kept:
            return
        self._kept.append(report)
        if report.kind is not ReportKind.STOPPED:  # that is logged with its traceback
            _LOGGER.warning("%s", report.text)
        if self.listener is None:
            return
        try:
            self.listener(report)
        except (Exception, asyncio.CancelledError):  # it waits for nothing: this is not about us
            _LOGGER.exception("the listener to reports of fish raised")
