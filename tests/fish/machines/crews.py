"""Machines on simulated devices: they start and fall with their node."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fish.machines import Call, Machines, System
from fish.machines.office import Run
from simulations.device import Device


@dataclass
class Crew:
    """A device, the machines on it, and what they did to the world."""

    device: Device
    system: System
    services: Mapping[str, Run] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """The effects that can be done here."""
    more: Mapping[str, Any] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    running: Machines | None = None
    _task: asyncio.Task[None] | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def machines(self) -> Machines:
        assert self.running is not None, "the machines run"
        return self.running

    async def open(self) -> "Crew":
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._live(ready))
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        return self

    async def close(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
        self.running = self._task = None

    async def crash(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.running = self._task = None
        await self.device.crash()

    async def restart(self) -> None:
        await self.device.start()
        await self.open()

    async def _live(self, ready: asyncio.Future[None]) -> None:
        runtime = self.device.node.machines(
            self.system,
            services=self.services,
            effects=dict.fromkeys(self.names, self._do),
            orphaned=lambda call: self.done.append(f"orphaned {call.name}"),
            **self.more,
        )
        async with runtime as self.running:
            ready.set_result(None)
            await self._stop.wait()

    async def _do(self, call: Call) -> None:
        self.done.append(call.name if call.undoes is None else f"{call.name} for {call.undoes}")
        self.keys.append(call.key)
