"""The network between simulated devices: authenticated byte streams over links that can be made bad.

A link is directed. Bytes written at one end arrive in order at the other, as TCP has it: what is lost on the way is
sent again and so comes later, and holds up what is behind it. A cut holds everything; when it heals, what is left of
the connection goes on. Whoever gives up a connection tells the other end so, if the link lets that through; otherwise
the other end is half open and must find out by itself.

Announcements are single datagrams: they can be lost, doubled and overtaken.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from lamport.ids import NodeId
from simulations.trace import Kind, Note, Trace
from simulations.wire import Eavesdropper, forged
from transport.errors import PeerRejected
from transport.identity import Identity, verify_certificate
from transport.network import Accept, Address, Candidate, Found

WINDOW_BYTES = 256 * 1024
"""Bytes of one direction that may be under way; a writer beyond that waits, as behind full socket buffers."""

SEGMENT_BYTES = 16 * 1024
"""Bytes that travel together."""

KNOCKS_S = (1.0, 2.0, 2.0)
"""Pauses between the attempts of a dial to get through (RFC 6298: a second, doubling), until it gives up after 5 s."""

RETRANSMISSION_S = 0.2
"""How much later a lost segment comes; doubled for each further loss of it."""

ANNOUNCEMENT_S = 1.0
"""How often a node announces itself."""

PORT = 4001

LATENCY_S = 0.002
BANDWIDTH = 50e6
"""A good link: how long a segment takes (and up to half as long again), and how many bytes a second."""


@dataclass(slots=True)
class Link:
    """One direction between two devices."""

    latency_s: float = LATENCY_S
    jitter_s: float = LATENCY_S / 2
    loss: float = 0.0
    duplication: float = 0.0
    bandwidth: float = BANDWIDTH
    cut: bool = False
    walls: int = 0
    """How many partitions stand between the two; each is taken away by itself."""
    stalled: bool = False
    """As a cut, but what is under way already, too, is held: connections stay open and silent."""
    forges: str = ""
    """What is altered in the next range of events, once: `event`, `seal`, or nothing."""
    was_forged: bool = False
    """Whether anything was ever forged, or may have been: whoever distrusts the source has a reason."""
    changed_at: float = 0.0
    """When it was last made better or worse."""

    @property
    def open(self) -> bool:
        """Whether anything gets through now."""
        return not (self.cut or self.stalled or self.walls)

    @property
    def condition(self) -> str:
        """What is the matter with it, in a word."""
        if not self.open:
            return "cut" if self.cut or self.walls else "stalled"
        return "open" if (self.latency_s, self.loss, self.bandwidth) == _GOOD else "slow"

    def mend(self) -> bool:
        """Make it whole and quick again; returns whether that changed anything."""
        was_good = self.condition == "open" and not self.duplication
        self.cut = self.stalled = False
        self.walls = 0
        self.forges = ""
        self.loss = self.duplication = 0.0
        self.latency_s, self.jitter_s, self.bandwidth = LATENCY_S, LATENCY_S / 2, BANDWIDTH
        return not was_good


_GOOD = (LATENCY_S, 0.0, BANDWIDTH)


@dataclass(slots=True)
class _Port:
    """A device that listens."""

    identities: Sequence[Identity]
    accept: Accept
    tasks: asyncio.TaskGroup
    channels: "list[SimulatedChannel]"


@dataclass(slots=True)
class Air:
    """All links, and who listens where. Devices are known by their names, which are their hosts."""

    randomness: random.Random
    trace: Trace
    multicast: bool = True
    """Whether announcements get through at all."""
    make_link: Callable[[], Link] = Link
    """What a link is like before anything is done to it."""
    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    ports: dict[str, _Port] = field(default_factory=dict)
    ears: dict[str, Found] = field(default_factory=dict)
    streams: list["Direction"] = field(default_factory=list)

    def link(self, source: str, target: str) -> Link:
        """The link from one device to another."""
        found = self.links.get((source, target))
        if found is None:
            found = self.links[source, target] = self.make_link()
        return found

    def changed(self) -> None:
        """Links were made better or worse: what waited may go on."""
        self.streams = [stream for stream in self.streams if not stream.over]
        for stream in self.streams:
            stream.pump()

    def on_the_way(self, source: str, target: str, data: bytes) -> bytes:
        """What becomes of bytes that are sent: the same, unless the link forges and they are a range of events."""
        link = self.link(source, target)
        if not link.forges:
            return data
        altered = forged(data, link.forges)
        if altered != data:
            link.forges = ""
            now = asyncio.get_running_loop().time()
            self.trace.note(Note(now, target, Kind.OPERATION, "gets a forged range", source, now))
        return altered

    def delay_s(self, link: Link) -> float:
        """How long a segment takes this time, losses included."""
        delay = link.latency_s + link.jitter_s * self.randomness.random()
        again = RETRANSMISSION_S
        while self.randomness.random() < link.loss:
            delay += again
            again = min(again * 2, 5.0)
        return delay


class Direction:
    """One direction of a connection: a queue of segments on their way, and what has arrived."""

    def __init__(self, air: Air, source: str, target: str) -> None:
        self.source, self.target = source, target
        self.over = False
        self.dead = False
        """Whether one end lost its power: what is sent goes nowhere, and nobody is told until it is on again."""
        self.arrived = bytearray()
        self.ended = False
        self.heard_at = asyncio.get_running_loop().time()
        self._air = air
        self._waiting: deque[tuple[bytes | None, float]] = deque()
        self._ear = Eavesdropper()
        self._flying = False
        self._under_way = 0
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Hand bytes over; waits while too many are under way."""
        data = self._air.on_the_way(self.source, self.target, data)
        for start in range(0, len(data), SEGMENT_BYTES):
            self._require_open()
            self._send(data[start : start + SEGMENT_BYTES])
            while self._under_way > WINDOW_BYTES:
                self._writable.clear()
                await self._writable.wait()
                self._require_open()

    async def read(self, limit: int) -> bytes:
        """What has arrived, at least a byte; nothing at the end."""
        while not self.arrived:
            if self.ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self.arrived[:limit])
        del self.arrived[:limit]
        return data

    def finish(self) -> None:
        """Tell the other end, behind everything under way, that nothing more comes."""
        self._waiting.append((None, asyncio.get_running_loop().time()))
        self.pump()

    def drop(self) -> None:
        """Forget the direction: its reader is gone, or its writer."""
        self.over = self.ended = True
        self._waiting.clear()
        self._readable.set()
        self._writable.set()

    def pump(self) -> None:
        """Put the next segment on the way if the link is open."""
        link = self._air.link(self.source, self.target)
        if self._flying or self.over or not self._waiting or not link.open:
            return
        self._flying = True
        segment, since = self._waiting.popleft()
        delay = self._air.delay_s(link) + len(segment or b"") / link.bandwidth
        asyncio.get_running_loop().call_later(delay, self._arrive, segment, since)

    def _send(self, segment: bytes) -> None:
        self._waiting.append((segment, asyncio.get_running_loop().time()))
        self._under_way += len(segment)
        self.pump()

    def _arrive(self, segment: bytes | None, since: float) -> None:
        self._flying = False
        if self.over:
            return
        if self.dead:
            self._arrive_nowhere(segment, since)
        elif not self._air.link(self.source, self.target).open:
            self._note(Kind.LOST, segment, since)
            self._waiting.appendleft((segment, since))  # sent again when the link is open
        else:
            self._deliver(segment, since)

    def _arrive_nowhere(self, segment: bytes | None, since: float) -> None:
        """A device that is on again answers what it knows nothing of with a reset; one that is off says nothing."""
        if self.target in self._air.ports:
            self.drop()
            return
        self._note(Kind.LOST, segment, since)
        self._flying = True
        asyncio.get_running_loop().call_later(RETRANSMISSION_S, self._arrive, segment, since)

    def _deliver(self, segment: bytes | None, since: float) -> None:
        if segment is None:
            self.ended = True
            self._air.trace.cover(f"{since!r}|{self.source} hangs up on {self.target}|")
        else:
            self._note(Kind.MESSAGE, segment, since)
            self._under_way -= len(segment)
            self.arrived += segment
        self.heard_at = asyncio.get_running_loop().time()
        self._readable.set()
        self._writable.set()
        self.pump()

    def _note(self, kind: Kind, segment: bytes | None, since: float) -> None:
        if segment is None:
            return
        now, trace = asyncio.get_running_loop().time(), self._air.trace
        text = self._ear.told(segment) if trace.keeps and kind is Kind.MESSAGE else ""
        trace.note(Note(now, self.target, kind, text, self.source, since), segment)

    def _require_open(self) -> None:
        if self.over:
            raise ConnectionResetError("the connection was dropped")


