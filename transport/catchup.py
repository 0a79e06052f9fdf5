"""Catch-ups: while peers are known to hold much that this node lacks, whoever folds events is told so.

A peer tells how far it holds its streams; what is lacking then, and is more than pushing delivers event by event, is
one catch-up. It is announced before the first range of it is asked for, and is over when all that was told has been
taken in, or can no longer be had: from a peer that left, or that was found to hold another history. Whoever is told
decides how long it waits (the pond: a second without progress, ten in all), so a peer that trickles withholds nothing.

    told of less than it takes    --                 nothing
    told of more                  opened             `announce` is entered
    ten seconds of good progress  a further round    entered anew, and what came so far has been shown
    taken in, or given up         closed             left
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from lamport.chain import Head
from lamport.ids import StreamId

WORTH_EVENTS = 32
"""Lacking events that make a catch-up: fewer are folded as cheaply one by one as they come."""

ROUND_S = 10.0
"""After so long, what has come is shown even if the end is not in sight (`fish.feed` holds back no longer)."""

ROUND_EVENTS = 1_000
"""Events of a round that make the next one worth holding back for; who brings less is not waited for again."""


class CatchUp:
    """What one node is catching up with; shared by its sessions, each of which is a `source`."""

    def __init__(
        self,
        held: Callable[[StreamId], Head],
        announce: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._held = held
        self._announce = announce
        self._goals: dict[object, dict[StreamId, int]] = {}
        self._announced: AbstractContextManager[None] | None = None
        self._since = 0.0
        self._came = 0

    @property
    def is_open(self) -> bool:
        """Whether one is under way."""
        return self._announced is not None

    def hear(self, source: object, told: Mapping[StreamId, int], now: float) -> None:
        """A source has told how far it holds some streams that are lacking here."""
        if not told:
            return
        goals = self._goals.setdefault(source, {})
        goals.update(told)
        if self._announced is None and self._lacking(goals) >= WORTH_EVENTS:
            self._open(now)

    def took(self, stream: StreamId, events: int) -> None:
        """So many events of a stream were taken in, from whomever."""
        self._came += events
        offset = self._held(stream).offset
        for goals in self._goals.values():
            if goals.get(stream, offset + 1) <= offset:
                del goals[stream]
        self._close_if_done()

    def review(self, source: object, lacks: Callable[[StreamId], bool], now: float) -> None:
        """Time has passed: forget what can no longer be had from a source."""
        goals = self._goals.get(source, {})
        for stream in [one for one in goals if not lacks(one)]:
            del goals[stream]
        self._close_if_done()
        if self._announced is not None and now - self._since >= ROUND_S:
            self._go_on(now)

    def gone(self, source: object) -> None:
        """Nothing more comes from a source."""
        self._goals.pop(source, None)
        self._close_if_done()

    def _lacking(self, goals: Mapping[StreamId, int]) -> int:
        return sum(max(0, goal - self._held(stream).offset) for stream, goal in goals.items())

    def _open(self, now: float) -> None:
        self._announced = self._announce()
        self._announced.__enter__()
        self._since, self._came = now, 0

    def _go_on(self, now: float) -> None:
        """Begin a further round before the last one ends: in between nothing is taken for complete."""
        if self._came >= ROUND_EVENTS:
            last = self._announced
            self._open(now)
            assert last is not None, "rounds follow each other"
            last.__exit__(None, None, None)

    def _close_if_done(self) -> None:
        announced = self._announced
        if announced is not None and not any(self._goals.values()):
            self._announced = None
            announced.__exit__(None, None, None)
