"""A log as it is after long use: full of events, its index merged, old events in blocks, and closed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lamport.compaction
from benchmarks.events import stream
from benchmarks.nodes import (
    FILL_BATCH,
    PLAIN_NAME,
    database,
    make_identities,
    publish_batch,
    running,
)
from benchmarks.raw import store_copy
from benchmarks.rounds import fresh_folder
from lamport.log import EventLog
from lamport.seams import INLINE
from lamport.sqlite import SqliteDisk
from lamport.store import Store
from shoal.keys import IdentityKeys
from transport.identity import Identity

EVENTS = 1_000_000
"""Events in the log, unless another number is asked for."""

FREQUENT_TAG = "type:scrap"
"""About one event in a hundred bears it."""


@dataclass(frozen=True, slots=True)
class Library:
    """The log's folder, whose it is, and a tag that only some hundred events bear, in the midst of the log."""

    folder: Path
    identity: Identity
    rare_tag: str

    @property
    def plain(self) -> Path:
        """A plain table of the same events: what bounds are measured on."""
        return self.folder / PLAIN_NAME

    @property
    def database(self) -> Path:
        """The database file."""
        return database(self.folder)


@contextmanager
def library(events: int, *, fresh: bool = False) -> Iterator[Library]:
    """Such a log, for as long as the context is open; a `fresh` one has all events as rows still."""
    [identity] = make_identities(1)
    with fresh_folder() as folder, _rows_kept(fresh):
        full = Library(folder, identity, _rare_tag(events))
        asyncio.run(_fill(folder, identity, events))
        rows = asyncio.run(tidy_up(folder, identity))
        assert not fresh or rows == events, "all of a fresh log are rows"
        assert fresh or rows <= lamport.compaction.IDLE_ROWS, "of a used one, only the latest are"
        store_copy(stream(), events, full.plain)
        yield full


@contextmanager
def _rows_kept(fresh: bool) -> Iterator[None]:  # noqa: FBT001 - internal
    """Let everything count as fresh, where that is to be measured."""
    bounds = {name: getattr(lamport.compaction, name) for name in ("IDLE_ROWS", "MAX_ROWS")}
    for name in bounds if fresh else ():
        setattr(lamport.compaction, name, 2**62)
    try:
        yield
    finally:
        for name, value in bounds.items():
            setattr(lamport.compaction, name, value)


@asynccontextmanager
async def opened(library: Library) -> AsyncIterator[EventLog]:
    """The log without the rest of a node, to be read."""
    async with _opened(library.folder, library.identity) as log:
        yield log


@asynccontextmanager
async def _opened(folder: Path, identity: Identity) -> AsyncIterator[EventLog]:
    keys = IdentityKeys(identity)
    store = await Store.open(SqliteDisk(folder), keys, _any_number)
    try:
        yield EventLog(store, keys, _any_number)
    finally:
        await store.close()


def _any_number() -> int:
    return 1  # this start's token; the log is there already, and is only read


async def _fill(folder: Path, identity: Identity, events: int) -> None:
    samples = stream()
    async with running(folder, identity) as node:
        for start in range(0, events, FILL_BATCH):
            await publish_batch(node, islice(samples, min(FILL_BATCH, events - start)))


async def tidy_up(folder: Path, identity: Identity) -> int:
    """Do what a closed log would do at rest; returns how many events are rows behind it."""
    async with _opened(folder, identity) as log:
        while log.store.tags.entries:
            await log.store.merge_tags(INLINE)
        while log.store.compaction.is_due(idle=True):
            await log.store.merge_events(INLINE)
        return log.store.compaction.rows


def _rare_tag(events: int) -> str:
    """The order that is worked on in the middle of the log."""
    [sample] = islice(stream(), events // 2, events // 2 + 1)
    return next(tag for tag in sample.tags if tag.startswith("order:"))
