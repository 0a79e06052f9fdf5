"""Asks peers for what this node's disk has damaged, while everything else goes on.

The log knows which pieces of its streams do not hold (`lamport.repair`). One piece at a time is asked of one linked
peer that holds it, by the same Want as everything else, naming the hash before it; what comes back must lead to the
hash that is kept here behind it. A peer that does not answer, or answers with something else, is followed by the next;
where nobody has it, all are asked again from time to time, and the damage stays named in the status.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from lamport.chain import SealedRange
from lamport.errors import CorruptRange, DivergedStream, StoreMismatch, StoreRefused
from lamport.ids import NodeId
from lamport.log import EventLog
from lamport.offsets import OffsetRange
from lamport.repair import Mending, Piece
from transport.errors import ForgedEvents
from transport.messages import Declined, Events, Message, Want

if TYPE_CHECKING:  # a link hands its peer's answers to its question
    from transport.link import Link

ANSWER_S = 5.0
"""How long one peer is waited for."""

RETRY_S = 2.0
"""When to look again for somebody who has what nobody had."""

_log = logging.getLogger("shoal.transport")


class Question:
    """One piece, asked of one peer."""

    def __init__(self, mending: Mending) -> None:
        self.mending = mending
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether the peer had it."""

    def hear(self, message: Message | None) -> bool:
        """Whether a message belongs to the answer, and is not for the log.

        Raises:
            ForgedEvents: it would, but does not hold.
        """
        stream = self.mending.piece.stream
        match message:
            case Events(sealed) if (sealed.stream, sealed.first) == (stream, self.mending.due):
                self._take(sealed)
                return True
            case Declined(declined, _) if declined == stream:
                self._answer(had_it=False)
        return False

    def _take(self, sealed: SealedRange) -> None:
        if self.answered.done():
            return
        try:
            if self.mending.add(sealed):
                self._answer(had_it=True)
        except DivergedStream:
            self._answer(had_it=False)
        except CorruptRange as error:
            self._answer(had_it=False)
            raise ForgedEvents(str(error)) from error

    def _answer(self, *, had_it: bool) -> None:
        if not self.answered.done():
            self.answered.set_result(had_it)


class Repairs:
    """Mends the log of one node over the links it has."""

    def __init__(self, log: EventLog, links: "Mapping[NodeId, Link]") -> None:
        self._log = log
        self._links = links

    async def run(self) -> None:
        """Mend whatever is found damaged, until cancelled.

        Raises:
            StoreFailed: the disk failed altogether.
        """
        damages = self._log.damages
        while True:
            for damage in damages.spans if self._links else ():
                await self._mend(damage)
            if not damages.spans:
                await damages.found()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S):
                        await damages.found()

    async def _mend(self, damage: OffsetRange) -> None:
        """Mend all of a damage that somebody has."""
        before = None
        try:
            while (piece := await self._log.repair.piece(damage)) is not None:
                if piece == before:
                    _log.error("%s are damaged beyond what a node can mend while it runs", piece)
                    return
                if not await self._fetch(piece):
                    return
                before = piece
        except (StoreRefused, StoreMismatch) as error:
            _log.error("stream %s is not mended now: %s", damage.stream, error)
        else:
            self._log.mended(damage)
            self._tell(damage)

    def _tell(self, mended: OffsetRange) -> None:
        """Who asked for it meanwhile was declined, and does not ask for what it is not told of."""
        for link in self._links.values():
            link.session.committed(mended.stream, asyncio.get_running_loop().time())
            link.wake()

    async def _fetch(self, piece: Piece) -> bool:
        """Ask one peer after the other; returns whether the piece is as it was written again."""
        for node, link in sorted(self._links.items()):
            mending = self._log.repair.mending(piece)
            if _may_have(link, piece) and await _ask(link, mending):
                count = await self._log.repair.replace(mending)
                _log.warning("%s are mended: %s had the %d damaged", piece, node.short, count)
                return True
        return False


def _may_have(link: "Link", piece: Piece) -> bool:
    """Whether a peer is likely to send the piece; what it was asked for first it is to send first."""
    session, stream = link.session, piece.stream
    holds = session.theirs.get(stream, -1) >= piece.last.offset
    return holds and stream not in session.diverged and stream not in session.wants


async def _ask(link: "Link", mending: Mending) -> bool:
    """Ask one peer; returns whether the mending is complete."""
    piece = mending.piece
    link.question = Question(mending)
    link.session.say(
        Want(piece.stream, piece.first, piece.last.offset, piece.before.hash, certificate=True)
    )
    link.wake()
    try:
        async with asyncio.timeout(ANSWER_S):
            return await link.question.answered
    except TimeoutError:
        return False
    finally:
        link.question = None
