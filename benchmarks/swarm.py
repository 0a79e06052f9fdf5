"""Many nodes in this process, on the loopback, with a few links each; and what their sockets have sent."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks.nodes import make_identities, running
from benchmarks.rounds import fresh_folder
from shoal.node import Node

NODES = 64
"""Nodes of a swarm."""

DIALLED = 3
"""Others that each node dials: it has six links on average."""

_BYTES_SENT = struct.Struct("Q"), 200
"""`tcpi_bytes_sent` in Linux's `struct tcp_info`."""


@asynccontextmanager
async def swarm(nodes: int) -> AsyncIterator[list[Node]]:
    """Start nodes one after the other; each dials some that were started before."""
    draw = random.Random(1)  # noqa: S311 - the same swarm in each run
    started: list[Node] = []
    async with AsyncExitStack() as stack:
        for identity in make_identities(nodes):
            folder = stack.enter_context(fresh_folder())
            peers = [one.listening for one in draw.sample(started, min(DIALLED, len(started)))]
            context = running(folder, identity, peers, exchanges=False)
            started.append(await stack.enter_async_context(context))
        for node in started[1:]:
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
