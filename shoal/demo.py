"""The demo: three daemons on this machine, a partition, work on both sides of it, and agreement.

Two tablets and a robot find each other. Then the robot is cut off from the tablets, and on both sides work on the same
job starts and stops. When the cut heals, all three hold the same events and so believe the same, and the work that
nobody ended is still open. A plain two-state machine over the same events says otherwise; it is shown beside.

Everything is real: processes started by the command line, TLS, SQLite files in a temporary folder, and mDNS, or
static addresses where multicast is not allowed. What each node believes is read from its daemon.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.client import Client
from shoal.control import read_control
from shoal.errors import DaemonUnreachable, ShoalError
from shoal.worker import WORKER, status_tags

NAMES = ("tablet-A", "tablet-B", "robot-C")

START_LIMIT_S = 6.0
MEETING_LIMIT_S = 5.0
"""How long mDNS may take before the demo falls back to static addresses."""

CONVERGENCE_LIMIT_S = 8.0

DEMO_LIMIT_S = 25.0
"""The demo ends in under 30 s, one way or the other; stopping the daemons takes some of it."""

POLL_S = 0.05

_WORKER = "w1"
_COLUMN = 26


@dataclass(frozen=True, slots=True)
class Belief:
    """What one node believes of the worker: the ids of the open work, and what two states would say."""

    open_work: tuple[str, ...]
    naive: str

    @property
    def status(self) -> str:
        """In one word."""
        return "working" if self.open_work else "idle"


class DemoFailed(ShoalError):
    """The demo did not get where it must."""


async def run_demo(*, mdns: bool = True) -> int:
    """Run the story; returns 0 if all nodes agree in the end, 1 if they do not."""
    _stop_in_order()
    with tempfile.TemporaryDirectory(prefix="shoal-demo-") as name:
        folder = Path(name)
        try:
            async with asyncio.timeout(DEMO_LIMIT_S), AsyncExitStack() as stack:
                await _prepare(folder)
                clients = await _meet(stack, folder, mdns=mdns)
                return await _story(clients)
        except TimeoutError:
            raise DemoFailed(f"the demo took longer than {DEMO_LIMIT_S:.0f} s") from None


def _stop_in_order() -> None:
    """Let a SIGTERM end the demo as Ctrl-C does: with the daemons that it started."""
    task = asyncio.current_task()
    assert task is not None, "the demo runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _prepare(folder: Path) -> None:
    """Make a swarm and enrol three devices."""
    key = str(folder / "swarm.key")
    await _shoal("swarm", "init", "--out", key)
    for name in NAMES:
        await _shoal("init", "--data", str(folder / name), "--swarm-key", key)
    print(f"A swarm of three: {', '.join(NAMES)}; each is a daemon of its own.")


async def _meet(stack: AsyncExitStack, folder: Path, *, mdns: bool) -> list[Client]:
    """Start the daemons and wait until each is linked to both others."""
    if mdns:
        trial = AsyncExitStack()
        clients = [await trial.enter_async_context(_daemon(folder / name, [])) for name in NAMES]
        if await _all_linked(clients):
            print("They found each other by mDNS.\n")
            stack.push_async_exit(trial)
            return clients
        await trial.aclose()
        print("Multicast does not get through here: going on with static addresses.")
    clients = []
    addresses: list[str] = []
    for name in NAMES:
        clients.append(
            await stack.enter_async_context(
                _daemon(folder / name, ["--no-mdns", *_peers(addresses)])
            )
        )
        addresses.append((await clients[-1].status())["listening"])
    if not await _all_linked(clients):
        raise DemoFailed("the three daemons did not find each other")
    print("They are linked.\n")
    return clients


async def _story(clients: Sequence[Client]) -> int:
    a, _, c = clients
    await a.publish(["shift"], {"type": "shift-began"})
    await _converged(clients, "before the cut")
    nodes = [(await client.status())["node"] for client in clients]

    print("The robot drives behind the press: C is cut off from A and B.")
    for client in (clients[0], clients[1]):
        await client.cut(nodes[2])
    for node in nodes[:2]:
        await c.cut(node)
    await _partition(clients)
    bar = await _start(a, "BAR", NAMES[0])
    foo = await _start(c, "FOO", NAMES[2])
    for part in range(3):
        await a.publish(["scan"], {"part": part})
    await _stop(a, NAMES[0])
    await _converged(clients[:2], "within the group that is left")
    names = {bar: "BAR", foo: "FOO"}
    await _show("Cut off, each side believes what it knows:", clients, names)

    print("The robot comes back: the cut heals.")
    for client in clients:
        await client.heal()
    await _converged(clients, "after the cut")
    beliefs = await _show("Healed, all know the same events:", clients, names)
    return _verdict(beliefs, foo)


def _verdict(beliefs: Sequence[Belief], foo: str) -> int:
    agreed = all(belief == beliefs[0] for belief in beliefs)
    right = beliefs[0].open_work == (foo,)
    if agreed and right:
        print(
            "All three agree: FOO was never ended by anybody, so it is still being worked on.\n"
            f"A plain two-state machine over the same events would say {beliefs[0].naive!r}, because the\n"
            "last event in the order is a stop - one that never meant FOO."
        )
        return 0
    print("They do not agree." if not agreed else "They agree on something wrong.")
    return 1


async def _start(client: Client, activity: str, where: str) -> str:
    key = await client.publish(
        status_tags(_WORKER, activity).names,
        {"type": "started", "worker": _WORKER, "activity": activity},
    )
    print(f"  {where}: {_WORKER} starts {activity}")
    return key


async def _stop(client: Client, where: str) -> None:
    """End the work that is open as far as this node knows: exactly that, and nothing it has not heard of."""
    ended = list((await _belief(client)).open_work)
    tags = [*WORKER.with_id(_WORKER).names, "workStatusChanged"]
    await client.publish(tags, {"type": "stopped", "worker": _WORKER, "ended": ended})
    print(
        f"  {where}: {_WORKER} stops all that is known there to be open ({len(ended)} unit of work)"
    )


async def _belief(client: Client) -> Belief:
    open_work = (await client.fish("workers"))["state"].get(_WORKER, [])
    naive = (await client.fish("naive-workers"))["state"].get(_WORKER, "idle")
    return Belief(tuple(open_work), naive)


async def _show(title: str, clients: Sequence[Client], names: dict[str, str]) -> list[Belief]:
    """Print side by side what each node believes, read from its daemon."""
    beliefs = [await _belief(client) for client in clients]
    work = [", ".join(names.get(key, key) for key in belief.open_work) for belief in beliefs]
    print(f"\n{title}")
    _row("", NAMES)
    _row("worker w1 is", [belief.status for belief in beliefs])
    _row("open work", [f"{{{names_}}}" for names_ in work])
    _row("(two states would say)", [belief.naive for belief in beliefs])
    print()
    return beliefs


def _row(label: str, cells: Sequence[str]) -> None:
    print(f"  {label:{_COLUMN}}" + "".join(f"{cell:12}" for cell in cells))


async def _converged(clients: Sequence[Client], when: str) -> None:
    async def equal() -> bool:
        offsets = [(await client.status())["offsets"] for client in clients]
        return all(one == offsets[0] for one in offsets)

    if not await _comes_true(equal, CONVERGENCE_LIMIT_S):
        raise DemoFailed(f"the nodes did not come to hold the same events {when}")


async def _partition(clients: Sequence[Client]) -> None:
    async def apart() -> bool:
        linked = [await _links(client) for client in clients]
        return linked == [1, 1, 0]

    if not await _comes_true(apart, CONVERGENCE_LIMIT_S):
        raise DemoFailed("the cut did not take effect")


async def _all_linked(clients: Sequence[Client]) -> bool:
    async def linked() -> bool:
        return all([await _links(client) == len(clients) - 1 for client in clients])

    return await _comes_true(linked, MEETING_LIMIT_S)


async def _links(client: Client) -> int:
    return sum(peer["connected"] for peer in (await client.status())["peers"])


async def _comes_true(condition: Callable[[], Awaitable[bool]], limit_s: float) -> bool:
    """Whether a condition, asked again and again, comes true within a limit."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _peers(addresses: Sequence[str]) -> list[str]:
    return [argument for address in addresses for argument in ("--peer", address)]


