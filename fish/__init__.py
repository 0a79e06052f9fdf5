"""State out of events: fish and the pond they live in.

A fish folds the events it selects into a state; nodes that know the same events compute the same state. `Pond` runs
fish on a log; `WorkIds` is the set of open work that cyclic workflows fold into.
"""

from fish.definition import Fish, Metadata
from fish.errors import (
    EffectEnded,
    FishConflict,
    FishError,
    FishStopped,
    InvalidFish,
    PondClosed,
    StateCodecError,
)
from fish.observation import Observation
from fish.pond import Pond
from fish.snapshots import Snapshot
from fish.work import WorkIds

__all__ = [
    "EffectEnded",
    "Fish",
    "FishConflict",
    "FishError",
    "FishStopped",
    "InvalidFish",
    "Metadata",
    "Observation",
    "Pond",
    "PondClosed",
    "Snapshot",
    "StateCodecError",
    "WorkIds",
]
