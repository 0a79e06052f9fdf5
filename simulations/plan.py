"""What is going to happen in a run: a list of timed operations, drawn from a seed, that can be saved and cut down.

Each seed first decides which kinds of hardship there are at all, and how often (Groce et al., "Swarm Testing", 2012:
runs that leave some kinds out find what runs with everything hide), and then draws the operations. From there on the
list is all there is: playing it again gives the same run, and playing a part of it is how a failure is made small.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from simulations.errors import SimulationError
from simulations.knobs import KNOBS
from simulations.world import SHAPES, Shape

PUBLISH_EVERY_S = 3.0
"""How often each node publishes, on average."""

QUIETEST_EVERY_S, BUSIEST_EVERY_S = 60.0, 5.0
"""Bounds of the rate at which one kind of hardship strikes; drawn log-uniformly between them."""

WORK: Mapping[str, int] = {
    "publish": 20,
    "start_work": 10,
    "stop_work": 8,
    "burst": 1,
    "crowd": 1,
    "effects": 1,
    "retract": 1,
}
"""What applications do, and how often one of these."""

SENSE = "sense"
"""Readings that are not kept for ever: in half of the worlds a device reports some every few seconds."""

SENSE_EVERY_S = 4.0
MAX_SENSED = 15

ADMIN: Mapping[str, int] = {"revoke": 2, "rotate": 1}
"""What the admin does: once or twice in a third of the worlds; and how many devices it concerns."""

ADMIN_WORLDS, MAX_ADMIN = 1 / 3, 2

MAX_BURST = 500
"""Events that are published in one piece at most; sizes are drawn log-uniformly."""

MAX_NODES = 6
"""Nodes of a drawn world; more on request."""

MANY_NODES = 16
"""Above so many, links of all with all cost more than they show, and each node publishes less."""

MAX_SECONDS = 90_000.0
"""A day, and an hour to spare."""

FORMAT = 1


class Operation(NamedTuple):
    """One thing that is done: when (virtual seconds), what, to which devices (by number), and how much of it."""

    at: float
    kind: str
    devices: tuple[int, ...]
    amount: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A run before it is run. `options` are the rates drawn, for people; the operations say it all."""

    seed: int
    nodes: int
    shape: Shape
    harsh: bool
    """Whether disks lose and tear what was not synced; otherwise every commit is whole."""
    knobs: tuple[str, ...]
    """Which bounds are turned down."""
    seconds: float
    options: Mapping[str, float]
    operations: tuple[Operation, ...]

    def only(self, operations: Sequence[Operation]) -> "Plan":
        """The same plan with a part of its operations."""
        return replace(self, operations=tuple(operations))

    def to_json(self) -> str:
        """A text from which the plan can be played again."""
        value = {
            "what": "a plan of a shoal simulation",
            "format": FORMAT,
            "seed": self.seed,
            "nodes": self.nodes,
            "shape": self.shape,
            "harsh": self.harsh,
            "knobs": list(self.knobs),
            "seconds": self.seconds,
            "options": dict(self.options),
            "operations": [list(operation) for operation in self.operations],
        }
        return json.dumps(value, indent=1)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read a saved plan; raise `SimulationError` where the file is none."""
        try:
            return _checked(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SimulationError(f"{path} is no plan of a simulation: {error}") from error


def _checked(value: Any) -> Plan:
    """The plan that a file says; raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    _require(value["format"] == FORMAT, f"format {value['format']!r}, this program reads {FORMAT}")
    nodes, seconds = value["nodes"], value["seconds"]
    _require(isinstance(nodes, int) and nodes > 1, f"{nodes!r} nodes")
    _require(isinstance(value["seed"], int), f"seed {value['seed']!r}")
    _require(value["shape"] in SHAPES, f"shape {value['shape']!r}")
    _require(0 < seconds < MAX_SECONDS, f"{seconds!r} seconds")
    return Plan(
        value["seed"],
        nodes,
        value["shape"],
        bool(value["harsh"]),
        tuple(value["knobs"]),
        seconds,
        value["options"],
        tuple(_operation(one, nodes) for one in value["operations"]),
    )


