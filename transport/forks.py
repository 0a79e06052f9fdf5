"""The search for the place where a peer's history of a stream parts from ours.

Two nodes that write one stream (a copied card beside its original) each hold what the other never wrote, and whoever
hears of one of them first does not follow the other. A peer that holds the other history can say so without having to
prove it, and a node that believes it would take every liar for a proof. So we ask for the bytes: from one offset before
the place where the hashes differ, then two, four, eight, always naming our hash. As soon as we ask from a place where
both are still one, the peer answers with sealed ranges up to where they differ: among them is one that bears the
author's seal over what is not held here. The log draws the conclusion (`EventLog.receive`).

A disputed stream is searched, too, though it does not grow: there the cut of a revocation says that there is another
history, and whoever tells of that stream may hold it. It is searched again when the peer holds more.
"""

import logging
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from lamport.chain import Head
from lamport.errors import DamagedRange
from lamport.ids import StreamId
from lamport.log import EventLog
from lamport.offsets import NOTHING
from transport.disclosures import MAX_SET_ASIDE
from transport.messages import Declined, Events, Heads, Message, Want, Why
from transport.phases import Phase
from transport.session import Session

MAX_SEARCHES = 4
"""Streams searched at a time; others wait for their turn."""

ANSWER_S = 10.0
"""How long a question keeps its turn unless something of the answer comes. Then others have theirs, and it is put
again behind them: the peer may have much to send, or was asked more than it could be told at once."""

_log = logging.getLogger("shoal.transport")


class Search(NamedTuple):
    """One that has its turn."""

    differs: int
    """Where the histories are known to differ."""
    step: int
    """How far before that is asked next."""
    waits_since: float | None = None
    """Since when nothing of an answer has come; None where nobody has looked since it last did."""


