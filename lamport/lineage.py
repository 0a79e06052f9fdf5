"""Whether this database is the one its node wrote last, or a copy that came back.

Whoever goes on writing on an older copy writes a second history of its stream. Therefore a token stands twice: in the
database, and beside it where a backup of the database leaves it out. Both change at every start, at the
latest before the first commit, so that a copy made in an earlier run bears a token that is no longer valid:

    beside it   old    old, new   old, new   new
    database    old    old        new        new    first commit

Wherever the power goes in between, both still agree. A copy that does not agree never gets its own token beside it: it
goes on disagreeing until a new stream number stands in it, in the same transaction as the new token.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lamport.errors import StoreFailed, StoreFull
from lamport.routes import OwnStreams
from lamport.seams import Connection, Disk, Statement

TOKEN_BYTES = 8
"""Length of a token: a number that is drawn as stream numbers are."""

MARK_AS_COPY = Statement("INSERT OR REPLACE INTO facts VALUES ('token', x'')")
"""To be run on a copy of a database that was in use: it then agrees with nothing, wherever it is put."""

_NONE = bytes(TOKEN_BYTES)
"""Stands for the token of a database that has none yet."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class Lineage:
    """The token of one database, from the opening on."""

    def __init__(self, disk: Disk, draw_number: Callable[[], int]) -> None:
        self.draw_number = draw_number
        """Draws stream numbers and tokens."""
        self.recorded: OwnStreams | None = None
        """The streams whose numbers stand in the database together with this run's token, once they do."""
        self._disk = disk
        self._held = b""

    async def agrees(self, facts: Mapping[str, Any]) -> bool:
        """Whether the database with these facts is the one that was written last. Nothing is written."""
        held = facts.get("token")
        with _translated():
            beside = await self._disk.read_token()
        valid = {beside[i : i + TOKEN_BYTES] for i in range(0, len(beside), TOKEN_BYTES)}
        token = _NONE if held is None else bytes(held)
        agreed = token in valid or (held is None and not beside)
        self._held = token if agreed else b""
        return agreed

    async def record(self, writer: Connection, own: OwnStreams) -> None:
        """Make this run's token and the numbers of its streams durable, in the order that survives a crash.

        Raises:
            StoreFull: there is no room; the database is as it was, and this may be called again.
            StoreFailed: the disk failed.
        """
        token = self.draw_number().to_bytes(TOKEN_BYTES, "big")
        await self._write(self._held + token)
        facts = [("token", token), ("stream", own.default.number)]
        named = [(name, stream.number) for name, stream in own.named.items()]
        written = Statement("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts)
        more = Statement("INSERT OR REPLACE INTO named_streams VALUES (?, ?)", named)
        await writer.transact([written, more] if named else [written])
        self._held = token
        await self._write(token)
        self.recorded = own

    async def _write(self, tokens: bytes) -> None:
        with _translated():
            await self._disk.write_token(tokens)


class UnusedLineage(Lineage):
    """That of a log which is only read: whatever the token says, nothing is written, into no stream."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk, _draw_nothing)

    async def agrees(self, facts: Mapping[str, Any]) -> bool:  # noqa: ARG002 - whatever they are
        """Nobody needs to know."""
        return True


def _draw_nothing() -> int:
    raise AssertionError("who only reads draws no numbers")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull("the disk is full: nothing was stored; free some space") from error
        raise StoreFailed(f"the disk failed the token beside the database ({error})") from error
