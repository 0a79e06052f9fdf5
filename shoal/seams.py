"""The five seams through which the world enters a node.

The daemon and the simulator run the same `Node`; all that differs between them is this one value. Time is the event
loop's clock, which the loop itself brings, and the wall clock. The production seams are made in `shoal.system`.
"""

from dataclasses import dataclass
from random import Random

from fish.oversight import NO_OVERSIGHT, Oversight
from lamport.seams import NO_RESERVE, Disk, Reserve, WallClock, Work
from transport.network import Network


@dataclass(frozen=True, slots=True)
class Seams:
    """What a node needs of the world."""

    wall_clock: WallClock
    randomness: Random
    disk: Disk
    network: Network
    work: Work
    reserve: Reserve = NO_RESERVE
    """Belongs to the disk."""
    oversight: Oversight = NO_OVERSIGHT
    """Belongs to the work: it watches what is too short to be run elsewhere, and may turn out not to be."""
