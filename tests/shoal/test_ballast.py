"""The ballast: when it lies there, when it is thrown out, and that nothing half of it is left."""

import asyncio
import os
from pathlib import Path

import pytest

from shoal.ballast import BALLAST_BYTES, BALLAST_NAME, SPARE_BYTES, Ballast


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the disk says that it has room for: the last of the list."""
    said = [2**40]

    def statvfs(_path: object) -> os.statvfs_result:
        return os.statvfs_result((1, 1, 0, 0, said[-1], 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    return said


def size(folder: Path) -> int | None:
    path = folder / BALLAST_NAME
    return path.stat().st_size if path.exists() else None


@pytest.mark.parametrize(("missing", "laid"), [(0, BALLAST_BYTES), (1, None)])
def test_it_is_laid_where_there_is_room_for_it_and_some_to_spare(
    tmp_path: Path, room: list[int], missing: int, laid: int | None
) -> None:
    room.append(BALLAST_BYTES + SPARE_BYTES - missing)
    ballast = Ballast(tmp_path)
    ballast.prepare()
    assert size(tmp_path) == laid
    assert asyncio.run(ballast.stands())  # without any, events are stored as long as that goes


def test_it_is_given_once_and_comes_back_with_the_room(tmp_path: Path, room: list[int]) -> None:
    async def run() -> None:
        ballast = Ballast(tmp_path)
        ballast.prepare()
        assert await ballast.give()
        assert size(tmp_path) is None
        room.append(BALLAST_BYTES + SPARE_BYTES - 1)
        assert not await ballast.give()
        assert not await ballast.stands()
        room.append(BALLAST_BYTES + SPARE_BYTES)
        assert await ballast.stands()
        assert size(tmp_path) == BALLAST_BYTES

    asyncio.run(run())


@pytest.mark.parametrize(("left", "kept"), [(SPARE_BYTES, True), (SPARE_BYTES - 1, False)])
def test_a_start_without_room_throws_it_out(
    tmp_path: Path, room: list[int], left: int, *, kept: bool
) -> None:
    Ballast(tmp_path).prepare()
    room.append(left)
    ballast = Ballast(tmp_path)
    ballast.prepare()
    assert (size(tmp_path) is not None) is kept
    assert asyncio.run(ballast.stands()) is kept


def test_what_a_crash_left_of_it_is_replaced(tmp_path: Path, room: list[int]) -> None:
    assert room
    (tmp_path / BALLAST_NAME).write_bytes(b"half")
    Ballast(tmp_path).prepare()
    assert size(tmp_path) == BALLAST_BYTES


def test_a_folder_that_cannot_be_written_to_goes_without(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "missing")
    ballast.prepare()
    assert asyncio.run(ballast.stands())
    assert not asyncio.run(ballast.give())
