"""What waits to be put into a commit: who asked, for what, and where the answer goes."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lamport.commit import CommitBuilder
from lamport.errors import LogError
from lamport.event import Event

MAX_COMMIT_EVENTS = 10_000
"""A commit takes no further request once it holds this many events …"""

MAX_COMMIT_BYTES = 8 * 1024 * 1024
"""… or bytes."""


@dataclass(slots=True)
class Request:
    """Something the writer is to put into a commit, and where its result goes."""

    apply: Callable[[CommitBuilder], tuple[Event, ...]]
    events: int
    bytes: int
    result: asyncio.Future[tuple[Event, ...]]


def gather(waiting: deque[Request]) -> list[Request]:
    """Take whatever waits, up to a commit's size, at least one request."""
    group: list[Request] = []
    events = size = 0
    while waiting and events < MAX_COMMIT_EVENTS and size < MAX_COMMIT_BYTES:
        request = waiting.popleft()
        if not request.result.cancelled():
            group.append(request)
            events, size = events + request.events, size + request.bytes
    return group


def attempt(request: Request, builder: CommitBuilder) -> tuple[Event, ...] | LogError:
    """Put one request into the commit; its own fault must not touch the others."""
    try:
        return request.apply(builder)
    except LogError as error:
        return error


def settle(group: Iterable[Request], results: Sequence[tuple[Event, ...] | LogError]) -> None:
    """Answer requests, each with its events or its error."""
    for request, result in zip(group, results, strict=True):
        if request.result.done():  # its caller was cancelled
            continue
        if isinstance(result, LogError):
            request.result.set_exception(result)
        else:
            request.result.set_result(result)
