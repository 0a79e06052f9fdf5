"""A link: one live session over one channel.

Bytes of the peer become frames, messages, and at last sealed ranges that the log takes in; what the session wants to
say becomes bytes. Reading, taking in, sending and the clock are four tasks of one group: the first that fails ends all,
and nothing of it outlives the link.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NoReturn

from lamport.chain import Seal, SealedRange, Start
from lamport.errors import (
    CorruptRange,
    DamagedRange,
    DivergedStream,
    LimitExceeded,
    LogClosed,
    QuarantinedRange,
    StoreFailed,
    StoreRefused,
    UnknownAuthor,
)
from lamport.forks import ForkProof
from lamport.ids import NodeId, StreamId
from lamport.log import EventLog
from lamport.notices import Notice
from lamport.seams import INLINE, Work
from transport.buckets import Allowance
from transport.codec import decode_message, encode_message, is_packable, packed_message
from transport.errors import ForgedEvents, LinkEnded, PeerFault
from transport.exchange import heard
from transport.forks import ForkSearch
from transport.frames import FrameReader, frame
from transport.intake import Intake, Line
from transport.messages import (
    ANY_HASH,
    MAX_TOLD_STREAMS,
    Addresses,
    Fork,
    Goodbye,
    Heads,
    Message,
    Noticed,
    Notify,
    Want,
    weight,
)
from transport.network import Candidate, Channel
from transport.noticing import NoticeExchange
from transport.phases import Phase
from transport.repairs import Question
from transport.session import Session

READ_BYTES = 256 * 1024
"""Most bytes taken from a channel at once."""

MESSAGES_AT_ONCE = 32
"""Messages taken in before others get a turn, and before they are charged to the peer."""

TICK_S = 0.5
"""How often a session hears that time passes."""

GOODBYE_S = 0.5
"""How long a peer is given to take our last word."""

FULL_DISK_PAUSE_S = 1.0
"""How long nothing is taken in after the disk was found full."""

_log = logging.getLogger("shoal.transport")


class Link:
    """Runs a session over an authenticated channel behind its hello."""

    def __init__(
        self,
        channel: Channel,
        session: Session,
        log: EventLog,
        *,
        dialled: bool,
        told: Callable[[], None] = lambda: None,
        relay: Callable[[SealedRange, NodeId], None] = lambda _range, _source: None,
        learn: Callable[[Notice], Awaitable[object]] | None = None,
        work: Work = INLINE,
        met: Callable[[Sequence[Candidate]], None] = lambda _candidates: None,
    ) -> None:
        """Prepare a link.

        `told` is called whenever the peer has told something, or what it told was taken in; `relay` with each range
        that added to the log; `learn` takes in a notice of the admin, the log itself if nobody else does. Long ranges
        are packed by `work`. `met` is called with the addresses that the peer tells.
        """
        self.channel = channel
        self.session = session
        self.dialled = dialled
        self.since = asyncio.get_running_loop().time()
        self._log = log
        self._told = told
        self._relay = relay
        self._met = met
        self.told_addresses: tuple[tuple[Candidate, ...], float] = ((), float("-inf"))
        """What the peer was told of addresses, and when."""
        self._workers = work
        self._alarm: asyncio.TimerHandle | None = None
        self.question: Question | None = None
        """What this peer is asked for because the disk here has lost it."""
        self._forks = ForkSearch(session, log)
        self.intake = Intake()
        session.is_crowded = self._is_crowded
        self._notices = NoticeExchange(log.store.notices)
        self._has_greeted = False
        self._learn_notice = log.learn if learn is None else learn
        self._work = asyncio.Event()
        self._ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._failure: StoreFailed | None = None
        self._own_decision = self._is_to_be_heard = False
        self._allowance = Allowance()
        self._is_throttled = False
        """Whether the peer is not read from because it has sent too much."""
        self._unfollowed: dict[StreamId, Seal] = {}

    async def run(self, leftover: bytes = b"") -> Exception:
        """Serve the link until it ends; returns why. `leftover` is what arrived behind the hello.

        Whatever ended it first, a disk that failed is told of: the node must stop then. What is neither a
        `TransportError` nor an `OSError` is a fault of ours.
        """
        quick, steady = (partial(self._take_in, one) for one in self.intake.lines)
        parts = (partial(self._read, leftover), self._send, quick, steady, self._tick)
        try:
            async with asyncio.TaskGroup() as tasks:
                reading, sending, *others = (
                    tasks.create_task(self._run_part(part)) for part in parts
                )
                ended = await self._ended
                sending.cancel()
                if self._own_decision:
                    await self._say_goodbye(ended, reading)
                for task in (reading, *others):
                    task.cancel()
            await self._note_last()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            self.session.close()
            self.channel.abort()
        return self._failure or ended

    def end(self, reason: str, *, to_be_heard: bool = False) -> None:
        """End the link. Ending twice is fine.

        What is still on its way to the peer may be lost; where it is `to_be_heard`, the peer is given a moment to take
        it and to hang up first.
        """
        if not self._ended.done():
            self._own_decision, self._is_to_be_heard = True, to_be_heard
            self._ended.set_result(LinkEnded(reason))

    def tell(self, notice: Notice) -> None:
        """This node has a notice of the admin more: pass it on, if it is news to the peer."""
        self._notices.tell(notice)
        self._reconsider()
        self.wake()

    def _reconsider(self) -> None:
        """Of a node that was revoked there is room for more histories: ask again for what was one too many."""
        aside, revoked = self.session.quarantined, self._log.store.cuts.revoked
        for stream in [s for s, lamport in aside.items() if lamport is None and s.node in revoked]:
            del aside[stream]
            self.session.disclosures.ask_again(stream)

    @property
    def has_told(self) -> bool:
        """Whether the peer has told all that it held when the link began, and that was looked at."""
        return self._forks.compared

    def wake(self) -> None:
        """There may be something to send. Most ticks and most news of others give this peer nothing to hear."""
        if self.session.has_to_send or self._notices.has_to_send:
            self._work.set()
        due = self.session.next_due
        if due is not None and not self._ended.done():
            self._set_alarm(due)

    def _set_alarm(self, due: float) -> None:
        if self._alarm is not None:
            if self._alarm.when() <= due:
                return  # it looks again then
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(due, self._on_due)

    def _on_due(self) -> None:
        self._alarm = None
        self.session.due(self._now())
        self.wake()

    async def _run_part(self, part: Callable[[], Awaitable[None]]) -> None:
        """Run one of the link's tasks; what ends it ends the link.

        An end is a value and not the task's error: a group that is cancelled from outside in the very moment one of
        its tasks fails raises only the failure (python/cpython#116720), and a node's stop would go unheard.
        """
        try:
            await part()
        except Exception as error:  # noqa: BLE001 - see above; whoever runs the link tells of it
            if isinstance(error, StoreFailed):
                self._failure = error
            if not self._ended.done():
                self._ended.set_result(error)

    async def _say_goodbye(self, ended: Exception, reading: asyncio.Task[None]) -> None:
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(GOODBYE_S):
                # What the admin has signed is often why: whoever is revoked is to hear of it.
                while self._has_greeted and (notice := self._notices.next_message()) is not None:
                    await self._write(notice)
                await self._write(Goodbye(str(ended)))
                if self._is_to_be_heard:
                    await asyncio.wait([reading])  # until it hangs up

    async def _read(self, leftover: bytes) -> NoReturn:
        frames, count = FrameReader(), 0
        data = leftover
        while True:
            self.session.traffic.bytes_in += len(data)
            for raw in frames.feed(data):
                message = decode_message(raw)
                await self._take(message)
                count += weight(message)
                if count >= MESSAGES_AT_ONCE:
                    # Many small messages must not keep the node from all else, in however many reads they come.
                    await self._pause(self._allowance.heard(count, self._now()))
                    count = 0
            wait = self._allowance.read(len(data), self._now())
            if wait:
                await self._pause(wait)
            data = await self.channel.read(READ_BYTES)
            if not data:
                raise LinkEnded("the peer hung up")
            self.session.liveness.heard(self._now())

    def _is_crowded(self, author: NodeId) -> bool:
        """Whether a flood of an author's has no room in line, and would hold up others who have something to say.

        On its author's own link it holds up nobody but its author, as long as nobody else's turn depends on it.
        """
        in_the_way = author != self.channel.peer or self._log.is_lively(author)
        return in_the_way and self.intake.steady.is_full

    async def _pause(self, seconds: float) -> None:
        """Let others have their turn, and a peer that exceeds its allowance wait."""
        self._is_throttled = seconds > 0
        await asyncio.sleep(seconds)
        self._is_throttled = False

    async def _take(self, message: Message | None) -> None:
        if isinstance(message, Noticed | Notify):
            await self._hear(message)
            return
        if isinstance(message, Heads):
            self._notices.hear_heads()
            await self._follow_horizons(message.horizons)
        received = None if message is None else self.session.take(message, self._now())
        if isinstance(message, Addresses):
            self._met(heard(message.candidates, self.channel.peer, self.channel.remote))
        answered = self.question is not None and self.question.hear(message)
        if answered and isinstance(received, SealedRange):
            self.session.untaken(received, self._now())  # the log does not get it to see
        elif received is not None:
            await self.intake.put(received)
        try:
            await self._forks.hear(message)
        except DamagedRange as error:
            _log.error("not compared: %s", error)
        self.wake()
        self._told()

    async def _hear(self, message: Noticed | Notify) -> None:
        """Notices wait in line with the ranges: what comes behind one is taken in by its light."""
        if self.session.phase is Phase.OPENED:
            raise PeerFault("a notice has no place before the greeting")
        notice = self._notices.hear(message)
        if notice is not None:
            await self.intake.put(notice)
        self.wake()

    async def _follow_horizons(self, seals: Sequence[Seal]) -> None:
        """Before anything is asked for: nobody asks for what was pruned on purpose."""
        for seal in seals:
            if seal.stream not in self._log.offsets:
                # Its first events may be on their way, asked for before this was known.
                self._keep_unfollowed(seal)
                continue
            try:
                await self._log.follow_horizon(seal)
            except LogClosed as error:
                raise LinkEnded("this node is stopping") from error
            except CorruptRange as error:
                raise ForgedEvents(str(error)) from error
            except DamagedRange as error:
                _log.error("a horizon is not followed: %s", error)
            except StoreRefused as error:
                _log.error("a horizon is not followed for now: %s", error)
                self._keep_unfollowed(seal)

    def _keep_unfollowed(self, seal: Seal) -> None:
        other = self._unfollowed.get(seal.stream, seal)
        if seal.stream in self._unfollowed or len(self._unfollowed) < MAX_TOLD_STREAMS:
            self._unfollowed[seal.stream] = max(seal, other, key=lambda one: one.horizon)

    async def _follow_refused(self) -> None:
        """Try again to follow what the disk had no room for, or what was not held; the peer tells each horizon once."""
        refused, self._unfollowed = self._unfollowed, {}
        await self._follow_horizons(tuple(refused.values()))

    async def _take_in(self, line: Line) -> NoReturn:
        while True:
            received = await line.get()
            try:
                if isinstance(received, ForkProof):
                    await self._learn(received)
                elif isinstance(received, Notice):
                    await self._note(received)
                else:
                    await self._receive(received)
            except LogClosed as error:
                raise LinkEnded("this node is stopping") from error
            except StoreRefused as error:
                _log.error("nothing more is taken in for now: %s", error)
                await asyncio.sleep(FULL_DISK_PAUSE_S)
                if isinstance(received, SealedRange):
                    self.session.untaken(received, self._now())
                elif isinstance(received, ForkProof):
                    self.session.unproven(received.stream, self._now())
            line.done(received)
            self.wake()
            self._told()

    async def _receive(self, sealed: SealedRange) -> None:
        try:
            added = await self._log.receive(sealed)
        except DivergedStream:
            self.session.contradicted(sealed, self._now())
        except DamagedRange as error:
            _log.error("not compared: %s", error)
            self.session.contradicted(sealed, self._now())
        except UnknownAuthor:
            self.session.uncertified(sealed, self._now())
        except CorruptRange as error:
            raise ForgedEvents(str(error)) from error
        except QuarantinedRange as error:
            _log.warning("not taken in: %s", error)
            self.session.quarantine(sealed.stream, error.lamport)
        else:
            if added and self._log.store.grows(sealed.stream):
                self._relay(sealed, self.channel.peer)
            self.session.taken(sealed, self._now(), added=bool(added))

    async def _note(self, notice: Notice) -> None:
        """Take in a notice; the peer sends it once, so that a full disk is waited for."""
        while True:
            try:
                await self._learn_once(notice)
            except StoreRefused as error:
                _log.error("a notice of the admin cannot be kept for now: %s", error)
                await asyncio.sleep(FULL_DISK_PAUSE_S)
            else:
                return

    async def _learn_once(self, notice: Notice) -> None:
        try:
            await self._learn_notice(notice)
        except CorruptRange as error:
            raise ForgedEvents(str(error)) from error
        except LimitExceeded as error:
            _log.error("a notice of the admin is not kept: %s", error)

    async def _note_last(self) -> None:
        """Take in the notices that came and are not in the log: one may say why the peer has ended the link."""
        for line in self.intake.lines:
            for item in line.undone:
                if isinstance(item, Notice):
                    await self._run_part(partial(self._learn_once, item))

    async def _learn(self, proof: ForkProof) -> None:
        try:
            await self._log.forks.learn(proof)
        except (DivergedStream, DamagedRange) as error:
            _log.error("not taken in: %s", error)
        except CorruptRange as error:
            raise ForgedEvents(str(error)) from error
        except QuarantinedRange as error:
            _log.warning("not taken in: %s", error)
            self.session.quarantine(proof.stream, error.lamport)
        self.session.proven(proof, self._now())

    async def _send(self) -> NoReturn:
        while True:
            self._work.clear()
            notice = self._notices.next_message() if self._has_greeted else None
            if notice is not None:
                await self._write(notice)
                continue
            message = self.session.next_message()
            self._has_greeted = True
            if message is not None:
                await self._write(message)
            want = self.session.next_serving()
            if want is not None:
                size = await self._write(await self._answer(want))
                wait = self._allowance.served(size, self._now())
                if wait:
                    await asyncio.sleep(wait)
            branch = self.session.disclosures.next_wanted()
            if branch is not None:
                await self._disclose(branch)
            if message is None and want is None and branch is None:
                await self._work.wait()

    async def _disclose(self, branch: StreamId) -> None:
        """Send the proof of a branch; nothing where none is kept, for then we told of none."""
        proof = await self._log.forks.proof_of(branch)
        if proof is not None:
            await self._write(Fork(proof))

    async def _answer(self, want: Want) -> Message:
        """Read what a peer wants, if our stream is the one it knows."""
        limit, held = want.last - want.first + 1, None
        try:
            held = await self._log.hash_at(want.stream, want.first - 1)
            is_known = held == want.hash or self._begins_anew(want, held)
            if not is_known:
                if held is not None:
                    await self._forks.begin(want.stream, want.first - 1)
                return self.session.serve(want, None, diverged=held is not None)
            sealed = await self._log.served_range(want.stream, want.first, limit)
        except DamagedRange as error:
            _log.error("not sent: %s", error)
            sealed = None
        if sealed is not None and want.hash == ANY_HASH and sealed.start is None:
            sealed = replace(sealed, start=self._start(sealed, held))
        return self.session.serve(want, sealed)

    def _begins_anew(self, want: Want, held: bytes | None) -> bool:
        """Whether a want is not to be compared by its hash: all before it was, or is now, pruned."""
        if held is None:
            return want.first < self._log.horizons.get(want.stream, 0)
        return want.hash == ANY_HASH

    def _start(self, sealed: SealedRange, held: bytes | None) -> Start | None:
        """What a range needs with it for whoever has nothing before it."""
        seal = self._log.store.announced(sealed.stream)
        if held is None or sealed.first == 0:
            return None
        return Start(held, seal if seal is not None and seal.horizon >= sealed.first else None)

    async def _write(self, message: Message) -> int:
        """Send a message; returns its bytes."""
        data = encode_message(message)
        if self.session.peer_unpacks and is_packable(message, len(data)):
            data = await self._workers.run(packed_message, data)
        data = frame(data)
        self.session.traffic.bytes_out += len(data)
        await self.channel.write(data)
        self.session.liveness.said(self._now())
        return len(data)

    async def _review(self) -> None:
        try:
            await self._forks.review(self._now())
        except DamagedRange as error:
            _log.error("not compared: %s", error)

    async def _tick(self) -> NoReturn:
        while True:
            await asyncio.sleep(TICK_S)
            if self.intake.is_full or self._is_throttled:
                self.session.liveness.heard(self._now())  # it is we who do not read
            self.session.elapsed(self._now())
            await self._review()
            self.wake()
            if self._unfollowed:
                await self._follow_refused()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
