"""Whose turn it is: the requests that wait for a commit, and which of them the next one takes.

What this node asks for itself stands in one line, what came from others in one line for each author, and every line
keeps its order. A *short* request (an append of one event, say, or a range of few) is what somebody waits for; a *long*
range is what a peer brings that catches up, or floods. Short ranges and appends go first. While short requests come, a
commit takes one long range at most, the authors' in turn, and none beside others unless the commit before left it out
for them; then long ranges rest for twice the time that this one took. So whoever brings little finds the writer free
two times of three, and else waits for one long range, however many stand there; and these go on at a third of their
speed, never at none. Where nobody brings little, they are taken as fast as they come.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from lamport.ids import NodeId
from lamport.requests import Request

MAX_COMMIT_EVENTS = 10_000
"""A commit takes no further request once it holds this many events …"""

MAX_COMMIT_BYTES = 8 * 1024 * 1024
"""… or bytes."""

LIVELY_S = 1.0
"""How long behind a short request the next is expected."""

REST = 2
"""How many times as long as a long range took others have the writer for themselves."""

MAX_REST_S = 0.1
"""No longer, so that a disk that hangs for a moment does not hold up long ranges for many."""


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Turns:
    """The line at the writer's door."""

    def __init__(self, node: NodeId, now: Callable[[], float] = _loop_time) -> None:
        """`node` is whose log it is; `now` is in seconds, by any steady clock."""
        self._node = node
        self._now = now
        self._own: deque[Request] = deque()
        self._received: dict[NodeId, deque[Request]] = {}
        self._count = 0
        self._lively_until = self._resting_until = self._began = float("-inf")
        self._is_passed_over = False
        self._is_long = False

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._own) + self._count

    def __iter__(self) -> Iterator[Request]:
        """All that wait."""
        yield from self._own
        for line in self._received.values():
            yield from line

    @property
    def is_lively(self) -> bool:
        """Whether short requests have come lately: what is long is to make room for them."""
        return self._now() < self._lively_until

    def add(self, request: Request) -> None:
        """Put a request at the end of its line."""
        # What came of an own stream must not change places with what is appended to it.
        if request.author in (None, self._node):
            self._own.append(request)
        else:
            self._received.setdefault(request.author, deque()).append(request)
            self._count += 1

    def take(self) -> list[Request]:
        """What the next commit is to hold; nothing where nothing waits, or only what rests."""
        group = _Group()
        self._began, self._is_long = self._now(), False
        if self._count:
            self._take_short(group)
        while self._own and group.has_room:
            group.add(self._own.popleft())
        if group.shorts:
            self._lively_until = self._began + LIVELY_S
        if self._count:
            self._take_long(group)
        return group.requests

    def took(self) -> None:
        """The commit of what was taken last, and what had to be done behind it, is over."""
        if self._is_long:
            now = self._now()
            self._resting_until = now + min(REST * (now - self._began), MAX_REST_S)

    @property
    def rest_s(self) -> float | None:
        """How long what waits is to rest, unless more comes; None where nothing waits."""
        return max(self._resting_until - self._now(), 0.0) if self._count else None

    def _take_short(self, group: "_Group") -> None:
        """The short ones that are the first of their lines, one of each line in turn; they leave room for others."""
        authors = self._ahead()
        while authors and group.has_much_room:
            for author in authors:
                self._take_of(author, group)
            authors = self._ahead()

    def _ahead(self) -> list[NodeId]:
        return [author for author, line in self._received.items() if line[0].is_short]

    def _take_long(self, group: "_Group") -> None:
        """What waits besides; one request of it, or none yet, while others have something short to say."""
        is_lively = self._began < self._lively_until
        if is_lively and self._must_wait(group):
            return
        self._is_passed_over, self._is_long = False, True
        self._take_of(next(iter(self._received)), group)
        while self._count and group.has_room and not is_lively:
            self._take_of(next(iter(self._received)), group)

    def _must_wait(self, group: "_Group") -> bool:
        if self._began < self._resting_until:
            return True
        passed_over, self._is_passed_over = self._is_passed_over, bool(group.requests)
        return self._is_passed_over and not passed_over

    def _take_of(self, author: NodeId, group: "_Group") -> None:
        """The first of an author's; the author's next is behind all others."""
        line = self._received.pop(author)
        group.add(line.popleft())
        self._count -= 1
        if line:
            self._received[author] = line


class _Group:
    """What one commit is to hold."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.shorts = 0
        self._events = self._bytes = 0

    @property
    def has_room(self) -> bool:
        return self._events < MAX_COMMIT_EVENTS and self._bytes < MAX_COMMIT_BYTES

    @property
    def has_much_room(self) -> bool:
        return self._events < MAX_COMMIT_EVENTS / 2 and self._bytes < MAX_COMMIT_BYTES / 2

    def add(self, request: Request) -> None:
        """Take a request up, unless its caller has withdrawn it."""
        if request.result.cancelled():
            return
        self.requests.append(request)
        self.shorts += request.is_short
        self._events, self._bytes = self._events + request.events, self._bytes + request.bytes
