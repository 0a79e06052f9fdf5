"""What waits to be put into a commit: who asked, for what, and where the answer goes."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import TypeVar

from lamport.codec import EncodedDraft
from lamport.commit import CommitBuilder
from lamport.errors import LogError
from lamport.event import Event
from lamport.ids import NodeId

SHORT_EVENTS = 32
"""A request of at most so many events …"""

SHORT_BYTES = 128 * 1024
"""… and bytes is short."""

_Given = TypeVar("_Given")

Outcome = tuple[Event, ...] | LogError
"""What comes of a request: the events that it added, or why it added none."""


@dataclass(slots=True)
class Request:
    """Something for the writer to put into a commit, `drafts` or what `apply` does, and where the result goes."""

    apply: Callable[[CommitBuilder], tuple[Event, ...]] | None
    drafts: Sequence[EncodedDraft]
    events: int
    bytes: int
    result: asyncio.Future[tuple[Event, ...]]
    author: NodeId | None = None
    """Whose events they are, where they came from a peer."""

    @property
    def is_short(self) -> bool:
        """Whether it is taken up before those that are long."""
        return is_short(self.events, self.bytes)


def is_short(events: int, size: int) -> bool:
    """Whether a commit of so many events and bytes takes hardly longer than its sync does."""
    return events <= SHORT_EVENTS and size <= SHORT_BYTES


def put(
    group: Iterable[Request],
    builder: CommitBuilder,
    append: Callable[[CommitBuilder, Sequence[EncodedDraft]], tuple[Event, ...]],
) -> list[Outcome]:
    """Put requests into the commit in their order, each whole or not at all; its own fault touches no other.

    What several want to `append` one behind the other is appended at once, with one clock and one timestamp for all.
    """
    outcomes: list[Outcome] = []
    for apply, requests in groupby(group, key=lambda one: one.apply):
        if apply is None:
            outcomes += _append_all(list(requests), partial(append, builder))
        else:
            outcomes += [_attempt(apply, builder) for _ in requests]
    return outcomes


def _append_all(
    requests: Sequence[Request],
    append: Callable[[Sequence[EncodedDraft]], tuple[Event, ...]],
) -> list[Outcome]:
    together = _attempt(append, [draft for one in requests for draft in one.drafts])
    if isinstance(together, LogError):
        return [_attempt(append, one.drafts) for one in requests]
    events = iter(together)
    return [tuple(islice(events, len(one.drafts))) for one in requests]


def _attempt(act: Callable[[_Given], tuple[Event, ...]], given: _Given) -> Outcome:
    try:
        return act(given)
    except LogError as error:
        return error


def settle(group: Iterable[Request], results: Sequence[Outcome]) -> None:
    """Answer requests, each with its events or its error."""
    for request, result in zip(group, results, strict=True):
        if request.result.done():  # its caller was cancelled
            continue
        if isinstance(result, LogError):
            request.result.set_exception(result)
        else:
            request.result.set_result(result)
