"""Hardship from a seed: the production node under virtual time, with partitions, crashes and wrong clocks.

Everything a node needs of the world enters through five seams. Here all five are made of a seed: time is virtual,
links delay, stall and cut, devices lose power, clocks lie, and work runs inline. The same seed gives the same run, byte
for byte, so whatever is found can be found again.

`swarm_test` is for those who test fish of their own. It is imported when it is asked for: pytest loads the plugin in
this package wherever Shoal is installed, and the simulator only where a test uses it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulations.swarm import Sim, swarm_test

__all__ = ["Sim", "swarm_test"]


def __getattr__(name: str) -> Any:
    """Import what is exported here, when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from simulations import swarm  # noqa: PLC0415 - late on purpose

    return getattr(swarm, name)
