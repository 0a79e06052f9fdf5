"""Bounds turned down, so that runs of a minute come to where production comes after a year.

Every queue, page and cache of the node has a named bound. A seed turns some of them down to almost nothing: what
happens beyond a bound must be as right as what happens below it, and nothing about a bound is agreed between nodes, so
any value is a right one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import fish.pond
import lamport.blocks
import lamport.commit
import lamport.compaction
import lamport.dictionaries
import lamport.event_table
import lamport.follower
import lamport.log
import lamport.postings
import lamport.reader
import lamport.requests
import lamport.snapshot_table
import lamport.tag_index
import lamport.turns
import simulations.network
import transport.intake
import transport.sending
import transport.spreading
import transport.wants
from fish.surroundings import Limits
from simulations.errors import SimulationError


class Knob(NamedTuple):
    """A bound: in which module, its name there, and the value it is turned down to."""

    module: Any
    attribute: str
    value: Any


KNOBS: Mapping[str, Knob] = {
    "commits of 3 events": Knob(lamport.turns, "MAX_COMMIT_EVENTS", 3),
    "what is more than one event is long": Knob(lamport.requests, "SHORT_EVENTS", 1),
    "a log stays lively for a minute": Knob(lamport.turns, "LIVELY_S", 60.0),
    "a long rest behind each long range": Knob(lamport.turns, "QUIET_S", 1.0),
    "commits of 5 events of long ranges": Knob(lamport.turns, "MAX_LONG_EVENTS", 5),
    "4 requests wait for the log": Knob(lamport.log, "MAX_WAITING", 4),
    "memory keeps one commit": Knob(lamport.follower, "KEPT_BATCHES", 1),
    "every range is checked by a worker": Knob(lamport.log, "CHECKED_INLINE", 0),
    "tags are merged by the run": Knob(lamport.tag_index, "IDLE_RUNS", 2),
    "tags of 8 to the block": Knob(lamport.postings, "BLOCK_KEYS", 8),
    "blocks of 4 events": Knob(lamport.blocks, "BLOCK_EVENTS", 4),
    "frames of 2 events": Knob(lamport.blocks, "FRAME_EVENTS", 2),
    "a dictionary from 8 frames": Knob(lamport.dictionaries, "MIN_SAMPLES", 8),
    "3 events stay rows": Knob(lamport.compaction, "IDLE_ROWS", 3),
    "blocks are forgotten at once": Knob(lamport.event_table, "OPENED_BLOCKS", 1),
    "pages of 3 events": Knob(lamport.reader, "PAGE_EVENTS", 3),
    "a seal every 5 events": Knob(lamport.commit, "MAX_SEALED_EVENTS", 5),
    "one stored snapshot": Knob(lamport.snapshot_table, "KEPT_SNAPSHOTS", 1),
    "fish with little memory": Knob(fish.pond, "USUAL", Limits(waiting_events=4, snapshot_every=8)),
    "wants of 10 events": Knob(transport.wants, "WANTED_EVENTS", 10),
    "lively wants of 3 events": Knob(transport.wants, "LIVELY_EVENTS", 3),
    "pushes of 5 events": Knob(transport.spreading, "PUSHED_EVENTS", 5),
    "little is pushed ahead": Knob(transport.sending, "MAX_PUSHED_BYTES", 1_500),
    "one want at a time": Knob(transport.wants, "MAX_WANTS", 1),
    "a want waits for a second": Knob(transport.wants, "WANT_TIMEOUT_S", 1.0),
    "one range waits": Knob(transport.intake, "WAITING_RANGES", 1),
    "small socket buffers": Knob(simulations.network, "WINDOW_BYTES", 2_048),
}
"""Every bound that seeds turn down, by what it then means."""


@contextmanager
def turned_down(names: Sequence[str]) -> Iterator[None]:
    """Turn these bounds down while the context is open; raise `SimulationError` for a name that is none."""
    unknown = sorted(set(names) - set(KNOBS))
    if unknown:
        raise SimulationError(f"no such bounds: {', '.join(unknown)}")
    with ExitStack() as back:
        for name in names:
            knob = KNOBS[name]
            back.callback(
                setattr, knob.module, knob.attribute, getattr(knob.module, knob.attribute)
            )
            setattr(knob.module, knob.attribute, knob.value)
        yield
