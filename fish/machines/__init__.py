"""State machines on the log: definitions, the fold that runs them everywhere, and a runtime that acts for a node.

Write a machine with the words of `fish.machines.building`, put machines and routes into a `System`, and run it with
`Machines` beside a node. `docs/workflows.md` tells the whole story.
"""

from fish.machines.addresses import tags_of
from fish.machines.building import (
    after,
    assign,
    child,
    cyclic,
    final,
    invoke,
    machine,
    state,
    to,
)
from fish.machines.commands import Answer, Filter, Gate, Hook
from fish.machines.coordination import Route, load_route
from fish.machines.definition import (
    Cancel,
    Effect,
    Emit,
    Log,
    Machine,
    Raise,
    SendParent,
    SendTo,
    Spawn,
)
from fish.machines.errors import (
    AccessDenied,
    InvalidCoordination,
    InvalidMachine,
    MachineError,
    NoSuchMachine,
    NotReady,
)
from fish.machines.expressions import Meta, Scope
from fish.machines.folding import World
from fish.machines.instance import Instance, Passage
from fish.machines.loading import load_machine
from fish.machines.office import Call
from fish.machines.runtime import Feed, Handle, Machines
from fish.machines.services import ServiceFailed
from fish.machines.system import System

__all__ = [
    "AccessDenied",
    "Answer",
    "Call",
    "Cancel",
    "Effect",
    "Emit",
    "Feed",
    "Filter",
    "Gate",
    "Handle",
    "Hook",
    "Instance",
    "InvalidCoordination",
    "InvalidMachine",
    "Log",
    "Machine",
    "MachineError",
    "Machines",
    "Meta",
    "NoSuchMachine",
    "NotReady",
    "Passage",
    "Raise",
    "Route",
    "Scope",
    "SendParent",
    "SendTo",
    "ServiceFailed",
    "Spawn",
    "System",
    "World",
    "after",
    "assign",
    "child",
    "cyclic",
    "final",
    "invoke",
    "load_machine",
    "load_route",
    "machine",
    "state",
    "tags_of",
    "to",
]
