"""Real daemons, each cut off once: whether all hold the same in the end, how soon, and in how much memory.

    python -m benchmarks.daemons [--nodes N] [--seed N] [--cut-seconds S] [--limit-seconds S]

So many `shoal run` processes are started on the loopback, each with up to three others as its peers, and publish. In
groups, until it was each one's turn, they are cut off: one half is stopped (SIGSTOP) and goes on later, the other half
loses its power (SIGKILL) and is started again. The others publish meanwhile. It is timed from the moment when the last
is back until every daemon holds every stream up to its last event; then all are stopped, and the heads in their
databases are compared, hashes included. Where the memory does not suffice for all, as many are started as it does, and
that is said. The exit status is 1 where they do not converge in time, or an acknowledged event is missing.
"""

import argparse
import asyncio
import random
import re
import signal
import sqlite3
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.nodes import database
from benchmarks.rounds import fresh_folder
from shoal.client import Client
from shoal.errors import DaemonUnreachable
from shoal.folder import enrol_device
from transport.identity import SwarmKey, make_swarm

NODES = 10
"""Daemons, unless another number is asked for."""

DIALLED = 3
"""Others that each daemon is told of; the rest it learns from peers."""

GROUPS = 5
"""In how many groups they are cut off: so many fewer are away at a time."""

CUT_S, LIMIT_S = 6.0, 120.0
"""How long each is away (longer than a link lasts in silence), and how long all may take to converge."""

STARTED_AT_ONCE = 4
"""Daemons that start side by side: each takes a core for a second."""

ASKED_AT_ONCE = 8
"""Daemons that are asked side by side how far they are."""

SPARE_BYTES = 768 * 1024 * 1024
"""Memory that is left to the machine: no further daemon is started below that."""

READY_S, POLL_S = 60.0, 0.1

_READY = re.compile(r"node (\S+) listens at (\S+), control API at (\S+)\n")
_KIB = 1_024


@dataclass(eq=False)
class Daemon:
    """One daemon: its folder, and the process that runs on it now."""

    folder: Path
    peers: Sequence[str]
    address: str = "127.0.0.1:0"
    acknowledged: int = 0
    running: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        """Its process, once it was started."""
        assert self.running is not None, "it was started"
        return self.running

    async def start(self) -> None:
        """Start it where it listened before, and wait until it does."""
        options = [part for peer in self.peers for part in ("--peer", peer)]
        with self.folder.with_suffix(".log").open("ab") as diary:
            self.running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "shoal", "run", "--data", str(self.folder), "--no-mdns"),
                *("--listen", self.address, "--api", "127.0.0.1:0", *options),
                stdout=asyncio.subprocess.PIPE,
                stderr=diary,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(READY_S):
            line = (await self.process.stdout.readline()).decode()
        found = _READY.fullmatch(line)
        if found is None:
            text = self.folder.with_suffix(".log").read_text("utf-8")
            raise SystemExit(f"a daemon did not start:\n{text}")
        self.address = found[2]

    async def end(self, number: signal.Signals) -> None:
        """End it by a signal, stopped or not; ending twice, or before it was started, is fine."""
        if self.running is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
        await self.process.wait()

    async def publish(self) -> None:
        """Publish one event."""
        async with Client.of(self.folder) as client:
            await client.publish(["x"], {"n": self.acknowledged})
        self.acknowledged += 1

    async def status(self) -> dict[str, object]:
        """What it says of itself."""
        async with Client.of(self.folder) as client:
            return await client.status()

    def memory(self) -> tuple[int, int]:
        """Bytes that are resident, and of these its share: what several processes map is divided among them."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text("ascii")
        found = dict(re.findall(r"^(Rss|Pss): +(\d+) kB$", text, re.MULTILINE))
        return int(found["Rss"]) * _KIB, int(found["Pss"]) * _KIB

    def heads(self) -> frozenset[tuple[object, ...]]:
        """Each stream's head with its hash, out of the database; nobody may be using it."""
        with closing(sqlite3.connect(database(self.folder))) as log:
            return frozenset(log.execute("SELECT node, number, head, hash FROM streams"))


_LEAST = 2
"""Daemons: one alone is equal to everybody."""


async def run(nodes: int, seed: int, cut_s: float, limit_s: float) -> bool:
    """All of it; returns whether they have converged and nothing was lost."""
    draw = random.Random(seed)  # noqa: S311 - who is cut off with whom, no secrets
    async with AsyncExitStack() as stack:
        home = stack.enter_context(fresh_folder())
        daemons = await _started(nodes, home, draw, stack)
        _say(f"{len(daemons)} of {nodes} daemons run{_why(len(daemons), nodes)}")
        if len(daemons) < _LEAST:
            return False
        await _published(daemons)
        await _converged(daemons, limit_s)
        _say("all are equal for the first time")
        back_at = await _cut_off(daemons, draw, cut_s)
        await _converged(daemons, limit_s)
        took = perf_counter() - back_at
        _say(f"all are equal {took:.1f} s after the last came back; each was cut off once")
        _say(_memory_text(daemons))
        await asyncio.gather(*(one.end(signal.SIGTERM) for one in daemons))
        heads = {one.heads() for one in daemons}
        _say("all heads are equal, hashes included" if len(heads) == 1 else "HEADS DIFFER")
        return len(heads) == 1