def _operation(value: Any, nodes: int) -> Operation:
    at, kind, devices, amount = value
    _require(kind in KINDS, f"operation {kind!r}")
    _require(
        bool(devices) and all(isinstance(one, int) and 0 <= one < nodes for one in devices),
        f"devices {devices!r} of {nodes}",
    )
    return Operation(float(at), kind, tuple(devices), amount + 0)


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition, and what is said without it
    if not holds:
        raise ValueError(otherwise)


def draw_plan(
    seed: int, *, nodes: int | None = None, seconds: float = 60.0, every_kind: bool = False
) -> Plan:
    """The plan of a seed.

    `seconds` is how long there is hardship; a quiet phase follows. `nodes` is drawn if not given, and so are the kinds
    of hardship unless it is to be `every_kind`.
    """
    draw = random.Random(f"plan {seed}")  # noqa: S311 - repeatable on purpose
    count = nodes or draw.randint(2, MAX_NODES)
    shape = _shape(draw, count)
    harsh = draw.random() < 0.1  # noqa: PLR2004 - the harsh disk is slow: a tenth of the worlds
    knobs = tuple(name for name in KNOBS if draw.random() < 0.15)  # noqa: PLR2004 - most worlds turn down two
    draws = {
        kind: random.Random(f"plan {seed} {kind}") if kind in _APART else draw  # noqa: S311 - repeatable on purpose
        for kind in HARDSHIPS
    }
    options = {
        kind: _rate(one)
        for kind, one in draws.items()
        if one.random() < _SELDOM.get(kind, 0.5) or every_kind
    }
    if "clone" in options and shape == "line":
        shape = "mesh"  # at the end of a line only one is dialled of a device and its copy
    operations = [*_work(draw, count, seconds), *_ruling(seed, count, seconds)]
    if "clone" not in options:
        # Where two histories part, and both have pruned that place, nobody can tell them apart any more.
        operations += _sensing(seed, count, seconds, operations)
    for kind, every_s in options.items():
        operations += _strikes(draws[kind], kind, every_s, count, seconds)
    return Plan(seed, count, shape, harsh, knobs, seconds, options, tuple(sorted(operations)))


def _shape(draw: random.Random, nodes: int) -> Shape:
    """A quarter of the worlds are lines. Many nodes are never all linked with each other."""
    if nodes > MANY_NODES:
        return "graph"
    return "line" if draw.random() < 0.25 else "mesh"  # noqa: PLR2004 - a quarter


def _rate(draw: random.Random) -> float:
    return float(BUSIEST_EVERY_S * (QUIETEST_EVERY_S / BUSIEST_EVERY_S) ** draw.random())


def _work(draw: random.Random, nodes: int, seconds: float) -> Iterator[Operation]:
    """What applications do: publish, now and then a burst; begin and end work."""
    every_s = PUBLISH_EVERY_S * max(1.0, nodes / MANY_NODES)
    for device in range(nodes):
        at = draw.expovariate(1 / every_s)
        while at < seconds:
            (kind,) = draw.choices(tuple(WORK), tuple(WORK.values()))
            yield Operation(round(at, 6), kind, (device,), int(MAX_BURST ** draw.random()))
            at += draw.expovariate(1 / every_s)


def _sensing(
    seed: int, nodes: int, seconds: float, others: Sequence[Operation]
) -> Iterator[Operation]:
    """Readings of the devices; drawn by themselves, so that they change nothing else of a seed.

    Who is revoked reports none: what its horizon had others delete before they heard of the cut, they have no more,
    and whoever heard of the cut first keeps it.
    """
    draw = random.Random(f"sensing {seed}")  # noqa: S311 - repeatable on purpose
    if draw.random() < 0.5:  # noqa: PLR2004 - half of the worlds
        return
    revoked = {one.devices[1] for one in others if one.kind == "revoke"}
    at = draw.expovariate(1 / SENSE_EVERY_S)
    while at < seconds:
        sensing = Operation(round(at, 6), SENSE, _one(draw, nodes), draw.randint(1, MAX_SENSED))
        if not revoked & set(sensing.devices):
            yield sensing
        at += draw.expovariate(1 / SENSE_EVERY_S)


