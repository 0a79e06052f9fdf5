"""The production seams: this device's clock, randomness, disk, network and threads."""

import asyncio
import gc
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from lamport.codec import MAX_INTEGER
from lamport.sqlite import SqliteDisk
from shoal.ballast import Ballast
from shoal.seams import Seams
from shoal.watchdog import Watchdog
from transport.identity import Identity
from transport.network import Address
from transport.tls import TlsNetwork

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


COLLECTED_OBJECTS = 20_000
"""The cycle collector looks when so many more objects are made than dropped. Python's own 700 make a read of many
events a quarter slower: events come and go by the page, and bear no cycles."""

_COLLECTIONS = 20


def relax_collector() -> None:
    """Let Python's cycle collector look less often. For a whole process: whoever starts one decides."""
    gc.set_threshold(COLLECTED_OBJECTS, _COLLECTIONS, _COLLECTIONS)


def wall_clock() -> int:
    """Microseconds since the epoch by this device's clock; the largest there is where the system cannot say.

    Beyond the year 2262 the system's nanoseconds no longer fit, and a device whose clock says so must go on working.
    """
    try:
        return time.time_ns() // 1_000
    except OverflowError:
        return MAX_INTEGER


class ThreadWork:
    """Runs long computations in the event loop's thread pool."""

    async def run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Run the function in a thread and return its result."""
        return await asyncio.to_thread(function, *args, **kwargs)


def system_seams(folder: Path, identity: Identity, *, listen: Address, mdns: bool) -> Seams:
    """The seams of a node whose database stands in this folder, and is opened next."""
    ballast = Ballast(folder)
    ballast.prepare()
    return Seams(
        wall_clock=wall_clock,
        randomness=random.SystemRandom(),
        disk=SqliteDisk(folder),
        network=TlsNetwork(identity, listen=listen, mdns=mdns),
        work=ThreadWork(),
        reserve=ballast,
        oversight=Watchdog(),
    )
