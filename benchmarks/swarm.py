"""Many nodes in one process, on the loopback, with a few links each; and what their sockets have sent."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks.nodes import running
from benchmarks.rounds import fresh_folder
from shoal.node import Node
from transport.identity import Identity
from transport.network import Address

NODES = 64
"""Nodes of a swarm."""

DIALLED = 3
"""Others that each node dials: it has six links on average."""

_BYTES_SENT = struct.Struct("Q"), 200
"""`tcpi_bytes_sent` in Linux's `struct tcp_info`."""


@asynccontextmanager
async def swarm(
    identities: Iterable[Identity], met: Iterable[Address] = ()
) -> AsyncIterator[list[Node]]:
    """Start nodes one after the other; each dials some that were started before, or that are `met` elsewhere."""
    draw = random.Random(1)  # noqa: S311 - the same swarm in each run
    started: list[Node] = []
    known = list(met)
    async with AsyncExitStack() as stack:
        for identity in identities:
            folder = stack.enter_context(fresh_folder())
            peers = draw.sample(known, min(DIALLED, len(known)))
            context = running(folder, identity, peers, exchanges=False)
            started.append(await stack.enter_async_context(context))
            known.append(started[-1].listening)
        for node in started if len(known) > 1 else ():
            while not node.peers.linked:
                await node.peers.changed()
        yield started


def sent_bytes(node: Node) -> int:
    """What a node's sockets have sent since they were connected, TLS included."""
    links = node.peers._links.values()  # noqa: SLF001 - the benchmark looks at the sockets beneath
    return sum(_sent(link.channel) for link in links)


def _sent(channel: object) -> int:
    writer: asyncio.StreamWriter = channel._writer  # type: ignore[attr-defined] # noqa: SLF001 - see above
    connection: socket.socket = writer.get_extra_info("socket")
    layout, place = _BYTES_SENT
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, place + layout.size)
    return int(layout.unpack_from(info, place)[0])