def _ruling(seed: int, nodes: int, seconds: float) -> Iterator[Operation]:
    """What the admin does; drawn by itself, so that it changes nothing else of a seed."""
    draw = random.Random(f"admin {seed}")  # noqa: S311 - repeatable on purpose
    for kind, concerned in ADMIN.items():
        if draw.random() < ADMIN_WORLDS:
            for _ in range(draw.randint(1, MAX_ADMIN)):
                at = round(draw.uniform(0.0, seconds), 6)
                devices = tuple(draw.sample(range(nodes), concerned))
                yield Operation(at, kind, devices, round(draw.random(), 6))


def _strikes(
    draw: random.Random, kind: str, every_s: float, nodes: int, seconds: float
) -> Iterator[Operation]:
    """One kind of hardship, beginning and (where it lasts) ending again and again."""
    hardship = HARDSHIPS[kind]
    at = draw.expovariate(1 / every_s)
    while at < seconds:
        devices = hardship.choose(draw, nodes)
        yield Operation(round(at, 6), kind, devices, round(draw.random(), 6))
        if hardship.ends_with:
            lasting = draw.expovariate(1 / every_s)
            end = min(at + lasting, seconds)
            yield Operation(round(end, 6), hardship.ends_with, devices, 0.0)
        at += draw.expovariate(1 / every_s)


def _one(draw: random.Random, nodes: int) -> tuple[int, ...]:
    return (draw.randrange(nodes),)


def _pair(draw: random.Random, nodes: int) -> tuple[int, ...]:
    source = draw.randrange(nodes)
    return source, (source + draw.randint(1, nodes - 1)) % nodes


def _group(draw: random.Random, nodes: int) -> tuple[int, ...]:
    return tuple(sorted(draw.sample(range(nodes), draw.randint(1, nodes - 1))))


class _Hardship(NamedTuple):
    """Whom a kind of hardship strikes, and the operation that ends it, if it lasts."""

    choose: Callable[[random.Random, int], tuple[int, ...]]
    ends_with: str = ""


HARDSHIPS: Mapping[str, _Hardship] = {
    "partition": _Hardship(_group, "heal_partition"),
    "isolate": _Hardship(_one, "heal"),
    "cut": _Hardship(_pair, "mend"),
    "flap": _Hardship(_pair, "mend"),
    "stall": _Hardship(_pair, "mend"),
    "slow": _Hardship(_pair, "mend"),
    "forge": _Hardship(_pair),
    "power_cut": _Hardship(_one, "start"),
    "crash": _Hardship(_one, "start"),
    "restart": _Hardship(_one),
    "clock_jump": _Hardship(_one),
    "disk_full": _Hardship(_one, "disk_freed"),
    "backup": _Hardship(_one, "restore_backup"),
    "copy_card": _Hardship(_one, "restore_card"),
    "flip_bit": _Hardship(_one),
    "clone": _Hardship(_one),
}

_APART = {"flip_bit", "clone"}
"""Kinds that are drawn from a generator of their own: all else that a seed draws is what it was without them."""


_SELDOM = {"clone": 0.2}
"""How many seeds draw what makes laws less strict; of all else half do, for swarm testing."""

KINDS = (
    frozenset((*WORK, SENSE, *ADMIN))
    | frozenset(HARDSHIPS)
    | {one.ends_with for one in HARDSHIPS.values()} - {""}
)
"""Every kind of operation."""


def plan_value(plan: Plan) -> dict[str, Any]:
    """What is printed of a plan beside a failure."""
    return {
        "nodes": plan.nodes,
        "shape": plan.shape,
        "harsh": plan.harsh,
        "knobs": list(plan.knobs),
        "options": dict(plan.options),
    }
