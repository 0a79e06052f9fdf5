"""Nodes in processes of their own: a peer that floods, one that follows, one that catches up; and a crowd of peers.

    python -m benchmarks.workers flood FOLDER HOST:PORT
    python -m benchmarks.workers follow FOLDER HOST:PORT HOST:PORT
    python -m benchmarks.workers catchup FOLDER HOST:PORT
    python -m benchmarks.workers crowd FOLDER HOST:PORT

The folder holds the node's identity as `identity`, written by `worker`, and those of the others in a crowd as `1`, `2`
and so on; what is found is printed as JSON.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from benchmarks.events import generate
from benchmarks.nodes import publish_batch, running
from benchmarks.rounds import Stopwatch
from benchmarks.swarm import swarm
from shoal.system import relax_collector
from transport.identity import Identity
from transport.keyfiles import read_identity, write_identity
from transport.network import Address

FLOOD_BATCH = 100
"""Events of one commit of the flood."""

LINKED = b"linked\n"
"""What a flood says when it begins, and a crowd when each has a link."""

_KIB = 1_024


@asynccontextmanager
async def worker(
    task: str, folder: Path, identity: Identity, *peers: Address, others: Iterable[Identity] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process at work on a task while the context is open."""
    write_identity(folder / "identity", identity)
    for number, other in enumerate(others, 1):
        write_identity(folder / str(number), other)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.workers", task, str(folder), *map(str, peers)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def flood(folder: Path, identity: Identity, peers: Sequence[Address]) -> None:
    """Publish as fast as it goes, until the process is ended."""
    samples = generate(FLOOD_BATCH)
    async with running(folder, identity, peers) as node:
        await node.in_sync()
        print(LINKED.decode(), end="", flush=True)
        while True:
            await publish_batch(node, samples)


async def crowd(folder: Path, identity: Identity, peers: Sequence[Address]) -> None:
    """Many nodes, of which some dial these peers, until the process is ended."""
    relax_collector()  # as a daemon does
    async with swarm([identity, *_others(folder)], peers):
        print(LINKED.decode(), end="", flush=True)
        await asyncio.Event().wait()


def _others(folder: Path) -> list[Identity]:
    files = sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name))
    return [read_identity(path) for path in files]


async def follow(folder: Path, identity: Identity, peers: Sequence[Address]) -> NoReturn:
    """Hold what some peers hold, until the process is ended."""
    async with running(folder, identity, peers) as node:
        while True:
            await node.peers.changed()


def _most_resident() -> int:
    """Bytes. Not `getrusage`, whose figure begins with what the parent had resident when it started this process."""
    status = Path("/proc/self/status").read_text("utf-8")
    [most] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(most.split()[1]) * _KIB


async def catch_up(folder: Path, identity: Identity, peers: Sequence[Address]) -> None:
    """Fetch all that a peer holds, and say how long that took and how much memory was resident at most."""
    watch = Stopwatch()
    async with running(folder, identity, peers) as node:
        await node.in_sync()
        found = {
            "ms": watch.lap_ms(),
            "resident": _most_resident(),
            "events": sum(offset + 1 for _, offset in node.offsets.items()),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _task, _folder, *_addresses = sys.argv[1:]
    _identity = read_identity(Path(_folder) / "identity")
    _act = {"flood": flood, "follow": follow, "catchup": catch_up, "crowd": crowd}[_task]
    asyncio.run(_act(Path(_folder), _identity, [Address.parse(one) for one in _addresses]))
