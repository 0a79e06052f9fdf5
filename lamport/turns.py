"""Whose turn it is: the requests that wait for a commit, and which of them the next one takes.

What this node asks for itself stands in one line, what came from others in one line for each author, and every line
keeps its order. A *short* request (an append of one event, say, or a range of few) is what somebody waits for; a *long*
range is what a peer brings that catches up, or floods. Short ranges go first, and all that is appended has room beside
the long ones. The log is *lively* for an author while somebody else brings what is short. Then a commit takes one of
the author's long ranges at most, the authors' in turn, and none beside others unless the commit before left it out for
them; behind it long ranges rest for up to twice the time that it took, as long as somebody comes. So whoever brings one
little thing after the other finds the writer free two times of three, and else waits for one long range, however many
stand there; and these go on at a third of their speed at worst. Whoever comes seldom waits for one commit of some
thousand events of long ranges: more of them are not put together, and where nobody comes they do not rest.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from lamport.ids import NodeId
from lamport.requests import Request

MAX_COMMIT_EVENTS = 10_000
"""A commit takes no further request once it holds this many events (the last one may go beyond: a call of
`EventLog.publish` may be as long, and is not divided) …"""

MAX_COMMIT_BYTES = 8 * 1024 * 1024
"""… or bytes: what it writes is in memory twice meanwhile."""

MAX_LONG_EVENTS = 2_000
"""A commit takes no further long range once it holds this many events of such: their sync is shared by then (it costs
about as much as a hundred events), and whoever comes meanwhile waits some 50 ms and not 250."""

LIVELY_S = 0.25
"""How long behind a short request the next is expected. Who brings less than four a second is likely to come when
nothing is being written, or not for long; to keep the writer free for them would cost those who catch up too much."""

REST = 2
"""How many times as long as a long range took others have the writer for themselves: at three times, what catches up
would go on at a quarter of its speed, and who waits would gain a twelfth of a commit on average."""

QUIET_S = 0.005
"""A rest is over when nobody came for so long: who asks for one thing after the other asks sooner, even over a link."""

MAX_REST_S = 0.1
"""No longer, so that a disk that hangs for a moment does not hold up long ranges for many."""

_HEARD_AUTHORS = 2
"""The latest that brought something short: of two, one is somebody else than any author."""


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Turns:
    """The line at the writer's door."""

    def __init__(self, node: NodeId, most: int, now: Callable[[], float] = _loop_time) -> None:
        """`node` is whose log it is, which lets `most` wait at once; `now` is in seconds, by any steady clock."""
        self.most = most
        self._node = node
        self._now = now
        self._own: deque[Request] = deque()
        self._received: dict[NodeId, deque[Request]] = {}
        self._count = 0
        self._lively: dict[NodeId, float] = {}
        """Who was heard last, and until when more is expected of them."""
        self._heard: list[NodeId] = []
        """The same of what was taken last."""
        self._resting_until = self._quiet_until = self._began = float("-inf")
        self._is_passed_over = False
        self._is_long = False
        self._own_is_due = False

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._own) + self._count

    def __iter__(self) -> Iterator[Request]:
        """All that wait."""
        yield from self._own
        for line in self._received.values():
            yield from line

    def is_lively(self, author: NodeId) -> bool:
        """Whether others than this author have brought something short lately: what it brings is to make room."""
        return self._is_lively_at(author, self._now())

    def add(self, request: Request) -> None:
        """Put a request at the end of its line."""
        # What came of an own stream must not change places with what is appended to it.
        if request.author in (None, self._node):
            self._own.append(request)
        else:
            self._received.setdefault(request.author, deque()).append(request)
            self._count += 1

    def take(self) -> list[Request]:
        """What the next commit is to hold; nothing where nothing waits, or only what rests or was withdrawn."""
        for author in list(self._received):
            self._drop_withdrawn(author)
        group = _Group()
        self._began, self._is_long = self._now(), False
        self._take_short(group)
        self._hear([*group.requests, *self._own])
        # Where the one had no room beside the other, it has in the next commit.
        if self._own_is_due:
            self._take_own(group)
            self._take_long(group)
        else:
            self._take_long(group)
            self._take_own(group)
        return group.requests

    def took(self) -> None:
        """The commit of what was taken last, and what had to be done behind it, is over."""
        now = self._now()
        for author in self._heard:
            self._expect(author, now)
        self._quiet_until = now + QUIET_S
        if self._is_long:
            self._resting_until = now + min(REST * (now - self._began), MAX_REST_S)

    @property
    def rest_s(self) -> float | None:
        """How long what waits is to rest, unless more comes; None where nothing waits."""
        return max(self._rests_until - self._now(), 0.0) if self._count else None

    @property
    def _rests_until(self) -> float:
        return min(self._resting_until, self._quiet_until)

    def _hear(self, requests: Iterable[Request]) -> None:
        """Note whose short requests there are."""
        heard = dict.fromkeys(one.author or self._node for one in requests if one.is_short)
        self._heard = list(heard)[:_HEARD_AUTHORS]
        for author in self._heard:
            self._expect(author, self._began)

    def _expect(self, author: NodeId, now: float) -> None:
        self._lively.pop(author, None)
        self._lively[author] = now + LIVELY_S
        if len(self._lively) > _HEARD_AUTHORS:
            del self._lively[next(iter(self._lively))]

    def _is_lively_at(self, author: NodeId, now: float) -> bool:
        return any(now < until for other, until in self._lively.items() if other != author)

    def _take_own(self, group: "_Group") -> None:
        """What this node asks for itself."""
        before = len(group.requests)
        while self._own and group.has_room:
            group.add(self._own.popleft())
        self._own_is_due = bool(self._own) and len(group.requests) == before

    def _take_short(self, group: "_Group") -> None:
        """The short ones that are the first of their lines, one of each line in turn; they leave room for others."""
        while self._count and (authors := self._ahead()):
            for author in authors:
                if not group.has_much_room:
                    return
                self._take_of(author, group)

    def _ahead(self) -> list[NodeId]:
        return [author for author, line in self._received.items() if line[0].is_short]

    def _take_long(self, group: "_Group") -> None:
        """What waits besides; one request of it, or none yet, while others have something short to say."""
        if not (self._count and group.has_room):
            return
        first, before = next(iter(self._received)), group.events
        is_lively = self._is_lively_at(first, self._began)
        if is_lively and self._must_wait(others=bool(group.requests or self._own)):
            return
        self._is_passed_over, self._is_long = False, True
        self._take_of(first, group)
        if not is_lively:
            self._fill(group, before + MAX_LONG_EVENTS)

    def _fill(self, group: "_Group", most: int) -> None:
        while self._count and group.has_room and group.events < most:
            self._take_of(next(iter(self._received)), group)

    def _must_wait(self, *, others: bool) -> bool:
        if self._began < self._rests_until:
            return True
        passed_over, self._is_passed_over = self._is_passed_over, others
        return others and not passed_over

    def _take_of(self, author: NodeId, group: "_Group") -> None:
        """The first of an author's; the author's next is behind all others."""
        line = self._received.pop(author)
        group.add(line.popleft())
        self._count -= 1
        if line:
            self._received[author] = line
            self._drop_withdrawn(author)

    def _drop_withdrawn(self, author: NodeId) -> None:
        """What its caller has withdrawn is nobody's turn."""
        line = self._received[author]
        while line and line[0].result.cancelled():
            line.popleft()
            self._count -= 1
        if not line:
            del self._received[author]


class _Group:
    """What one commit is to hold."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.events = self._bytes = 0

    @property
    def has_room(self) -> bool:
        return self.events < MAX_COMMIT_EVENTS and self._bytes < MAX_COMMIT_BYTES

    @property
    def has_much_room(self) -> bool:
        return self.events < MAX_COMMIT_EVENTS / 2 and self._bytes < MAX_COMMIT_BYTES / 2

    def add(self, request: Request) -> None:
        """Take a request up, unless its caller has withdrawn it."""
        if request.result.cancelled():
            return
        self.requests.append(request)
        self.events, self._bytes = self.events + request.events, self._bytes + request.bytes