async def _started(
    nodes: int, home: Path, draw: random.Random, stack: AsyncExitStack
) -> list[Daemon]:
    """As many daemons as there is room for; each is told of some that were started before."""
    key, _ = make_swarm(random.SystemRandom())
    daemons: list[Daemon] = []
    while len(daemons) < nodes and (not daemons or _spare() > SPARE_BYTES):
        count = min(STARTED_AT_ONCE if daemons else 1, nodes - len(daemons))
        new = [_made(home / str(len(daemons) + n), key, daemons, draw) for n in range(count)]
        for one in new:
            stack.push_async_callback(one.end, signal.SIGKILL)
        await asyncio.gather(*(one.start() for one in new))
        daemons += new
    return daemons


def _made(folder: Path, key: SwarmKey, known: Sequence[Daemon], draw: random.Random) -> Daemon:
    enrol_device(folder, key)
    return Daemon(folder, [one.address for one in draw.sample(known, min(DIALLED, len(known)))])


async def _cut_off(daemons: Sequence[Daemon], draw: random.Random, cut_s: float) -> float:
    """Each once, in groups; who is not publishes. Returns when the last came back."""
    order, back_at = draw.sample(daemons, len(daemons)), perf_counter()
    for number in range(min(GROUPS, len(order))):
        group = order[number::GROUPS]
        stopped = [one for one in order[::2] if one in group]
        killed = [one for one in group if one not in stopped]
        for one in stopped:
            one.process.send_signal(signal.SIGSTOP)
        await asyncio.gather(*(one.end(signal.SIGKILL) for one in killed))
        await _published([one for one in daemons if one not in group])
        await asyncio.sleep(cut_s)
        for one in stopped:
            one.process.send_signal(signal.SIGCONT)
        for start in range(0, len(killed), STARTED_AT_ONCE):
            await asyncio.gather(*(one.start() for one in killed[start : start + STARTED_AT_ONCE]))
        back_at = perf_counter()
        await _published(group)
        _say(f"{len(stopped)} were stopped, {len(killed)} lost their power, and all are back")
    return back_at


async def _published(daemons: Iterable[Daemon]) -> None:
    """One event at each."""
    turns = asyncio.Semaphore(ASKED_AT_ONCE)

    async def publish(one: Daemon) -> None:
        async with turns:
            await one.publish()

    await asyncio.gather(*map(publish, daemons))


async def _converged(daemons: Sequence[Daemon], limit_s: float) -> None:
    """Wait until each holds what all have written."""
    turns = asyncio.Semaphore(ASKED_AT_ONCE)
    written = dict([await _written(one) for one in daemons])

    async def wait(one: Daemon) -> None:
        while True:
            async with turns:
                held = (await one.status())["offsets"]
            if held == written:
                return
            await asyncio.sleep(POLL_S)

    try:
        async with asyncio.timeout(limit_s):
            await asyncio.gather(*map(wait, daemons))
    except TimeoutError:
        behind = [str(one.folder) for one in daemons if (await one.status())["offsets"] != written]
        raise SystemExit(f"not equal after {limit_s:g} s: {', '.join(behind)}") from None


async def _written(one: Daemon) -> tuple[str, int]:
    """A daemon's own stream, and its last offset."""
    status = await one.status()
    stream, offsets = str(status["stream"]), status["offsets"]
    assert isinstance(offsets, Mapping)
    last = int(offsets.get(stream, -1))
    if last + 1 < one.acknowledged:
        raise SystemExit(
            f"{stream} has {last + 1} events, and {one.acknowledged} were acknowledged"
        )
    return stream, last


def _memory_text(daemons: Iterable[Daemon]) -> str:
    found = [one.memory() for one in daemons]
    resident, shares = ([size / 2**20 for size in sizes] for sizes in zip(*found, strict=True))
    return (
        f"memory of a daemon: {statistics.median(resident):.0f} MiB resident in the median,"
        f" {max(resident):.0f} at most; its share {statistics.median(shares):.0f} MiB;"
        f" all together {sum(shares):,.0f} MiB"
    )


def _spare() -> int:
    """Bytes that the machine has left."""
    text = Path("/proc/meminfo").read_text("ascii")
    found = re.search(r"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
    assert found is not None, "Linux tells it"
    return int(found[1]) * _KIB


def _why(running: int, asked: int) -> str:
    return "" if running == asked else ": there is no memory for more"


def _say(text: str) -> None:
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daemons")
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cut-seconds", type=float, default=CUT_S)
    parser.add_argument("--limit-seconds", type=float, default=LIMIT_S)
    asked = parser.parse_args(arguments)
    if asked.nodes < _LEAST:
        parser.error(f"--nodes: at least {_LEAST} can be equal")
    try:
        done = asyncio.run(run(asked.nodes, asked.seed, asked.cut_seconds, asked.limit_seconds))
    except DaemonUnreachable as error:
        raise SystemExit(f"a daemon has ended: {error}") from error
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
