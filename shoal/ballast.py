"""A megabyte that lies in the data folder for nothing, until the disk is full.

Where there is no room at all, not even what makes room can be done: a checkpoint moves the write-ahead log into the
database before the log can be cut off, a new token must be written beside a database before anything is appended to
it, and SQLite deletes by writing first. So the ballast is thrown out then, and what it gives free is for tidying up and
not for events: until there is room for the ballast itself again, appends go on being refused.

    stands ── no room for a commit, or for a start ──> given ── room for it again, and some to spare ──> stands

A node that never had room for ballast goes without.
"""

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path

BALLAST_NAME = "ballast"

BALLAST_BYTES = 1024 * 1024
"""Enough for the token, for deletions and, with what a checkpoint frees while it goes on, for most checkpoints."""

SPARE_BYTES = 256 * 1024
"""Room that must be left beside the ballast: with less of it the next commit would throw it out again."""

_log = logging.getLogger("shoal.node")


class Ballast:
    """The ballast of one data folder: a `lamport.seams.Reserve`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BALLAST_NAME
        self._given = False

    def prepare(self) -> None:
        """Before the log is opened: lay it down where there is room; where there is none to open with, throw it out."""
        with suppress(OSError):  # a disk that cannot be written to is told by who must write to it
            if not self._is_whole():
                self._lay()
            elif self._room() < SPARE_BYTES:
                self._throw_out()

    async def stands(self) -> bool:
        """See `Reserve.stands`."""
        if self._given and await asyncio.to_thread(self._lay):
            _log.warning("there is room on the disk again: events are stored")
            self._given = False
        return not self._given

    async def give(self) -> bool:
        """See `Reserve.give`."""
        return not self._given and await asyncio.to_thread(self._throw_out)

    def _is_whole(self) -> bool:
        return self._path.exists() and self._path.stat().st_size == BALLAST_BYTES

    def _room(self) -> int:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def _lay(self) -> bool:
        """Put it in its place if there is room for it; returns whether it is there."""
        try:
            self._path.unlink(missing_ok=True)  # what a crash left of it
            if self._room() < BALLAST_BYTES + SPARE_BYTES:
                return False
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                # Zeros take no room on a disk that compresses.
                file.write(os.urandom(BALLAST_BYTES))
                file.flush()
                os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        return True

    def _throw_out(self) -> bool:
        if not self._path.exists():
            return False
        self._path.unlink()
        self._given = True
        _log.warning("the disk is full: nothing is stored until there is room on it again")
        return True
