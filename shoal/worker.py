"""The fish of the demo: who is at work, told twice.

Workers start and stop activities, sometimes on two tablets that do not hear each other. `workers` keeps, per worker,
the set of work that is open: starting opens a unit of work under the event's own key, stopping names the units that it
ends, and nothing else ends. `naive_workers` is the obvious two-state machine over the same events, for comparison: a
stop that never meant this work ends it all the same.
"""

from collections.abc import Mapping
from typing import Any

from fish.definition import Fish, Metadata
from fish.work import WorkIds
from lamport.tags import Tag, Tags

WORKER = Tag("worker")
ACTIVITY = Tag("activity")
STATUS_CHANGED = Tag("workStatusChanged")

Workers = Mapping[str, WorkIds]


def status_tags(worker: str, activity: str) -> Tags:
    """The tags of a change of status: whose it is, what it is about, and that it is one."""
    return Tags(
        *WORKER.with_id(worker).names, *ACTIVITY.with_id(activity).names, *STATUS_CHANGED.names
    )


def on_status(state: Workers, event: Any, metadata: Metadata) -> Workers:
    """The open work of each worker after one more change of status."""
    match event:
        case {"type": "started", "worker": str(worker)}:
            open_work = state.get(worker, WorkIds()).opened(metadata.event_key)
        case {"type": "stopped", "worker": str(worker), "ended": list(ended)}:
            open_work = state.get(worker, WorkIds()).closed(ended)
        case _:
            return state
    return {**state, worker: open_work}


def on_status_naively(
    state: Mapping[str, str], event: Any, _metadata: Metadata
) -> Mapping[str, str]:
    """Working after a start, idle after a stop, whatever was meant."""
    match event:
        case {"type": "started" | "stopped" as change, "worker": str(worker)}:
            return {**state, worker: "working" if change == "started" else "idle"}
    return state


workers: Fish[Workers] = Fish("workers", STATUS_CHANGED, {}, on_status)
naive_workers: Fish[Mapping[str, str]] = Fish(
    "naive-workers", STATUS_CHANGED, {}, on_status_naively
)

ALL = [workers, naive_workers]
"""For `shoal run --fish shoal.worker:ALL`."""
