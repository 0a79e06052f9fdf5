"""What a page of a read weighs: large events do not fill the memory, whoever reads them however slowly."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lamport.event import draft
from lamport.event_table import Found, Part
from lamport.paging import FIRST_EVENTS, LEAST_EVENTS, PAGE_BYTES, Paging
from lamport.reader import SCANNED_PAGES, Order
from lamport.seams import Connection
from lamport.sqlite import SqliteConnection, SqliteDisk
from lamport.tags import ALL_EVENTS, Tag, Where
from tests.lamport.keys import open_log, read_all

EVENTS, PAYLOAD = 300, "x" * 60_000


class WeighingConnection:
    """A real connection; of each answer it notes how many bytes of blobs it holds."""

    def __init__(self, connection: SqliteConnection, weights: list[int]) -> None:
        self._connection = connection
        self._weights = weights
        self.transact = connection.transact
        self.close = connection.close

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found = await self._connection.fetch(sql, parameters)
        self._weights.append(sum(len(cell) for row in found for cell in row if type(cell) is bytes))
        return found


class WeighingDisk(SqliteDisk):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.weights: list[int] = []

    async def open_reader(self) -> Connection:  # type: ignore[override] # as the seam has it
        return WeighingConnection(await super().open_reader(), self.weights)


@pytest.mark.parametrize(
    ("where", "order", "most"),
    [
        (ALL_EVENTS, Order.ASCENDING, SCANNED_PAGES * PAGE_BYTES),
        (ALL_EVENTS, Order.DESCENDING, SCANNED_PAGES * PAGE_BYTES),
        (ALL_EVENTS, Order.PER_STREAM, PAGE_BYTES),
        (Tag("large"), Order.ASCENDING, PAGE_BYTES),
    ],
)
def test_large_events_are_read_a_few_at_a_time(
    tmp_path: Path, where: Where, order: Order, most: int
) -> None:
    disk = WeighingDisk(tmp_path)

    async def run() -> None:
        async with open_log(tmp_path, disk=disk) as log:
            for _ in range(EVENTS):
                await log.publish([draft(["large"], PAYLOAD)])
            assert len(await read_all(log, where, order=order)) == EVENTS
            disk.weights.clear()
            assert len(await read_all(log, where, order=order)) == EVENTS
            assert sum(disk.weights) > EVENTS * len(PAYLOAD)
            assert max(disk.weights) <= most

    asyncio.run(run())


def test_how_many_events_a_page_has_follows_from_what_they_weigh() -> None:
    paging = Paging()

    def limits() -> tuple[int, int]:
        return paging.rows(1_000), paging.keys(1_000)

    def learn(*data: Any) -> None:
        paging.learn(Found([(number, number, one, None) for number, one in enumerate(data)], ()))

    assert limits() == (FIRST_EVENTS, FIRST_EVENTS)
    learn(b"x" * 100)
    assert limits() == (1_000, 1_000)
    learn(b"x" * (PAGE_BYTES // 50))
    assert limits() == (50, 50)
    learn(b"x" * PAGE_BYTES)
    assert limits() == (LEAST_EVENTS, LEAST_EVENTS)
    learn()
    learn("anything", None)
    assert limits() == (LEAST_EVENTS, LEAST_EVENTS)


def test_behind_a_page_of_old_events_more_are_looked_up_and_no_more_fresh_ones_taken() -> None:
    block: Any = None  # it is not looked into
    paging = Paging()
    paging.learn(Found((), [Part(block, range(1))]))
    assert paging.rows(1_000) == FIRST_EVENTS
    assert FIRST_EVENTS < paging.keys(1_000) < 1_000
