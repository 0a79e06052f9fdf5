"""What one side of a session sends, most urgent first, and each thing as short as it can be said.

A stream is told of in full once and by its number from then on; a range that the peer can connect leaves out what the
peer knows, and an author's certificate goes with the first range of the author's that begins a stream.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from lamport.chain import Head, SealedRange
from lamport.ids import NodeId, StreamId
from transport.aliases import Names
from transport.confirming import Confirming
from transport.horizons import Horizons
from transport.messages import (
    MAX_HEADS,
    SHORT_HASH_BYTES,
    Events,
    Fresh,
    Heads,
    Message,
    News,
    Novelty,
    Want,
)
from transport.outbox import MAX_PUSHED_BYTES, Outbox
from transport.tree import RELAYED_EVENTS


class Sending:
    """The messages of one side, out of its outbox. Heads wait until the session is `greeted`."""

    def __init__(
        self,
        held: Callable[[StreamId], Head],
        heard: Callable[[StreamId], int],
        horizons: Horizons,
        confirming: Confirming,
        names: Names,
    ) -> None:
        self.out = Outbox()
        self.told: dict[StreamId, int] = {}
        """How far this side has told that it holds streams."""
        self.greeted = False
        self._held = held
        self._heard = heard
        self._horizons = horizons
        self._confirming = confirming
        self._names = names
        self._introduced: dict[NodeId, None] = {}

    def greet(self, untold: list[StreamId]) -> None:
        """The peer has said what it knows: these are to be told first."""
        self.out.heads = dict.fromkeys(untold) | self.out.heads
        self.out.greeting = self.greeted = True

    @property
    def has_heads(self) -> bool:
        """Whether there are heads to be told now."""
        out = self.out
        due = out.heads and out.heads_due is None and self.greeted
        return out.greeting or bool(due)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits that tells of streams, now or later."""
        out = self.out
        waiting = out.pushed, out.heads, out.serving
        return not (out.greeting or any(map(bool, waiting)))

    def next(self) -> Message | None:
        """The next message; None where nothing waits."""
        message = self._next()
        if message is not None:
            self._confirming.sends(message)
        if isinstance(message, Events):
            self._confirming.sends_range(message.range.stream, message.range.seal.offset)
        elif isinstance(message, Fresh):
            last = message.first + len(message.events) - 1
            self._confirming.sends_range(self._names.said(message.alias), last)
        return message

    def serve(self, want: Want, sealed: SealedRange) -> Events:
        """The range that answers a Want; what is left of that goes to the end of the line."""
        if sealed.seal.offset < want.last:
            rest = replace(
                want, first=sealed.seal.offset + 1, hash=sealed.seal.hash, certificate=False
            )
            self.out.serving.setdefault(want.stream, rest)  # a newer Want of the stream stands
        self._names.ours.add(sealed.stream)
        answer = Events(sealed if want.certificate else replace(sealed, certificate=b""))
        self._confirming.sends(answer)
        self._confirming.sends_range(want.stream, sealed.seal.offset)
        return answer

    def push(self, sealed: SealedRange) -> bool:
        """Put a range in line, as short as it can be said; returns whether the peer is near enough and keeps up."""
        stream, size = sealed.stream, sum(map(len, sealed.events))
        if not self._is_near(sealed) or self.out.pushed_bytes + size > MAX_PUSHED_BYTES:
            return False
        self.out.pushed.append(self._pushed(sealed))
        self.out.pushed_bytes += size
        self._horizons.tell(sealed.seal)
        if not self._horizons.is_news(stream):
            self.out.heads.pop(stream, None)
        return True

    def _is_near(self, sealed: SealedRange) -> bool:
        """Whether the peer holds all before a range, or was just told of it and gets it from somebody."""
        held, before = self._heard(sealed.stream), sealed.first - 1
        told = self.told.get(sealed.stream, held)
        return held == before or (told >= before and before - held <= RELAYED_EVENTS)

    def _next(self) -> Message | None:
        out = self.out
        if out.control:
            return out.control.popleft()
        if out.pushed:
            pushed = out.pushed.popleft()
            if isinstance(pushed, Events):
                self._names.ours.add(pushed.range.stream)
                out.pushed_bytes -= sum(map(len, pushed.range.events))
            else:
                out.pushed_bytes -= sum(map(len, pushed.events))
            return pushed
        return self._next_heads() if self.has_heads else None

    def _next_heads(self) -> Heads | News | None:
        """Tell of streams in full the first time, and in short from then on, if the peer has not told as much since."""
        out = self.out
        in_full = list(islice(self._to_tell_in_full(), MAX_HEADS + 1))
        short = not (in_full or out.greeting)
        streams = list(islice(out.heads, MAX_HEADS)) if short else in_full[:MAX_HEADS]
        for stream in streams:
            del out.heads[stream]
        self.told.update((stream, self._held(stream).offset) for stream in streams)
        if short:
            news = [one for one in streams if self._held(one).offset > self._heard(one)]
            return News(tuple(map(self._novelty, news))) if news else None
        # What has moved again since it was told is no part of the beginning: the news tell of it.
        complete = len(in_full) <= MAX_HEADS or not out.greeting
        out.greeting = not complete
        heads = tuple(h for h in map(self._held, streams) if h.offset >= 0)
        for head in heads:
            self._names.ours.add(head.stream)
        return Heads(heads, complete, self._horizons.news(heads))

    def _to_tell_in_full(self) -> Iterator[StreamId]:
        is_news = self._horizons.is_news
        named = self._names.ours if self.out.greeting else self._names
        return (one for one in self.out.heads if one not in named or is_news(one))

    def _novelty(self, stream: StreamId) -> Novelty:
        head = self._held(stream)
        return Novelty(self._names.of(stream), head.offset, head.hash[:SHORT_HASH_BYTES])

    def _pushed(self, sealed: SealedRange) -> Events | Fresh:
        """As short as it can be said: the peer holds what is before it, and may know the stream by number."""
        stream, seal = sealed.stream, sealed.seal
        if stream not in self._names or sealed.first == 0:
            return Events(self._introducing(sealed))
        return Fresh(
            self._names.of(stream),
            sealed.first,
            sealed.events,
            seal.hash[:SHORT_HASH_BYTES],
            seal.clock,
            seal.horizon,
            seal.signature,
        )

    def _introducing(self, sealed: SealedRange) -> SealedRange:
        """The range with its author's certificate the first time; who holds what is before it has that already."""
        if sealed.first > 0 or sealed.stream.node in self._introduced:
            return replace(sealed, certificate=b"")
        self._introduced[sealed.stream.node] = None
        return sealed
