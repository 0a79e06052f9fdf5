"""Whether the fish of a run are pure, told as an error of the simulation. What is looked at stands in `fish.purity`."""

from collections.abc import Iterable
from typing import Any

import fish.purity
from fish.definition import Fish
from fish.errors import FishImpure as _FishImpure
from fish.purity import LOOKED_AT
from lamport.event import Event
from lamport.ids import NodeId
from simulations.errors import FishImpure

__all__ = ["LOOKED_AT", "check_purity"]


def check_purity(fish_: Fish[Any], events: Iterable[Event], node: NodeId) -> None:
    """See `fish.purity.check_purity`.

    Raises:
        FishImpure: the reducers depend on something else than their inputs.
    """
    try:
        fish.purity.check_purity(fish_, events, node)
    except _FishImpure as impure:
        raise FishImpure(str(impure)) from None
