"""What a swarm says when nothing happens, and two nodes when they meet again and nothing is new."""

import asyncio
import statistics

from benchmarks.events import generate
from benchmarks.goals import GOALS
from benchmarks.nodes import fill, make_identities, running
from benchmarks.report import Better, Pair, Report, Row
from benchmarks.rounds import SIZE, fresh_folder
from benchmarks.swarm import NODES, sent_bytes, swarm
from shoal.node import Node

SETTLING_S = 20.0
"""How long the swarm is left alone before it is looked at …"""

SECONDS = 30.0
"""… and how long it is looked at."""

EVENTS = 1_000
"""Events that the two nodes hold which meet again, unless another number is asked for."""

MARKED_S = 6.0
"""How long these are left alone before their link is cut: until each has confirmed to the other what it holds."""

_IDLE = "idle, bytes sent per node and second"
_RECONNECTING = "idle, reconnecting with nothing new"
_RATE = "bytes/s"
_MEASURED = (
    f"bytes that the sockets of {NODES} linked nodes sent in {SECONDS:.0f} s in which nothing was published (TLS"
    " included, TCP and IP not), per node and second, the median node; against its goal. Reconnecting: bytes of"
    " all messages of both sides behind the hello, in the first second after a link was cut and healed; its goal, too."
)
_LEFT_OUT = "mDNS; handshakes; headers of TCP and IP."


def measure(events: int, runs: int) -> Report:
    """All rows."""
    idle = tuple(Pair(asyncio.run(_idle()), GOALS[_IDLE].plus) for _ in range(runs))
    met = tuple(
        Pair(asyncio.run(_meet_again(events)), GOALS[_RECONNECTING].plus) for _ in range(runs)
    )
    rows = (
        Row(_IDLE, _RATE, Better.LOWER, idle),
        Row(_RECONNECTING, SIZE, Better.LOWER, met),
    )
    return Report("idle", events, rows, _MEASURED, _LEFT_OUT)


async def _idle() -> float:
    async with swarm(make_identities(NODES)) as nodes:
        for node, sample in zip(nodes, generate(len(nodes)), strict=True):
            await node.publish(*sample)
        await asyncio.sleep(SETTLING_S)
        before = list(map(sent_bytes, nodes))
        await asyncio.sleep(SECONDS)
        after = list(map(sent_bytes, nodes))
    rates = [(late - early) / SECONDS for late, early in zip(after, before, strict=True)]
    return statistics.median(rates)


async def _meet_again(events: int) -> float:
    one, other = make_identities(2)
    with fresh_folder() as source_folder, fresh_folder() as target_folder:
        async with (
            running(source_folder, one) as source,
            running(target_folder, other, [source.listening]) as target,
        ):
            await fill(source, generate(events))
            await target.in_sync()
            await asyncio.sleep(MARKED_S)
            target.peers.cut(source.id)
            await _linked(target, source, linked=False)
            target.peers.heal()
            await _linked(target, source, linked=True)
            await asyncio.sleep(1)
            [peer] = target.peers.status()
            return float(peer.bytes_in + peer.bytes_out)


async def _linked(node: Node, other: Node, *, linked: bool) -> None:
    while (other.id in node.peers.linked) is not linked:
        await node.peers.changed()
