"""What a node shows of itself, as JSON: the shapes that the API sends and the command line prints."""

from typing import Any

from fish.snapshots import Snapshot
from fish.states import state_to_json
from shoal.alarms import fork_to_json
from shoal.node import NodeStatus
from shoal.sync import Sync
from transport.progress import StreamProgress
from transport.standing import PeerStatus


def status_to_json(status: NodeStatus) -> dict[str, Any]:
    """A node's status. `missing` counts, per stream, the events that are known to exist elsewhere."""
    return {
        "node": str(status.node),
        "stream": str(status.stream),
        "listening": str(status.listening),
        "lamport": status.lamport,
        "offsets": status.offsets.to_json(),
        "missing": {stream.address: count for stream, count in sorted(status.missing.items())},
        "sync": sync_to_json(status.sync),
        "peers": [peer_to_json(peer) for peer in status.peers],
        "unreached": dict(status.unreached),
        "fish": list(status.fish),
        "stopped": dict(status.stopped),
        "damaged": {stream.address: why for stream, why in sorted(status.damaged.items())},
        "retracted": status.retracted,
        "voidRetractions": status.void_retractions,
        "forks": [fork_to_json(fork) for fork in status.forks],
        "named": {name: str(stream) for name, stream in status.named.items()},
        "horizons": {str(stream): first for stream, first in sorted(status.horizons.items())},
        "epoch": status.epoch,
        "quarantined": {one.address: to for one, to in sorted(status.quarantined.items())},
        "revoked": {str(node): cuts.to_json() for node, cuts in sorted(status.revoked.items())},
    }


def peer_to_json(peer: PeerStatus) -> dict[str, Any]:
    """One peer; times in seconds and milliseconds as their names say, absent values null."""
    round_trip_s = peer.round_trip_s
    return {
        "node": str(peer.node),
        "connected": peer.connected,
        "cut": peer.cut,
        "revoked": peer.revoked,
        "address": None if peer.address is None else str(peer.address),
        "dialled": peer.dialled,
        "program": peer.program,
        "connectedForSeconds": round(peer.connected_for_s, 3),
        "roundTripMs": None if round_trip_s is None else round(round_trip_s * 1_000, 3),
        "clockSkewSeconds": _rounded(peer.skew_s),
        "queued": peer.queued,
        "queuedBytes": peer.queued_bytes,
        "bytesIn": peer.bytes_in,
        "bytesOut": peer.bytes_out,
        "eventsIn": peer.events_in,
        "eventsOut": peer.events_out,
        "offsets": peer.offsets.to_json(),
        "knowledge": peer.knowledge.value,
        "toldSecondsAgo": _rounded(peer.told_s),
        "missing": peer.missing,
        "eventsPerSecond": round(peer.rate, 1),
        "remainingSeconds": _rounded(peer.remaining_s),
        "lacking": [progress_to_json(one) for one in peer.lacking],
        "diverged": list(peer.diverged),
        "quarantined": list(peer.quarantined),
        "lastError": peer.last_error,
    }


def progress_to_json(one: StreamProgress) -> dict[str, Any]:
    """How fetching one stream from one peer gets on; offsets are inclusive, -1 stands for nothing held."""
    return {
        "stream": one.stream.address,
        "known": one.known,
        "held": one.held,
        "missing": one.missing,
        "eventsPerSecond": round(one.rate, 1),
        "remainingSeconds": _rounded(one.remaining_s),
    }


def sync_to_json(sync: Sync) -> dict[str, Any]:
    """How a node stands towards its peers; of those that are away it is unknown what they wrote since."""
    return {
        "inSync": sync.is_reached(minimum_peers=1),
        "level": list(map(str, sync.level)),
        "behind": list(map(str, sync.behind)),
        "away": list(map(str, sync.away)),
        "missing": sync.missing,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def snapshot_to_json(name: str, snapshot: Snapshot[Any]) -> dict[str, Any]:
    """The state of a fish, the key of its last event and the offsets it covers."""
    return {
        "fish": name,
        "state": state_to_json(snapshot.state),
        "key": None if snapshot.key is None else str(snapshot.key),
        "offsets": snapshot.offsets.to_json(),
    }
