"""Two nodes: a fish on one sees what happens on the other."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fish import Fish, Metadata
from lamport import Tag
from shoal import Address, enrol_device, make_swarm, open_node

LOOPBACK = Address("127.0.0.1", 0)
PART = Tag("part")


def on_part(pieces: int, event: Any, _metadata: Metadata) -> int:
    """Add up what was made."""
    return pieces + int(event["pieces"])


PIECES: Fish[int] = Fish("pieces", PART, 0, on_part)


async def main(folder: Path) -> None:
    """Link two nodes and publish on one of them."""
    swarm_key, _admin_key = make_swarm()
    for name in ("tablet", "robot"):
        enrol_device(folder / name, swarm_key)

    async with (
        open_node(folder / "tablet", listen=LOOPBACK, mdns=False) as tablet,
        # On a real shop floor they find each other by mDNS; an address always works beside it.
        open_node(folder / "robot", listen=LOOPBACK, mdns=False, peers=[tablet.listening]) as robot,
    ):
        await robot.publish(PART, {"pieces": 3})
        await robot.publish(PART, {"pieces": 4})
        async for pieces in tablet.pond.observe(PIECES):
            print("the tablet counts", pieces)
            if pieces == 7:  # noqa: PLR2004 - what the robot made
                break


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
