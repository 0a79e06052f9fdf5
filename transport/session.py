"""The session between two nodes, without any input or output of its own.

Messages of the peer, commits of our log and the passing of time go in; messages to send, ranges to serve and ranges to
take in come out. Pull is the truth: both sides tell how far they hold every stream, and each asks for what it lacks.
Push is for speed: what is new goes out at once over the links of the push tree (`transport.tree`, `transport.roots`)
to peers that hold all before it; over all other links it is only announced.

    opened ── Greeting ──> greeted ── Heads(complete) ──> live ── Goodbye, fault ──> over

What is allowed in which phase stands in `transport.phases`. Bounds: a peer may have so many wants open, and so do we;
what waits to be sent is derived from heads (a stream stands in it at most once), so no queue grows with the backlog.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from lamport.chain import Head, Seal, SealedRange, chained
from lamport.forks import ForkProof
from lamport.ids import MAX_LAMPORT, NodeId, StreamId
from lamport.offsets import OffsetMap
from lamport.requests import is_short
from transport.aliases import Names
from transport.arriving import Arriving
from transport.aside import Aside
from transport.catchup import CatchUp
from transport.claims import SCANNED_STREAMS, Claims, OpenWant
from transport.clocks import PeerClock
from transport.confirming import Confirming
from transport.disclosures import Disclosures
from transport.errors import LinkEnded, PeerFault
from transport.horizons import Horizons, nothing_announced
from transport.journal import Journal
from transport.liveness import Liveness
from transport.messages import (
    MAX_TOLD_STREAMS,
    Addresses,
    Declined,
    Disclose,
    Eager,
    Events,
    Fork,
    Fresh,
    Goodbye,
    Greeting,
    Heads,
    Mark,
    Message,
    News,
    Ping,
    Pong,
    Root,
    Want,
    Why,
)
from transport.outbox import MAX_CONTROL, Outbox, Traffic
from transport.phases import ALLOWED, Phase, Taken
from transport.progress import Meters
from transport.ripening import Ripening
from transport.sending import Sending
from transport.tree import ANNOUNCED_TOGETHER_S, Edge, Tree
from transport.wants import Wants, wanted_at_once

MAX_SERVED = 64
"""Ranges that may stand in line for a peer: more than it can want at once, for it learns elsewhere, too."""


class Session:
    """One side of a session.

    `held` gives our head of a stream (its genesis where we hold nothing of it), `announced` its author's word for the
    horizon, `knows_author` whether we have a node's certificate, `grows` whether a stream can be taken in under that
    name: a branch of a forked one only once the fork is proven here, and what has a fork behind it no further. `reach`
    gives the highest timestamp that our log takes in now.
    `claims`, `tree`, `catch_up` and `journal` are shared by all sessions of a node, `clock` is what earlier sessions
    with this peer left, `wall_clock` is only shown to people. `now` is in seconds on any steady clock.
    """

    def __init__(
        self,
        *,
        program: str,
        held: Callable[[StreamId], Head],
        announced: Callable[[StreamId], Seal | None] = nothing_announced,
        knows_author: Callable[[NodeId], bool],
        claims: Claims,
        tree: Tree,
        journal: Journal,
        clock: PeerClock | None = None,
        wall_clock: Callable[[], int] = lambda: 0,
        now: float,
        grows: Callable[[StreamId], bool] = lambda _: True,
        reach: Callable[[], int] = lambda: MAX_LAMPORT,
        catch_up: CatchUp | None = None,
        is_lively: Callable[[NodeId], bool] = lambda _author: False,
    ) -> None:
        self.phase = Phase.OPENED
        self.peer_program = ""
        self.peer_unpacks = False
        self.theirs: dict[StreamId, int] = {}
        self._aside = Aside()
        self.diverged, self.quarantined = self._aside.diverged, self._aside.quarantined
        self.is_crowded: Callable[[NodeId], bool] = lambda _author: False
        """Whether an author's long ranges that nobody asked for are let go, to be asked for in turn."""
        self.edge = Edge(tree)
        self.traffic = Traffic()
        self.meters = Meters()
        self._held = held
        self._horizons = Horizons(announced)
        self._knows_author = knows_author
        self._catch_up = catch_up or CatchUp(held)
        self._grows = grows
        self._reach = reach
        self._is_lively = is_lively
        self.disclosures = Disclosures()
        self._tree = tree
        self._lacking: dict[StreamId, None] = {}
        self.wants = Wants(claims, self)
        self._takers = self._table()
        self._names = Names()
        self._arriving = Arriving(held)
        self._ripening = Ripening()
        self._journal = journal
        self._wall_clock = wall_clock
        self.confirming = Confirming(clock or PeerClock())
        known = self.confirming.clock
        self._sending = Sending(held, self._told, self._horizons, self.confirming, self._names)
        self._out = self._sending.out
        self._out.control.append(
            Greeting(program, journal.token, known.token, known.sequence, unpacks=True)
        )
        self.liveness = Liveness(now)

    @property
    def queue(self) -> Outbox:
        """What waits to be sent."""
        return self._out

    @property
    def offsets(self) -> OffsetMap:
        """What the peer holds, as far as it has told or confirmed."""
        return OffsetMap(self.confirming.clock.said)

    def take(self, message: Message, now: float) -> Taken:
        """Take in a message; returns the range or proof to put into the log, if it was one.

        Raises:
            PeerFault: the message has no place here.
        """
        if not isinstance(message, ALLOWED[self.phase]):
            raise PeerFault(
                f"{type(message).__name__} has no place in a session that is {self.phase.value}"
            )
        self.confirming.hears(message, now)
        return self._takers[type(message)](message, now)

    def taken(self, sealed: SealedRange, now: float, *, added: bool = True) -> None:
        """The log took the range in; it `added` nothing where it was held already or did not connect."""
        self._arrived(sealed)
        stream, offset = sealed.stream, sealed.seal.offset
        if added:
            self.wants.moved(sealed, now)
            self._catch_up.took(stream, len(sealed.events))
            self.meters.add(stream, len(sealed.events), now)
        elif self._held(stream).offset + 1 < sealed.first:
            self.wants.missed(sealed, self._held(stream).offset)
        elif stream not in self.wants.open and self._held(stream).offset >= offset:
            self._say(self.edge.came_twice(stream, offset))
        self.ask(now)

    def untaken(self, sealed: SealedRange, now: float) -> None:
        """Our log could not take the range in, through no fault of the peer: ask for it again."""
        self._arrived(sealed)
        self.wants.drop(sealed.stream)
        self.ask(now)

    def uncertified(self, sealed: SealedRange, now: float) -> None:
        """The range came without the certificate of its author, who is unknown here: ask for both.

        Where both were asked for, the answer may be on its way behind a push: a peer that leaves the certificate out
        is asked again in a while, and not as fast as it answers.
        """
        self._arrived(sealed)
        self.wants.tear(sealed.stream)
        self.ask(now)

    def contradicted(self, sealed: SealedRange, now: float) -> None:
        """The log refused the range because it contradicts the prefix held.

        It bears its author's seal, so this is no forgery of the peer's: the author has two histories, or somebody else
        moved our prefix while the peer answered. One that answers our question shows that the peer holds the other
        history; any other is asked about, with our hash.
        """
        self._arrived(sealed)
        want = self.wants.open.get(sealed.stream)
        if want is not None and want.first == sealed.first:
            self.wants.drop(sealed.stream)
            if chained(want.hash, sealed.events) != sealed.seal.hash:
                self.diverge(sealed.stream)
        self.ask(now)

    def diverge(self, stream: StreamId) -> None:
        """The peer holds another history of this stream: do not ask it to go on with ours."""
        self._aside.diverge(stream)
        self._let_be(stream)

    def proven(self, proof: ForkProof, now: float) -> None:
        """The log took a proof in: its branches can be asked for, and the stream that they come from no further."""
        for stream in (proof.stream, *proof.branches):
            self._lacking[stream] = None
        self.ask(now)

    def unproven(self, stream: StreamId, now: float) -> None:
        """Our log could not take in a proof of this stream's fork, through no fault of the peer: ask for it again."""
        self.disclosures.ask_again(stream)
        self.ask(now)

    def quarantine(self, stream: StreamId, lamport: int | None = None) -> None:
        """Our log will not take this stream in: do not ask for it again, or only once `lamport` is within reach."""
        self._arriving.forget(stream)
        self.wants.drop(stream)
        self._aside.quarantine(stream, lamport)
        self._let_be(stream)

    def _let_be(self, stream: StreamId) -> None:
        """What is not remembered as set aside, for there is too much, is asked for when the peer tells of it anew."""
        if stream not in self._aside:
            self._lacking.pop(stream, None)

    def _release(self) -> None:
        """Ask again for what would be taken in by now: the admin released it, or the clock has come nearer."""
        for stream in self._aside.release(self._reach):
            self._lacking[stream] = None
            self.disclosures.ask_again(stream)

    def committed(self, stream: StreamId, now: float, offset: int | None = None) -> None:
        """Our log holds more of a stream than before: up to an offset, or all that it holds by now.

        What came behind the offset meanwhile is about to be pushed: told now, it would be asked for as well.
        """
        offset = self._held(stream).offset if offset is None else offset
        if self._told(stream) >= offset:
            return
        if not (self._out.heads or self.edge.carries(stream.node)):
            self._out.heads_due = now + ANNOUNCED_TOGETHER_S
        self._out.heads[stream] = None

    def horizon_moved(self, stream: StreamId) -> None:
        """We have heard of a higher horizon of a stream."""
        if self._horizons.is_news(stream):
            self._out.heads[stream] = None

    def say(self, message: Addresses | Eager | Want) -> None:
        """Send what does no harm where it is left out, because the peer does not listen.

        A Want that comes from outside asks for what adds nothing here, to be compared with what is held.
        """
        if len(self._out.control) < MAX_CONTROL:
            self._out.control.append(message)

    def push(self, sealed: SealedRange, now: float) -> None:
        """Send a range that is new here, where the peer holds all before it and keeps up; else say that it is there."""
        stream = sealed.stream
        if self._told(stream) >= sealed.seal.offset:
            return
        if self.phase is Phase.LIVE and self._sending.push(sealed):
            self.traffic.events_out += len(sealed.events)
            self.theirs[stream] = sealed.seal.offset
        else:
            self.committed(stream, now)

    @property
    def next_due(self) -> float | None:
        """When `due` is to be called next, if nothing else happens."""
        times = self._ripening.next_due, self._out.heads_due
        return min((time for time in times if time is not None), default=None)

    def due(self, now: float) -> None:
        """A time that `next_due` named has come."""
        if self._out.heads_due is not None and self._out.heads_due <= now:
            self._out.heads_due = None
        self._ripening.due(now)
        self.ask(now)

    def elapsed(self, now: float) -> None:
        """Time has passed: ping a silent peer, ask elsewhere for what does not come.

        Raises:
            PeerFault: the peer has been silent for too long.
        """
        question = self.liveness.elapsed(
            now,
            answers_wait=bool(self._out.control),
            curious=self.edge.branch.wants_measuring,
        )
        if question is not None:
            self._out.control.append(question)
        self._release()
        self._catch_up.review(self, self._lacks, now)
        self._confirm(now)
        # Others get the first chance at what does not come; this session asks on from the next tick.
        if not self.wants.abandon_stuck(now):
            self.ask(now)

    def ask(self, now: float) -> None:
        """Ask for what the peer holds and we lack, as far as nobody else is being asked."""
        if self.phase is not Phase.LIVE:
            return
        self.wants.drop_fulfilled(self._held, self._grows)
        for stream in list(islice(self._lacking, SCANNED_STREAMS)):
            del self._lacking[stream]
            if self._told(stream) <= self._held(stream).offset:
                self._ripening.end(stream)
                continue
            if not self._grows(stream):
                if stream.branch and self._held(stream).offset < 0:
                    self._lacking[stream] = None
                    self.disclosures.ask(stream, self._out.control)
                continue
            self._lacking[stream] = None  # behind the others now
            arrives = self._arriving.reached(stream)[0] > self._held(stream).offset
            comes = arrives or stream in self.wants.open
            waits = comes or not self._ripening.is_ripe(stream, now)
            if not waits and self.wants.may_ask_for(stream):
                self._ask_for(stream, now)

    def close(self) -> None:
        """Give back what this session was fetching, and its place in the tree."""
        self.wants.close()
        self._catch_up.gone(self)
        self.edge.branch.close()

    @property
    def has_to_send(self) -> bool:
        """Whether `next_message` or `next_serving` has something."""
        out = self._out
        asked = out.serving or self.disclosures.wanted
        said = out.control or out.pushed or self.edge.branch.due or self._sending.has_heads
        return bool(said or asked)

    def next_message(self) -> Message | None:
        """The next message to send, None where nothing waits (there may still be something to serve)."""
        root = None if self._out.control else self.edge.branch.to_say()
        return self._sending.next() if root is None else root

    def next_serving(self) -> Want | None:
        """The next range to read and hand to `serve`, in turn; None where the peer wants nothing."""
        for stream in self._out.serving:
            return self._out.serving.pop(stream)
        return None

    def serve(self, want: Want, sealed: SealedRange | None, *, diverged: bool = False) -> Message:
        """The message that answers a Want; what is left of it goes to the end of the line."""
        if sealed is None:
            return Declined(want.stream, Why.DIVERGED if diverged else Why.UNKNOWN)
        self.theirs[want.stream] = max(self._told(want.stream), sealed.seal.offset)
        self.traffic.events_out += len(sealed.events)
        return self._sending.serve(want, sealed)

    def _take_greeting(self, message: Greeting, now: float) -> None:
        self.phase, self.peer_program = Phase.GREETED, message.program
        self.peer_unpacks = message.unpacks
        clock = self.confirming.clock
        if clock.bind(message.token):
            self.theirs = dict(clock.said)
            self._lacking = dict.fromkeys(filter(self._lacks, self.theirs))
            self._catch_up.hear(self, {one: self.theirs[one] for one in self._lacking}, now)
        self._sending.greet(self._journal.since(message.known_token, message.known))

    def _take_goodbye(self, message: Goodbye, _now: float) -> None:
        raise LinkEnded(f"the peer said goodbye: {message.reason}")

    @property
    def is_level(self) -> bool:
        """Whether the peer has told all, and all of it is held here but for what was set aside."""
        return self.phase is Phase.LIVE and not any(map(self._lacks, self._lacking))

    def _take_mark(self, message: Mark, now: float) -> None:
        self.confirming.take(message, now)
        self._confirm(now)

    def _confirm(self, now: float) -> None:
        """Where both sides are level, say so, and remember it for the next session."""
        if self.diverged or self.quarantined or not self.is_level:
            return
        self.confirming.is_level()
        if self._sending.is_quiet and self.confirming.clock.token:
            mark = self.confirming.mark(self._journal.sequence, now)
            self._out.control.extend([] if mark is None else [mark])

    def _take_heads(self, message: Heads, now: float) -> None:
        for head in message.heads:
            self._names.theirs.add(head.stream)
            self._compare(head.stream, head.offset, head.hash, now)
        for seal in message.horizons:
            if seal.stream in self.theirs:
                self._horizons.learn(seal)
        self._expect({head.stream: head.offset for head in message.heads}, now)
        opened = message.complete and self.phase is not Phase.LIVE
        if opened:
            self.phase = Phase.LIVE
            self.edge.branch.open()
        if opened or message.heads:
            self.ask(now)

    def _take_news(self, message: News, now: float) -> None:
        told = [(self._names.stream(one.alias), one) for one in message.news]
        for stream, one in told:
            self._compare(stream, one.offset, one.hash, now)
        self._expect({stream: one.offset for stream, one in told}, now)
        self.ask(now)

    def _expect(self, told: Mapping[StreamId, int], now: float) -> None:
        """Before the first of it is asked for: whoever folds events may want to fold all of it at once."""
        lacking = {one: offset for one, offset in told.items() if self._lacks(one)}
        self._catch_up.hear(self, lacking, now)

    def _told(self, stream: StreamId) -> int:
        """How far the peer holds a stream, by its own word."""
        return self.theirs.get(stream, -1)

    def _lacks(self, stream: StreamId) -> bool:
        """Whether the peer has told of more of a stream than is held here, and it can be had from it."""
        is_ahead = self._told(stream) > self._held(stream).offset
        return is_ahead and stream not in self._aside and self._grows(stream)

    def _compare(self, stream: StreamId, offset: int, hash_: bytes, now: float) -> None:
        """The peer holds a stream up to an offset, with a hash there (or the beginning of one)."""
        held = self._held(stream)
        self._learn(stream, offset)
        if offset == held.offset and not held.hash.startswith(hash_):
            self.diverge(stream)
            self.disclosures.suspects[stream] = offset
        if offset > held.offset and not self.edge.carries(stream.node) and self.phase is Phase.LIVE:
            self._ripening.begin(stream, now + self._tree.grace_s())

    def _learn(self, stream: StreamId, offset: int) -> None:
        """The peer holds a stream up to an offset. What it holds only grows while a session lasts."""
        if stream not in self.theirs and len(self.theirs) >= MAX_TOLD_STREAMS:
            raise PeerFault(f"more than {MAX_TOLD_STREAMS} streams told of")
        self.theirs[stream] = max(self._told(stream), offset)
        self.confirming.learns(stream, offset)
        if self.theirs[stream] <= self._held(stream).offset:
            return
        self._lacking[stream] = None

    def _take_want(self, want: Want, _now: float) -> None:
        if want.stream not in self._out.serving and len(self._out.serving) >= MAX_SERVED:
            raise PeerFault(f"more than {MAX_SERVED} ranges wanted at once")
        self._out.serving[want.stream] = want

    def _take_events(self, message: Events, _now: float) -> SealedRange:
        sealed = message.range
        self._names.theirs.add(sealed.stream)
        self._arriving.begin(sealed)
        self._learn(sealed.stream, sealed.seal.offset)
        self._horizons.learn(sealed.seal)
        self.traffic.events_in += len(sealed.events)
        return sealed

    def _take_fresh(self, message: Fresh, now: float) -> SealedRange | None:
        """A pushed range that leaves out what we know ourselves."""
        stream = self._names.stream(message.alias)
        last = message.first + len(message.events) - 1
        self._learn(stream, last)
        self.traffic.events_in += len(message.events)
        offset, hash_ = self._arriving.reached(stream)
        if offset >= last:
            self._say(self.edge.came_twice(stream, last))
        elif offset == message.first - 1 and not self._lets_go(message, stream, now):
            reached = chained(hash_, message.events)
            if reached.startswith(message.hash):
                seal = Seal(
                    stream, last, reached, message.clock, message.horizon, message.signature
                )
                sealed = SealedRange(message.first, message.events, seal, b"")
                self._arriving.begin(sealed)
                return sealed
            self.diverge(stream)
            self.disclosures.suspects[stream] = offset
        self.ask(now)
        return None

    def _lets_go(self, message: Fresh, stream: StreamId, now: float) -> bool:
        """Whether to take no part in a flood that the log has no room for: it is asked for when there is."""
        if is_short(len(message.events), sum(map(len, message.events))):
            return False
        if not self.is_crowded(stream.node):
            self.wants.claim(stream, now)  # nobody else need be asked for what comes by itself
            return False
        self._say(self.edge.let_go(stream.node))
        return True

    def _take_declined(self, message: Declined, now: float) -> None:
        stream = message.stream
        if stream not in self.wants:
            return
        self.wants.drop(stream)
        if message.why is Why.DIVERGED:
            self.diverge(stream)
        self.theirs.pop(stream, None)
        self.confirming.unlearns(stream)
        self.ask(now)

    def _arrived(self, sealed: SealedRange) -> None:
        """Whatever came of it, a range that was pushed is no longer on its way into the log."""
        if self._arriving.end(sealed):
            self.wants.release(sealed.stream)

    def _say(self, eager: Eager | None) -> None:
        if eager is not None:
            self.say(eager)

    def _take_ping(self, message: Ping, _now: float) -> None:
        if len(self._out.control) >= MAX_CONTROL:
            raise PeerFault(f"{MAX_CONTROL} questions asked without listening to an answer")
        self._out.control.append(Pong(message.token, self._wall_clock()))

    def _take_pong(self, message: Pong, now: float) -> None:
        round_trip_s = self.liveness.answered(message, now, self._wall_clock())
        if round_trip_s is not None:
            self.edge.branch.measured(round_trip_s)

    def _ask_for(self, stream: StreamId, now: float) -> None:
        first, before = self._horizons.place_to_ask_from(self._held(stream), self.theirs, now)
        if self.theirs[stream] < first or stream in self._aside:
            return
        if not self.wants.claim(stream, now):
            return
        is_lively = self._is_lively(stream.node)
        wanted = wanted_at_once(self.liveness.shortest_s, is_lively=is_lively)
        last = min(self.theirs[stream], first + wanted - 1)
        self.wants.begin(stream, OpenWant(first, last, before, now))
        self._tree.asked(stream, last)
        self._say(self.edge.came_late(stream.node))
        unknown = not self._knows_author(stream.node)
        self._out.control.append(Want(stream, first, last, before, certificate=unknown))

    def _table(self) -> Mapping[type[Message], Callable[[Any, float], Taken]]:
        """Who takes in which message."""
        return {
            Greeting: self._take_greeting,
            Heads: self._take_heads,
            News: self._take_news,
            Fresh: self._take_fresh,
            Eager: lambda message, _now: self.edge.obey(message),
            Root: lambda message, _now: self.edge.branch.hear(message),
            Want: self._take_want,
            Events: self._take_events,
            Declined: self._take_declined,
            Ping: self._take_ping,
            Pong: self._take_pong,
            Goodbye: self._take_goodbye,
            Mark: self._take_mark,
            Addresses: lambda _message, _now: None,  # the link hands them on
            Disclose: lambda message, _now: self.disclosures.want(message.branch),
            Fork: lambda message, _now: message.proof,
        }
