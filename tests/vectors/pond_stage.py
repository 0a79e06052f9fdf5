"""The stage of one vector: a real node in memory, under virtual time, and fish made of the vector's descriptions."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from fish import Fish, Metadata
from lamport.chain import SealedRange
from lamport.seams import INLINE
from shoal.node import Node
from shoal.seams import Seams
from simulations.disk import MemoryPlatter, SimulatedDisk
from simulations.loop import run_simulated
from simulations.network import Air, SimulatedNetwork
from simulations.trace import Trace
from tests.vectors.pond_places import FILLER, MICROSECONDS, Places, Pushed
from tests.vectors.pond_reading import where_of
from tests.vectors.pond_reducers import REDUCERS, Seen, resets

QUIET_S = 1.0
"""After so much virtual time nothing is under way any more."""

_Result = TypeVar("_Result")


class InOrder(random.Random):
    """Randomness for the loop that leaves the order of what is ready as it is."""

    def shuffle(self, x: Any) -> None:
        """Leave the order."""


def played(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a vector under virtual time."""
    return run_simulated(coroutine, InOrder("vectors"))


async def quiescence() -> None:
    """Let everything that is under way come to its end."""
    await asyncio.sleep(QUIET_S)


class Stage:
    """One device: its disk stays, its node can be started again."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.calls: Counter[str] = Counter()
        """Reducer calls per fish since the last start."""
        self.names: dict[str, None] = {}
        """Names of all fish made here."""
        self._platter = MemoryPlatter()
        self._node: Node | None = None
        self._stack = AsyncExitStack()

    @property
    def node(self) -> Node:
        """The running node."""
        assert self._node is not None, "it was started"
        return self._node

    async def start(self) -> None:
        """Start the node on the device's disk."""
        randomness = random.Random("node")
        disk = SimulatedDisk(self._platter, randomness, 0.0, lambda _: None, lambda: None)
        identity = self.places.identity
        air = Air(randomness, Trace(), multicast=False)
        seams = Seams(_wall_clock, randomness, disk, SimulatedNetwork(air, "n", identity), INLINE)
        self._node = await self._stack.enter_async_context(Node(identity, seams))
        self.calls.clear()

    async def stop(self) -> None:
        """Stop the node, in order."""
        await self._stack.aclose()
        self._node = None

    async def restart(self, *, keeps_snapshots: bool) -> None:
        """Stop the node and start it again."""
        await self.stop()
        await self.start()
        for name in () if keeps_snapshots else self.names:
            await self.node.log.drop_snapshots(name, None)

    async def push(self, events: Iterable[Pushed]) -> None:
        """Let events arrive together, as if replicated."""
        await self.receive(self.places.ranges(events))

    async def receive(self, streams: list[list[SealedRange]]) -> None:
        """Let sealed ranges arrive: of each stream one after the other, of all streams together."""
        for number in range(max(map(len, streams), default=0)):
            due = [ranges[number] for ranges in streams if number < len(ranges)]
            await asyncio.gather(*(self.node.log.receive(one) for one in due))

    def fish(self, given: Mapping[str, Any]) -> Fish[Any]:
        """The fish that a vector describes; where one of that name and version runs, that one."""
        kind, name, version = given["id"]
        if not kind or not name:
            raise ValueError("a fish has a type and a name")
        made = self._made(f"{kind}/{name}", version, given)
        self.names[made.name] = None
        return self.node.pond.find(made.name, version) or made

    def seen(self, metadata: Metadata) -> Seen:
        """An event's metadata in the words of the vectors."""
        lamport = self.places.times.label(metadata.lamport)
        label = self.places.label(metadata.stream)
        return Seen(
            f"{lamport:016}/{label}",
            lamport,
            label,
            metadata.offset,
            [*metadata.tags],
            metadata.timestamp,
            metadata.app_id,
            metadata.is_local,
        )

    def reducer(
        self, given: Mapping[str, Any], name: str = ""
    ) -> tuple[Any, Callable[[Any, Any, Metadata], Any]]:
        """The initial state, and the reducer that a description names."""
        reducer = REDUCERS[given["reducer"]]
        initial, parameters = given.get("initial", reducer.initial), given.get("params", {})

        def on_event(state: Any, payload: Any, metadata: Metadata) -> Any:
            self.calls[name] += 1
            return reducer.reduce(state, payload, self.seen(metadata), parameters)

        return initial, on_event

    def _made(self, name: str, version: int, given: Mapping[str, Any]) -> Fish[Any]:
        initial, on_event = self.reducer(given, name)
        is_reset = resets(given.get("isReset"))
        return Fish(
            name,
            where_of(given["where"]),
            initial,
            on_event,
            version=version,
            is_reset=None if is_reset is None else lambda payload, _: is_reset(payload),
            deserialize_state=_broken if given.get("deserialize") == "throws" else None,
            mutates=REDUCERS[given["reducer"]].mutates,
        )


def canonical(value: Any) -> str:
    """A JSON value as a text that tells it from all others, whatever the order of its entries."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def is_filler(tags: Iterable[str]) -> bool:
    """Whether an event only fills a stream up."""
    return FILLER in tags


def _wall_clock() -> int:
    return int(asyncio.get_running_loop().time() * MICROSECONDS)


def _broken(_value: Any) -> Any:
    raise ValueError("this cannot be read")
