"""A role at a node: what it may do now, and doing it.

    robot = node.role(ROBOT, Tag("order").with_id("17"), name="robot")
    if "bid" in await robot.offered():
        await robot.give("bid", {"price": 3})

The way of a command: wait until the fold covers all that the log holds, look whether the role has the command there,
publish its events in one commit, and wait until these have come back. Commands of one player come one after the other,
each decided on what the one before has led to. What other nodes do at the same time nobody knows: of two steps the
first in the log counts, the events of the other are dropped by all.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fish.errors import FishStopped
from fish.log import Log
from fish.pond import Pond
from fish.protocols.errors import CommandRefused
from fish.protocols.parts import Part
from fish.protocols.roles import Place, Role
from lamport.event import Event, draft
from lamport.tags import Tags


class Player:
    """One role, for the events with these tags, at one node."""

    def __init__(self, log: Log, pond: Pond, role: Role, tags: Tags, name: str = "role") -> None:
        """`name` tells players apart that listen to the same tags."""
        self._log, self._pond, self._tags = log, pond, tags
        digest = hashlib.sha256(str(tags).encode()).hexdigest()[:16]
        self.fish = role.fish(f"{name} {digest}", tags)  # the tags may be longer than a name
        """The fold behind it; `pond.explain(player.fish)` tells which events it took and which it dropped."""
        self._part = Part(role)
        self._turn = asyncio.Lock()

    async def place(self) -> Place:
        """Where the role is: its state and payload, covering all that the log held at the call.

        Raises:
            FishStopped: a reaction raised, now or before.
        """
        return await self._look()

    async def offered(self) -> tuple[str, ...]:
        """The commands that the role may give now; none while one is under way, or a catch-up is.

        Raises:
            FishStopped: a reaction raised, now or before.
        """
        await self._look()
        return self._part.commands

    async def give(self, command: str, *payloads: Mapping[str, Any]) -> tuple[Event, ...]:
        """Give a command; returns its events. `payloads` are their fields, in the order of the command's log.

        Raises:
            CommandRefused: it is not offered now, or there are more payloads than events; nothing was logged.
            FishStopped: a reaction raised, now or before.
            InvalidInput: the log does not take the payloads.
        """
        async with self._turn:
            await self._look()
            types = self._part.command(command)
            try:
                events = await self._log.publish(self._drafts(command, types, payloads))
                await self._look()
            finally:
                self._part.unlock()
            return events

    def _drafts(
        self, command: str, types: tuple[str, ...], payloads: tuple[Mapping[str, Any], ...]
    ) -> list[Any]:
        if len(payloads) > len(types):
            raise CommandRefused(f"{command} logs {len(types)} events, not {len(payloads)}")
        fields = (*payloads, *({} for _ in types[len(payloads) :]))
        return [
            draft(self._tags, {**one, "type": type_})
            for one, type_ in zip(fields, types, strict=True)
        ]

    async def follow(self) -> AsyncIterator[Place]:
        """The place now, and whenever state or payload have changed; steps between may be skipped.

        Raises:
            FishStopped: a reaction raised, now or before.
        """
        shown: tuple[str, Any] | None = None
        with self._pond.observe(self.fish) as places:
            async for place in places:
                if (place.state, place.payload) != shown:
                    shown = place.state, place.payload
                    yield place

    async def _look(self) -> Place:
        try:
            snapshot = await self._pond.snapshot(self.fish)
        except FishStopped:
            self._part.is_ended = True
            raise
        self._part.see(snapshot.state, caught_up=not snapshot.provisional)
        return snapshot.state
