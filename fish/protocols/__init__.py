"""Swarm protocols: who may do what when, in a swarm where everybody acts on what they know.

A protocol is written down once for all roles; `check_protocol` says whether its swarm always agrees in the end,
`project` gives the machine that one role runs, and `check_projection` says whether a machine does what is asked of the
role. All of that is pure, and answers before anything runs. A `Role` is what runs, and a `Player` runs it at a node.
"""

from fish.protocols.errors import CommandRefused, InvalidProtocol
from fish.protocols.parts import Part
from fish.protocols.playing import Player
from fish.protocols.problems import Kind, Problem
from fish.protocols.projection import check_projection, project
from fish.protocols.reading import (
    machine_from_json,
    machine_to_json,
    protocol_from_json,
    protocol_to_json,
    subscriptions_from_json,
)
from fish.protocols.roles import Place, Reaction, Role, RoleState, type_field
from fish.protocols.values import (
    Edge,
    Execute,
    Input,
    Machine,
    Protocol,
    Subscriptions,
    Transition,
)
from fish.protocols.wellformed import check_protocol

__all__ = [
    "CommandRefused",
    "Edge",
    "Execute",
    "Input",
    "InvalidProtocol",
    "Kind",
    "Machine",
    "Part",
    "Place",
    "Player",
    "Problem",
    "Protocol",
    "Reaction",
    "Role",
    "RoleState",
    "Subscriptions",
    "Transition",
    "check_projection",
    "check_protocol",
    "machine_from_json",
    "machine_to_json",
    "project",
    "protocol_from_json",
    "protocol_to_json",
    "subscriptions_from_json",
    "type_field",
]
