"""What a swarm test is handed: devices, the ways to strike them, and questions to all of them.

    a, b, c = sim.nodes
    with sim.partition({a, b}, {c}):
        await a.publish("part", {"pieces": 1})
        await sim.run(minutes=10)
    await sim.converge()
    sim.assert_converged()
    pieces = await sim.same(lambda device: device.pond.current_state(parts))

A facade of `World`, with the few verbs that tests of fish need.
"""

import inspect
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, TypeVar, overload

from fish.states import encode_state
from lamport.offsets import OffsetMap
from simulations.device import Device, DeviceClock
from simulations.errors import DeviceOff, NodesDiffer
from simulations.world import World

_Answer = TypeVar("_Answer")

SHOWN_ANSWER = 300
"""Characters of an answer that are shown where answers differ."""


class Sim:
    """A swarm under virtual time. Everything in it comes from `seed`; draw inputs from `random`."""

    def __init__(self, world: World) -> None:
        self.random: random.Random = world.generator("test")
        """For drawing what the test does: the same numbers in every run of a seed."""
        self._world = world

    @property
    def seed(self) -> int:
        """The seed of this run."""
        return self._world.seed

    @property
    def nodes(self) -> tuple[Device, ...]:
        """All devices, in the order of their names: a, b, c."""
        return self._world.nodes

    async def run(self, *, seconds: float = 0.0, minutes: float = 0.0) -> None:
        """Let virtual time pass. It passes hundreds of times faster than on a clock.

        Raises:
            LawBroken: something went wrong meanwhile that must never happen.
        """
        await self._world.run(seconds=seconds, minutes=minutes)

    async def converge(self) -> None:
        """Heal every link, free every disk, start every device, and wait until all hold the same events.

        Raises:
            LawBroken: they do not within five seconds of virtual time.
        """
        await self._world.converge()

    def clock(self, device: Device) -> DeviceClock:
        """The wall clock of a device; `sim.clock(a).jump(years=-40)` puts it back."""
        return device.clock

    def say(self, text: str) -> None:
        """Write a caption into the picture, at this moment."""
        self._world.say(text)

    def partition(self, *groups: Collection[Device]) -> AbstractContextManager[None]:
        """Cut every link between devices of different groups for as long as the `with` block lasts."""
        return self._world.partition(*groups)

    def isolate(self, device: Device) -> None:
        """Cut every link of a device, both ways, until `heal` or `converge`."""
        self._world.isolate(device)

    def cut(self, source: Device, target: Device) -> None:
        """Cut one direction: source still hears target, target no longer hears source."""
        self._world.cut(source, target)

    def stall(self, source: Device, target: Device) -> None:
        """Let nothing through in one direction and close nothing: connections stay open and silent."""
        self._world.stall(source, target)

    def slow(
        self, source: Device, target: Device, *, latency_s: float = 1.0, loss: float = 0.0
    ) -> None:
        """Make one direction slow, and lossy by this probability."""
        self._world.slow(source, target, latency_s=latency_s, loss=loss)

    def flap(self, source: Device, target: Device, *, every_s: float = 1.0) -> None:
        """Cut one direction and let it through again, in turns."""
        self._world.flap(source, target, every_s=every_s)

    def mend(self, source: Device, target: Device) -> None:
        """Make one direction whole and quick again."""
        self._world.mend(source, target)

    def heal(self) -> None:
        """Make all links whole and quick again. Devices that are off stay off."""
        self._world.heal()

    async def power_cut(self, device: Device) -> None:
        """Take a device's power: what was not synced may be lost, and its peers are not told."""
        await device.power_cut()

    async def crash(self, device: Device) -> None:
        """End a device's node at once, as `kill -9` does."""
        await device.crash()

    async def start(self, device: Device) -> None:
        """Switch on a device that is off."""
        await device.start()

    async def stop(self, device: Device) -> None:
        """Stop a device in order."""
        await device.stop()

    async def restart(self, device: Device) -> None:
        """Start a device that is off; stop one that runs, in order, and start it again."""
        if device.running:
            await device.stop()
        await device.start()

    def fill_disk(self, device: Device) -> None:
        """Let publishing on a device raise `StoreFull` until `free_disk` or `converge`."""
        device.fill_disk()

    def free_disk(self, device: Device) -> None:
        """Make room on a device's disk again."""
        device.fill_disk(full=False)

    def backup(self, device: Device) -> bytes:
        """A copy of a device's disk as it is now."""
        return device.backup()

    async def restore_backup(self, device: Device, backup: bytes) -> None:
        """Put an older copy of its disk into a device, and start it."""
        await device.restore_backup(backup)

    async def clone(self, device: Device) -> Device:
        """Start a second device from a copy of this one's disk, identity included; returns it."""
        return await self._world.clone(device)

    async def revoke(self, beside: Device, device: Device) -> None:
        """Put a device out of the swarm, as the admin does beside another; what that one holds of it still counts."""
        await beside.node.learn(await self._world.membership.revoke(beside, device))

    async def rotate(self, beside: Device) -> None:
        """Give all devices that were not revoked new keys, as the admin does beside one of them."""
        draw = self._world.generator(f"rotation {self._world.membership.swarm_key.epoch}")
        await beside.node.learn(self._world.membership.rotate(self._world.members, draw))

    def assert_converged(self) -> None:
        """See that all running devices hold the same events.

        Raises:
            NodesDiffer: they do not; an `AssertionError` that says who holds what.
        """
        __tracebackhide__ = True
        held = self._world.held()
        if any(one != next(iter(held.values())) for one in held.values()):
            lines = [f"  {name} holds {self._counted(one)}" for name, one in held.items()]
            raise NodesDiffer("the devices do not hold the same events:\n" + "\n".join(lines))

    @overload
    async def same(self, question: Callable[[Device], Awaitable[_Answer]]) -> _Answer: ...

    @overload
    async def same(self, question: Callable[[Device], _Answer]) -> _Answer: ...

    async def same(self, question: Callable[[Device], Any]) -> Any:
        """Ask every running device that was not revoked, one after the other; returns the answer that all of them give.

        Answers are the same where their canonical encodings are, so that 1, 1.0 and True are three answers.

        Raises:
            NodesDiffer: answers differ; an `AssertionError` that says who answered what.
            StateCodecError: an answer is nothing that a state can hold.
            DeviceOff: no device runs.
        """
        __tracebackhide__ = True
        answers = [(device.name, await _asked(question, device)) for device in self._running()]
        if len({encode_state(answer) for _, answer in answers}) > 1:
            lines = [f"  {name}: {_shown(answer)}" for name, answer in answers]
            raise NodesDiffer("the devices answer differently:\n" + "\n".join(lines))
        return answers[0][1]

    def _running(self) -> list[Device]:
        running = [device for device in self._world.members if device.running]
        if not running:
            raise DeviceOff("no device runs that could be asked")
        return running

    def _counted(self, offsets: OffsetMap) -> str:
        """How many events by whom."""
        names = {device.identity.node: device.name for device in reversed(self.nodes)}
        counted: Counter[str] = Counter()
        for stream, offset in offsets.items():
            counted[names.get(stream.node, str(stream.node))] += offset + 1
        return ", ".join(f"{count} by {name}" for name, count in sorted(counted.items())) or "none"


async def _asked(question: Callable[[Device], Any], device: Device) -> Any:
    answer = question(device)
    return await answer if inspect.isawaitable(answer) else answer


def _shown(answer: object) -> str:
    text = repr(answer)
    return text if len(text) <= SHOWN_ANSWER else f"{text[:SHOWN_ANSWER]} ..."
