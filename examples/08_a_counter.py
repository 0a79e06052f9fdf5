"""A counter that does not mind the order of its events: late ones are added where the fold stands."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fish import Metadata, fish
from lamport import Tag
from shoal import Address, enrol_device, make_swarm, open_node

PIECE = Tag("piece")


@dataclass(frozen=True)
class Made:
    """Some pieces left the machine."""

    pieces: int


@fish(where=PIECE, initial=0, commutative=True)
def pieces(count: int, event: Made, _meta: Metadata) -> int:
    """How many pieces were made."""
    return count + event.pieces


async def main(folder: Path) -> None:
    """Count; what was published is a token that a state can be asked to cover."""
    swarm_key, _admin_key = make_swarm()
    enrol_device(folder / "press", swarm_key)

    async with open_node(folder / "press", listen=Address("127.0.0.1", 0), mdns=False) as node:
        await node.publish(PIECE, Made(pieces=3))
        last = await node.publish(PIECE, Made(pieces=4))
        print("pieces", await node.pond.current_state(pieces, after=last))


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
