"""A slip is retracted, and events of last year are read as if they had been written today."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fish import Fish, Metadata
from lamport import Tag, Upcaster, Upcasters
from shoal import Address, enrol_device, make_swarm, open_node

WEIGHT = Tag("weight")


def with_unit(weight: Any) -> Any:
    """Last year there were only kilograms: version 1 becomes version 2."""
    return {"value": weight["kg"], "unit": "kg"}


def in_grams(weight: Any) -> Any:
    """Version 2 becomes version 3."""
    return {"grams": weight["value"] * (1_000 if weight["unit"] == "kg" else 1)}


UPCASTERS = Upcasters(Upcaster("weight", 1, with_unit), Upcaster("weight", 2, in_grams))


def on_weight(total: int, weight: Any, _metadata: Metadata) -> int:
    """Reducers know today's version alone."""
    return total + int(weight["grams"])


TOTAL: Fish[int] = Fish("total weight", WEIGHT, 0, on_weight)


async def main(folder: Path) -> None:
    """Weigh three parts, one of them wrongly."""
    swarm_key, _admin_key = make_swarm()
    enrol_device(folder / "scale", swarm_key)
    listen = Address("127.0.0.1", 0)
    async with open_node(folder / "scale", listen=listen, mdns=False, upcasters=UPCASTERS) as node:
        await node.publish(WEIGHT, {"kg": 2})
        slip = await node.publish(WEIGHT, {"value": 500, "unit": "kg", "version": 2})
        await node.publish(WEIGHT, {"grams": 500, "version": 3})
        print(await node.pond.current_state(TOTAL), "g, with a slip")

        await node.retract(slip.key, reason="grams were typed as kilograms")
        print(await node.pond.current_state(TOTAL), "g")


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
