"""Nodes in processes of their own: one that floods a peer, one that only follows, one that says what catching up took.

    python -m benchmarks.workers flood FOLDER HOST:PORT
    python -m benchmarks.workers follow FOLDER HOST:PORT HOST:PORT
    python -m benchmarks.workers catchup FOLDER HOST:PORT

The folder holds the node's identity as `identity`, written by `worker`; what is found is printed as JSON.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from benchmarks.events import generate
from benchmarks.nodes import publish_batch, running
from benchmarks.rounds import Stopwatch
from transport.identity import Identity
from transport.keyfiles import read_identity, write_identity
from transport.network import Address

FLOOD_BATCH = 100
"""Events of one commit of the flood."""

LINKED = b"linked\n"
"""What the flood says when it begins."""

_KIB = 1_024


@asynccontextmanager
async def worker(
    task: str, folder: Path, identity: Identity, *peers: Address
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process at work on a task while the context is open."""
    write_identity(folder / "identity", identity)
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
    _act = {"flood": flood, "follow": follow, "catchup": catch_up}[_task]
    asyncio.run(_act(Path(_folder), _identity, [Address.parse(one) for one in _addresses]))
