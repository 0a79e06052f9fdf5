"""Where the world enters the log: wall clock, disk, work.

The daemon and the simulator run the same code; all that differs between them is handed in through these few protocols
(time and randomness otherwise come from the event loop and from a `random.Random`, the system's or a seeded one; the
network's protocol stands in `transport.network`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

WallClock = Callable[[], int]
"""Microseconds since the epoch by this device's clock, right or wrong. For display; nothing is ordered by it."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Statement(NamedTuple):
    """One SQL statement of a transaction: run once for each row of parameters, or once where `rows` is None."""

    sql: str
    rows: Sequence[Sequence[Any]] | None = None


class Connection(Protocol):
    """A connection to one SQLite database, free of any thread or transaction left open between two calls.

    Errors of the disk reach the caller as `sqlite3.Error` with its `sqlite_errorcode`.
    """

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement and return all its rows."""
        ...

    async def transact(self, statements: Iterable[Statement]) -> None:
        """Run the statements as one transaction: when this returns all of them are durable, when it raises none is."""
        ...

    async def close(self) -> None:
        """Close the connection. Closing twice is fine."""
        ...


class Disk(Protocol):
    """Opens the database of one node. Exactly one writer at a time; readers see what was committed."""

    async def open_writer(self) -> Connection:
        """Open the one connection that writes and checkpoints, making the database where there is none."""
        ...

    async def open_reader(self) -> Connection:
        """Open a connection that only reads. It may be the writer's own."""
        ...

    async def read_token(self) -> bytes:
        """The few bytes that stand beside the database, where its backups leave them out; empty where there are none.

        Errors reach the caller as `OSError`.
        """
        ...

    async def write_token(self, token: bytes) -> None:
        """Put others in their place: when this returns they are durable, when it raises the old ones may stand."""
        ...


class Reserve(Protocol):
    """Room on the disk that is kept for hard times, so that a node on a full disk can still do what makes room."""

    async def stands(self) -> bool:
        """Whether events may be stored: not from `give` on, until there was room to lay it aside again."""
        ...

    async def give(self) -> bool:
        """Give the room free; returns whether there was any to give."""
        ...


class NoReserve:
    """Nothing is kept: for tests, tools and the simulator."""

    async def stands(self) -> bool:
        """Nothing is missing."""
        return True

    async def give(self) -> bool:
        """There is nothing to give."""
        return False


NO_RESERVE: Reserve = NoReserve()


class Work(Protocol):
    """Runs computations that are too long for the event loop."""

    async def run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Run the function elsewhere, or inline, and return its result."""
        ...


class InlineWork:
    """Runs computations where they are asked for: for tests, tools and the simulator."""

    async def run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Run the function now."""
        return function(*args, **kwargs)


INLINE: Work = InlineWork()
