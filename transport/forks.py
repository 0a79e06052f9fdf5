"""The search for the place where a peer's history of our own stream parts from ours.

Two nodes that write one stream (a copied card beside its original) each hold what the other never wrote. A peer that
holds the other history can say so without having to prove it, and a node that believes it would give up its stream for
every liar. So we ask for the bytes: from one offset before the place where the hashes differ, then two, four, eight,
always naming our hash. As soon as we ask from a place where both are still one, the peer answers with a sealed range,
and in that our own signature stands over what we did not write. The log draws the conclusion (`EventLog.receive`).
"""

from lamport.chain import Head
from lamport.ids import StreamId
from lamport.log import EventLog
from transport.messages import Declined, Heads, Message, Want, Why
from transport.session import Session


class ForkSearch:
    """Asks one peer about the streams that this node writes; one that turns out to be forked is enough to leave all."""

    def __init__(self, session: Session, log: EventLog) -> None:
        self.compared = False
        """Whether all that the peer told at first was compared with what is held."""
        self._session = session
        self._log = log
        self._stream: StreamId | None = None
        self._differs = self._step = 0

    async def hear(self, message: Message | None) -> None:
        """Look at what the peer says, behind the session: it may know another history of our stream."""
        own = self._log.own_streams
        match message:
            case Heads(heads) if not self.compared:
                for head in heads:
                    if head.stream in own and await self._is_other(head):
                        await self.begin(head.stream, head.offset)
                self.compared = message.complete
            case Declined(stream, Why.DIVERGED) if stream in own:
                if self._stream == stream:
                    await self._ask()
                else:
                    await self.begin(stream, self._log.offsets.of(stream))

    async def begin(self, stream: StreamId, offset: int) -> None:
        """The peer has another hash than we at an offset of a stream; of others' streams nothing is asked."""
        own = self._log.own_streams
        if stream in own and self._stream not in own:
            self._session.diverge(stream)
            self._stream, self._differs, self._step = stream, offset, 1
            await self._ask()

    async def _ask(self) -> None:
        assert self._stream is not None, "begun"
        first = max(0, self._differs + 1 - self._step)
        hash_ = await self._log.hash_at(self._stream, first - 1)
        if hash_ is not None and self._step <= 2 * (self._differs + 1):
            self._step *= 2
            self._session.question(
                Want(self._stream, first, self._differs, hash_, certificate=False)
            )

    async def _is_other(self, head: Head) -> bool:
        held = await self._log.hash_at(head.stream, head.offset)
        return held is not None and held != head.hash
