"""Queries drawn from the seed, answered by every node and by a filter over plain lists.

The reader has many ways to an answer: one alternative or several, one tag or several, both orders, stream by stream,
bounded from below and above, in pages. Applications of a simulated minute use few of them; these questions use all.
"""

import random
from collections.abc import Mapping, Sequence

from lamport.event import Event
from lamport.ids import NodeId, StreamId
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.tags import Alternative, Where
from simulations.device import Device
from simulations.errors import LawBroken
from simulations.world import World

BOUNDED_BELOW, HELD, LOCAL = 0.3, 0.7, 0.2
"""How often a query leaves out the beginning of a stream, names a stream at all, and asks for local events."""

QUESTIONS = 2
"""Queries that each node answers in a quiet phase."""


async def check_queries(world: World, events: Sequence[Event], tags: Sequence[str]) -> None:
    """Hold drawn queries against the same selection from these events, which all nodes hold, in key order.

    Raises:
        LawBroken: a node answers differently.
    """
    draw = world.generator("questions")
    for device in world.members:
        for _ in range(QUESTIONS):
            await _check(device, events, _drawn_where(draw, tags), draw)


async def _check(
    device: Device, events: Sequence[Event], where: Where, draw: random.Random
) -> None:
    held = dict(device.node.offsets.items())
    lower, upper = _drawn_bound(draw, held, BOUNDED_BELOW), _drawn_bound(draw, held, HELD)
    order = draw.choice(tuple(Order))
    expected = [
        one
        for one in events
        if _selects(where, one, device.identity.node)
        and lower.of(one.stream) < one.offset <= upper.of(one.stream)
    ]
    answered = [
        one async for one in device.node.query(where, order=order, lower=lower, upper=upper)
    ]
    if _arranged(answered, order) != _arranged(expected, order, sort=True):
        raise LawBroken(
            f"law 6: {device.name} answers {where} ({order.value}) with {len(answered)} events, not {len(expected)}, or"
            " in another order"
        )


def _drawn_bound(draw: random.Random, held: Mapping[StreamId, int], share: float) -> OffsetMap:
    """An offset of some streams."""
    return OffsetMap({s: draw.randint(0, top) for s, top in held.items() if draw.random() < share})


def _arranged(events: Sequence[Event], order: Order, *, sort: bool = False) -> object:
    """Events in the order that is asked for; of streams only the order within each counts."""
    if order is Order.PER_STREAM:
        streams: dict[StreamId, list[Event]] = {}
        for event in events:
            streams.setdefault(event.stream, []).append(event)
        return streams
    return events[::-1] if sort and order is Order.DESCENDING else list(events)


def _selects(where: Where, event: Event, node: NodeId) -> bool:
    return any(
        (not one.local or event.stream.node == node) and set(one.tags) <= set(event.tags)
        for one in where.alternatives
    )


def _drawn_where(draw: random.Random, tags: Sequence[str]) -> Where:
    """One to three alternatives of no tag to two."""
    return Where(
        Alternative(tuple(sorted(draw.sample(tags, draw.randint(0, 2)))), draw.random() < LOCAL)
        for _ in range(draw.randint(1, 3))
    )
