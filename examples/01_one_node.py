"""One node: publish tagged events, and ask for them again."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from lamport import Tag
from shoal import Address, enrol_device, make_swarm, open_node

PART = Tag("part")


async def main(folder: Path) -> None:
    """Publish a few events and query them."""
    swarm_key, _admin_key = make_swarm()
    enrol_device(folder / "tablet", swarm_key)

    async with open_node(folder / "tablet", listen=Address("127.0.0.1", 0), mdns=False) as node:
        # An event bears tags; `with_id` says which single thing it belongs to.
        await node.publish(PART.with_id("p7"), {"type": "milled", "seconds": 41})
        await node.publish(PART.with_id("p8"), {"type": "milled", "seconds": 39})
        event = await node.publish(PART.with_id("p7"), {"type": "painted", "colour": "red"})
        print("durable:", event.payload, "at Lamport timestamp", event.lamport)

        async for event in node.query(PART.with_id("p7")):
            print("p7 was", event.payload["type"])
        async for event in node.query("FROM 'part' & 'part:p8'"):
            print("p8 was", event.payload["type"])


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