class SimulatedChannel:
    """One end of a connection; see `transport.network.Channel`."""

    def __init__(
        self,
        *,
        peer: NodeId,
        certificate: bytes,
        host: str,
        outgoing: Direction,
        incoming: Direction,
    ) -> None:
        self._peer = peer
        self._certificate = certificate
        self._remote = Address(host, PORT)
        self._outgoing = outgoing
        self._incoming = incoming
        self._is_dead = self._is_given_up = False

    @property
    def peer(self) -> NodeId:
        """The node at the other end."""
        return self._peer

    @property
    def peer_certificate(self) -> bytes:
        """Its certificate."""
        return self._certificate

    @property
    def remote(self) -> Address:
        """Its host."""
        return self._remote

    @property
    def heard_at(self) -> float:
        """When anything last came from the peer."""
        return self._incoming.heard_at

    async def read(self, limit: int) -> bytes:
        """See `Channel.read`."""
        return await self._incoming.read(limit)

    async def write(self, data: bytes) -> None:
        """See `Channel.write`."""
        await self._outgoing.write(data)

    def abort(self) -> None:
        """See `Channel.abort`."""
        if self._is_dead or self._is_given_up:
            return
        self._is_given_up = True
        self._incoming.drop()
        if self._outgoing.dead:
            self._outgoing.drop()
        else:
            self._outgoing.finish()

    @property
    def is_over(self) -> bool:
        """Whether both directions are forgotten."""
        return self._incoming.over and self._outgoing.over

    def die(self) -> None:
        """Lose this end's power: nothing goes out any more, nothing that comes is answered."""
        self._is_dead = self._incoming.dead = self._outgoing.dead = True


