"""What is known of one peer, for people and their programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from lamport.ids import NodeId, StreamId
from lamport.offsets import OffsetMap, missing
from lamport.store import Store
from transport.clocks import PeerClock
from transport.link import Link
from transport.network import Address
from transport.phases import Phase
from transport.progress import Knowledge, StreamProgress


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer. What is said of `offsets` depends on the `knowledge`; `told_s` is how long ago it last told something.

    `lacking` are the streams that it is known to hold further than this node, `rate` the events a second it brings.
    """

    node: NodeId
    connected: bool
    cut: bool
    revoked: bool = False
    address: Address | None = None
    dialled: bool = False
    program: str = ""
    connected_for_s: float = 0.0
    round_trip_s: float | None = None
    skew_s: float | None = None
    """How far its wall clock is ahead of this node's."""
    queued: int = 0
    """Messages, streams to be told of and ranges that wait to be sent to it …"""
    queued_bytes: int = 0
    """… and the bytes of pushed events among them."""
    bytes_in: int = 0
    bytes_out: int = 0
    events_in: int = 0
    events_out: int = 0
    offsets: OffsetMap = field(default_factory=OffsetMap)
    knowledge: Knowledge = Knowledge.UNKNOWN
    told_s: float | None = None
    lacking: tuple[StreamProgress, ...] = ()
    rate: float = 0.0
    diverged: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    leaps: Mapping[StreamId, int] = field(default_factory=dict)
    """Those of the quarantined streams whose timestamps leap, each with the timestamp that is out of reach."""
    last_error: str = ""

    @property
    def missing(self) -> int:
        """Events that it is known to hold and this node lacks."""
        return sum(one.missing for one in self.lacking)

    @property
    def remaining_s(self) -> float | None:
        """How long it takes at this rate until they are here; None where none comes."""
        return self.missing / self.rate if self.rate else None


def away(status: PeerStatus, clock: PeerClock | None, store: Store, now: float) -> PeerStatus:
    """The status of a peer that is not linked, and what it told when it was."""
    if clock is None or clock.told_at is None:
        return status
    offsets = OffsetMap(clock.said)
    return replace(
        status,
        offsets=offsets,
        knowledge=Knowledge.PAST,
        told_s=now - clock.told_at,
        lacking=_lacking(store, offsets, lambda _: 0.0),
    )


def linked(
    node: NodeId, link: Link, store: Store, now: float, *, cut: bool, error: str
) -> PeerStatus:
    """A peer that is linked."""
    session, traffic = link.session, link.session.traffic
    told_at, is_live = session.confirming.clock.told_at, session.phase is Phase.LIVE
    offsets, aside = session.offsets, {*session.diverged, *session.quarantined}
    told = {s: offset for s, offset in offsets.items() if s not in aside}
    return PeerStatus(
        node,
        connected=True,
        cut=cut,
        address=link.channel.remote,
        dialled=link.dialled,
        program=session.peer_program,
        connected_for_s=now - link.since,
        round_trip_s=session.liveness.round_trip_s,
        skew_s=session.liveness.skew_s,
        queued=session.queue.waiting,
        queued_bytes=session.queue.pushed_bytes,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        events_in=traffic.events_in,
        events_out=traffic.events_out,
        offsets=offsets,
        knowledge=Knowledge.CURRENT if is_live else Knowledge.PARTIAL,
        told_s=None if told_at is None else now - told_at,
        lacking=_lacking(store, told, lambda one: session.meters.rate(one, now)),
        rate=session.meters.all.rate(now),
        diverged=tuple(one.address for one in session.diverged if store.grows(one)),
        quarantined=tuple(one.address for one in session.quarantined),
        leaps={one: to for one, to in session.quarantined.items() if to is not None},
        last_error=error,
    )


def _lacking(
    store: Store, told: Mapping[StreamId, int], rate: Callable[[StreamId], float]
) -> tuple[StreamProgress, ...]:
    """What a peer has told of that is not held here, and can be had."""
    heads = store.heads
    held = OffsetMap({s: heads[s].offset for s in told if s in heads})
    more = {s: offset for s, offset in told.items() if offset > held.of(s) and store.grows(s)}
    horizons = {s: one.announced for s, one in store.horizons.items() if s in more}
    return tuple(
        StreamProgress(one.stream, one.last, held.of(one.stream), len(one), rate(one.stream))
        for one in missing(held, OffsetMap(more), horizons)
    )