@asynccontextmanager
async def _daemon(folder: Path, options: Sequence[str]) -> AsyncIterator[Client]:
    """A daemon on a data folder, with a client to talk to it; stopped at the end."""
    command = [
        *_command("run"),
        "--data",
        str(folder),
        "--listen",
        "127.0.0.1:0",
        "--api",
        "127.0.0.1:0",
    ]
    errors = folder.with_suffix(".log")
    with errors.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            "--fish",
            "shoal.worker:ALL",
            *options,
            stdout=log,
            stderr=log,
            env=_environment(),
        )
    try:
        async with Client(await _control(folder, process, errors)) as client:
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _control(folder: Path, process: asyncio.subprocess.Process, errors: Path) -> Any:
    """How to reach a daemon that is starting."""
    deadline = asyncio.get_running_loop().time() + START_LIMIT_S
    while True:
        try:
            return read_control(folder)
        except DaemonUnreachable:
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise DemoFailed(_last_words(errors)) from None
        await asyncio.sleep(POLL_S)


def _last_words(errors: Path) -> str:
    return f"a daemon did not start:\n{errors.read_text()}"


async def _shoal(*arguments: str) -> None:
    """Run one command to its end."""
    process = await asyncio.create_subprocess_exec(
        *_command(*arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise DemoFailed(f"shoal {json.dumps(arguments)}: {errors.decode().strip()}")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "shoal", *arguments]


def _environment() -> dict[str, str]:
    """This process's environment without settings that are meant for another daemon."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
