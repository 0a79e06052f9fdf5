"""The events of all benchmarks: a shop floor from a seed.

Forty machines work on orders and report about six kinds of things. Every event has a fresh id, the machine's own
clock, which jitters and may run behind, and readings that wander; three tags name the machine, the order and the kind.
The payload has about 200 bytes of msgpack. It compresses as real ones do: the field names and units repeat, the ids
and readings do not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from random import Random
from typing import Any, NamedTuple

SEED = 4454
"""The seed of every benchmark, unless another one is asked for."""

MACHINES = 40
"""Machines on the floor."""

ORDER_EVENTS = 120
"""About so many events belong to one order; then the machine begins another one."""

SETTLING_EVENTS = 16_000
"""Events in a log before commits are timed. By then SQLite's write-ahead log has been through a checkpoint and is
overwritten in place; before, each commit would pay for a growing file, and the more so the fewer pages it writes."""

START_US = 1_700_000_000_000_000
"""When the shift begins, microseconds since the epoch."""


class Sample(NamedTuple):
    """What an application hands in: three tags (sorted) and a payload."""

    tags: tuple[str, ...]
    payload: dict[str, Any]


class _Kind(NamedTuple):
    """A kind of event: how often it happens, what it measures, and around which value."""

    name: str
    weight: int
    unit: str
    level: float


_KINDS = (
    _Kind("temperature", 32, "degC", 184.0),
    _Kind("pressure", 25, "bar", 96.0),
    _Kind("cycle", 25, "s", 12.5),
    _Kind("torque", 12, "Nm", 41.0),
    _Kind("scrap", 1, "pcs", 2.0),
    _Kind("energy", 5, "kWh", 3.2),
)
_WEIGHTS = tuple(kind.weight for kind in _KINDS)
_TRACE_POINTS = (2, 6)
_PRECISION = 3


@dataclass(slots=True)
class _Machine:
    """One machine: its name, the order in work, and how far its clock is off."""

    name: str
    order: str
    operator: str
    recipe: str
    skew_us: int
    count: int = 0


def generate(count: int, seed: int = SEED) -> tuple[Sample, ...]:
    """That many samples; the same ones for the same seed, and a longer run begins with a shorter one."""
    return tuple(islice(stream(seed), count))


def stream(seed: int = SEED) -> Iterator[Sample]:
    """The same samples without end, one by one: a million at once would fill the memory."""
    return _floor(Random(seed))  # noqa: S311 - events, not secrets


@lru_cache(maxsize=1)
def settling() -> tuple[Sample, ...]:
    """What is in a log before commits are timed."""
    return generate(SETTLING_EVENTS)


def _floor(randomness: Random) -> Iterator[Sample]:
    machines = [_machine(randomness, number) for number in range(MACHINES)]
    now = START_US
    while True:
        now += int(randomness.expovariate(1 / 250_000))
        machine = randomness.choice(machines)
        if randomness.random() < 1 / ORDER_EVENTS:
            machine.order = _order(randomness)
        [kind] = randomness.choices(_KINDS, _WEIGHTS)
        machine.count += 1
        yield _sample(randomness, machine, kind, now)


def _machine(randomness: Random, number: int) -> _Machine:
    operator = f"op-{randomness.randrange(100, 160)}"
    recipe = f"R{randomness.randrange(1_000, 10_000)}"
    skew_us = int(randomness.gauss(0, 2_000_000))
    return _Machine(f"press-{number:02}", _order(randomness), operator, recipe, skew_us)


def _sample(randomness: Random, machine: _Machine, kind: _Kind, now: int) -> Sample:
    tags = (f"device:{machine.name}", f"order:{machine.order}", f"type:{kind.name}")
    value = randomness.gauss(kind.level, kind.level / 20)
    points = randomness.randint(*_TRACE_POINTS)
    payload = {
        "id": f"{randomness.getrandbits(96):024x}",
        "kind": kind.name,
        "device": machine.name,
        "order": machine.order,
        "operator": machine.operator,
        "recipe": machine.recipe,
        "count": machine.count,
        "at": now + machine.skew_us + int(randomness.gauss(0, 20_000)),
        "value": round(value, _PRECISION),
        "unit": kind.unit,
        "trace": [round(randomness.gauss(value, 1.0), _PRECISION) for _ in range(points)],
        "ok": value < kind.level * 1.1,
    }
    return Sample(tags, payload)


def _order(randomness: Random) -> str:
    return f"wo-{randomness.getrandbits(40):010x}"