class ForkSearch:
    """Asks one peer about the streams of which it claims another history. Each is searched once in a session."""

    def __init__(self, session: Session, log: EventLog) -> None:
        self.compared = False
        """Whether all that the peer told at first was compared with what is held."""
        self._session = session
        self._log = log
        self._searched: dict[StreamId, int] = {}
        """Up to which offset each was."""
        self._offered: dict[StreamId, None] = {}
        self._waiting: dict[StreamId, int] = {}
        self._open: dict[StreamId, Search] = {}

    async def hear(self, message: Message | None) -> None:
        """Look at what the peer says, behind the session: it may know another history of a stream."""
        while self._session.disclosures.suspects:
            await self.begin(*self._session.disclosures.suspects.popitem())
        match message:
            case Heads(heads):
                for head in heads if not self.compared else ():
                    if await self._is_other(head.stream, head.offset, head.hash):
                        await self.begin(head.stream, head.offset)
                self.compared = self.compared or message.complete
            case Declined(stream, Why.DIVERGED) if stream in self._open:
                self._diverge(stream)
                await self._ask(stream)
            case Declined(stream, Why.DIVERGED):
                await self.begin(stream, self._log.offsets.of(stream))
            case Declined(stream):
                await self._end(stream)
            case Events(sealed) if sealed.stream in self._open:
                search = self._open[sealed.stream]
                if sealed.seal.offset >= search.differs:
                    await self._end(sealed.stream)
                else:
                    self._open[sealed.stream] = search._replace(waits_since=None)

    async def review(self, now: float) -> None:
        """Look for what a revocation has made of streams that the peer told of, before it or since.

        Search those that are disputed. Where nothing behind a fork counts, the peer is told of no branch, and cannot
        ask about one. If it tells of more than the histories have in common, or has told all and that is less, it gets
        the proof: it may hold one of them alone, and no seal at the fork that would vouch for what counts.
        Searches that get no answer make room for others.
        """
        await self._take_turns(now)
        store, told = self._log.store, self._session.theirs
        for stream in sorted(store.cuts.disputed):
            await self.begin(stream, told.get(stream, NOTHING))
        closed = store.branches.closed.items() if store.cuts else ()
        for stream, end in ((s, end) for s, end in closed if s.node in store.cuts.revoked):
            if self._is_apart(stream, end):
                self._offer([one.address for one in store.branches.children(stream)])

    def _is_apart(self, stream: StreamId, end: Head) -> bool:
        """Whether the peer counts more or less than we of what stands before a fork."""
        last, has_told_all = (
            self._session.theirs.get(stream, NOTHING),
            self._session.phase is Phase.LIVE,
        )
        counts = self._log.store.cuts.admits(stream, end.offset)
        return last > end.offset or (has_told_all and counts and last < end.offset)

    def _offer(self, branches: Sequence[StreamId]) -> None:
        is_told = any(one in self._log.store.heads for one in branches)
        if not is_told and branches[0] not in self._offered and len(self._offered) < MAX_SET_ASIDE:
            self._offered[branches[0]] = None
            self._session.disclosures.offer(branches[0])

    async def begin(self, stream: StreamId, offset: int) -> None:
        """The peer has another hash than we at an offset of a stream."""
        store = self._log.store
        if store.is_disputed(stream):
            offset = min(offset, store.cuts.named(stream), store.end(stream).offset + 1)
            done = offset <= self._searched.get(stream, -1) or stream in self._open
        else:
            done = stream in self._searched or not store.grows(stream)
        is_full = len(self._searched) >= MAX_SET_ASIDE and stream not in self._searched
        if done or offset < 0 or is_full:
            return
        self._searched[stream] = offset
        self._diverge(stream)
        self._waiting[stream] = offset
        await self._go_on()

    def _diverge(self, stream: StreamId) -> None:
        """Ask the peer for nothing more of a stream; of one that is disputed, what the cut names is still wanted."""
        if not self._log.store.is_disputed(stream):
            self._session.diverge(stream)

    async def _take_turns(self, now: float) -> None:
        """What has had its time makes room; what is still to be answered waits once more."""
        for stream, search in list(self._open.items()):
            if search.waits_since is None:
                self._open[stream] = search._replace(waits_since=now)
            elif now - search.waits_since >= ANSWER_S:
                del self._open[stream]
                self._waiting[stream] = search.differs
        await self._go_on()

    async def _go_on(self) -> None:
        while self._waiting and len(self._open) < MAX_SEARCHES:
            stream = next(iter(self._waiting))
            differs = self._waiting.pop(stream)
            if self._is_open_question(stream):
                self._open[stream] = Search(differs, 1)
                await self._ask(stream)

    def _is_open_question(self, stream: StreamId) -> bool:
        """Whether its fork is not proven yet, or the cut of a revocation still waits for another history."""
        return self._log.store.is_disputed(stream) or self._log.store.grows(stream)

    async def _ask(self, stream: StreamId) -> None:
        differs, step, _ = self._open[stream]
        begin = max(self._log.store.branches.first(stream), self._log.horizons.get(stream, 0))
        first = max(begin, differs + 1 - step)
        try:
            hash_ = await self._stored_hash(stream, first - 1)
        except DamagedRange as error:
            _log.error("not compared for now: %s", error)
            return  # by its next turn it may be mended
        if stream not in self._open:
            return  # the peer has answered meanwhile
        if hash_ is None or step > 2 * (differs + 1 - begin):
            await self._end(stream)
            return
        self._open[stream] = Search(differs, step * 2)
        self._session.say(Want(stream, first, differs, hash_, certificate=False))

    def _stored_hash(self, stream: StreamId, offset: int) -> Awaitable[bytes | None]:
        """A hash of what may not count any more, but is what the peer's history is held against."""
        return self._log.damages.noted(self._log.forks.prover.hash_at(stream, offset))

    async def _end(self, stream: StreamId) -> None:
        if self._open.pop(stream, None) is not None:
            await self._go_on()

    async def _is_other(self, stream: StreamId, offset: int, hash_: bytes) -> bool:
        """Whether another hash is held at an offset of the own stream, to which nothing may be added before.

        A peer that holds less of another stream asks for the rest, and names its hash.
        """
        before = (
            await self._log.hash_at(stream, offset) if stream in self._log.own_streams else None
        )
        return before is not None and before != hash_