class SimulatedNetwork:
    """The network seam of one run of a device."""

    def __init__(self, air: Air, host: str, identity: Identity) -> None:
        self._air = air
        self._host = host
        self._identity = identity
        self._identities: Sequence[Identity] = (identity,)
        self._channels: list[SimulatedChannel] = []

    def adopt(self, identities: Sequence[Identity]) -> None:
        """See `Network.adopt`."""
        self._identities = tuple(identities)
        port = self._air.ports.get(self._host)
        if port is not None:
            port.identities = self._identities

    async def dial(self, address: Address) -> SimulatedChannel:
        """Connect to a device by its name."""
        there = self._air.link(self._host, address.host)
        back = self._air.link(address.host, self._host)
        await self._knock(there, back, address)
        await asyncio.sleep(self._air.delay_s(there) + self._air.delay_s(back))
        port = self._air.ports.get(address.host)
        if port is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        return self._connect(address.host, port)

    async def _knock(self, there: Link, back: Link, address: Address) -> None:
        """Wait until a first segment gets through both ways; it is sent again after 1 s and 3 s, as TCP does."""
        waited = 0.0
        for pause in KNOCKS_S:
            if there.open and back.open:
                return
            await asyncio.sleep(pause)
            waited += pause
        raise TimeoutError(f"{address} does not answer within {waited:.0f} s")

    @asynccontextmanager
    async def listen(self, accept: Accept) -> AsyncIterator[Address]:
        """Be reachable under this device's name."""
        async with asyncio.TaskGroup() as tasks:
            self._air.ports[self._host] = _Port(self._identities, accept, tasks, self._channels)
            try:
                yield Address(self._host, PORT)
            finally:
                del self._air.ports[self._host]
                self.drop_all()
                for task in tuple(tasks._tasks):  # noqa: SLF001 - there is no public list
                    task.cancel()

    def announce(self, _address: Address, found: Found) -> AbstractAsyncContextManager[None]:
        """Send announcements to all who hear them, now and then."""
        return self._announcing(found) if self._air.multicast else nullcontext()

    @property
    def open_channels(self) -> int:
        """How many connections are not over."""
        _forget_ended(self._channels)
        return len(self._channels)

    def drop_all(self, *, silently: bool = False) -> None:
        """Give up every connection, as a system does for a process that ends; `silently`, as a power cut does."""
        for channel in self._channels:
            if silently:
                channel.die()
            else:
                channel.abort()
        self._channels.clear()

    def _connect(self, host: str, port: _Port) -> SimulatedChannel:
        shown, certificate = self._common(host, port)
        out, back = Direction(self._air, self._host, host), Direction(self._air, host, self._host)
        self._air.streams += [out, back]
        peer = verify_certificate(certificate, shown.authority)
        theirs = SimulatedChannel(
            peer=self._identity.node,
            certificate=shown.certificate,
            host=self._host,
            outgoing=back,
            incoming=out,
        )
        now = asyncio.get_running_loop().time()
        self._air.trace.cover(f"{now!r}|{self._host} reaches {host}|")
        _forget_ended(port.channels)
        _forget_ended(self._channels)
        port.channels.append(theirs)
        port.tasks.create_task(_served(port.accept, theirs))
        ours = SimulatedChannel(
            peer=peer, certificate=certificate, host=host, outgoing=out, incoming=back
        )
        self._channels.append(ours)
        return ours

    def _common(self, host: str, port: _Port) -> tuple[Identity, bytes]:
        """This device's identity in the newest epoch that both ends have, and the certificate of the other's."""
        theirs = {one.authority: one.certificate for one in port.identities}
        for identity in reversed(self._identities):
            if identity.authority in theirs:
                return identity, theirs[identity.authority]
        raise PeerRejected(f"{host} proves no membership: it is of another epoch")

    @asynccontextmanager
    async def _announcing(self, found: Found) -> AsyncIterator[None]:
        self._air.ears[self._host] = found
        speaking = asyncio.create_task(self._speak())
        try:
            yield
        finally:
            del self._air.ears[self._host]
            speaking.cancel()

    async def _speak(self) -> None:
        candidate = Candidate(self._identity.node, (Address(self._host, PORT),))
        while True:
            for host in sorted(self._air.ears):
                if host != self._host:
                    self._say(host, candidate)
            await asyncio.sleep(ANNOUNCEMENT_S * self._air.randomness.uniform(0.5, 1.5))

    def _say(self, host: str, candidate: Candidate) -> None:
        """Send one datagram: it may come once, twice, late, or not at all."""
        link, draw = self._air.link(self._host, host), self._air.randomness.random
        copies = self._copies(link)
        if not copies:
            now = asyncio.get_running_loop().time()
            note = Note(now, host, Kind.LOST, "announcement", self._host, now)
            self._air.trace.note(note)
        for _ in range(copies):
            delay = link.latency_s + link.jitter_s * draw()
            asyncio.get_running_loop().call_later(delay, self._hear, host, candidate)

    def _copies(self, link: Link) -> int:
        """How often a datagram comes."""
        draw = self._air.randomness.random
        if draw() < link.loss:
            return 0
        return 2 if draw() < link.duplication else 1

    def _hear(self, host: str, candidate: Candidate) -> None:
        ear = self._air.ears.get(host)
        if ear is not None and self._air.link(self._host, host).open:
            now = asyncio.get_running_loop().time()
            self._air.trace.cover(f"{now!r}|{self._host} is heard by {host}|")
            ear(candidate)


def _forget_ended(channels: "list[SimulatedChannel]") -> None:
    channels[:] = [channel for channel in channels if not channel.is_over]


async def _served(accept: Accept, channel: SimulatedChannel) -> None:
    try:
        await accept(channel)
    finally:
        channel.abort()
