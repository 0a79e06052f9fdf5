"""State out of events: fish and the pond they live in.

A fish folds the events it selects into a state; nodes that know the same events compute the same state. `Pond` runs
fish on a log; `WorkIds` is the set of open work that cyclic workflows fold into.
"""

from fish.definition import Fish, Metadata
from fish.emission import Emission, IdTag
from fish.errors import (
    EffectCancelled,
    EffectEnded,
    FishConflict,
    FishError,
    FishStopped,
    InvalidFish,
    NotCommutative,
    Overran,
    PondClosed,
    StateCodecError,
    UnreadableEvent,
)
from fish.observation import Observation
from fish.pond import Pond
from fish.ready import events_ascending, events_descending, latest_event
from fish.reports import Activity, Report, ReportKind
from fish.snapshots import Snapshot
from fish.standing import StandingEffect
from fish.typed import fish, payload_of
from fish.work import WorkIds

__all__ = [
    "Activity",
    "EffectCancelled",
    "EffectEnded",
    "Emission",
    "Fish",
    "FishConflict",
    "FishError",
    "FishStopped",
    "IdTag",
    "InvalidFish",
    "Metadata",
    "NotCommutative",
    "Observation",
    "Overran",
    "Pond",
    "PondClosed",
    "Report",
    "ReportKind",
    "Snapshot",
    "StandingEffect",
    "StateCodecError",
    "UnreadableEvent",
    "WorkIds",
    "events_ascending",
    "events_descending",
    "fish",
    "latest_event",
    "payload_of",
]
