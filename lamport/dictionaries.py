"""Dictionaries: what events have in common, learnt once, with which short frames are compressed.

The first is learnt from the first events that are packed, later ones from later events: what devices say changes over
the years. A frame can be read with its own dictionary alone, so all are kept, each twice: one that is lost would take
whole years along. Each is small, and there are never more than `MAX_DICTIONARIES`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import zstandard

from lamport.seams import Connection, Statement

LEVEL = 6
"""Of compression: nine saves one and a half bytes more for each event, and takes twice the time."""

DICTIONARY_BYTES = 32 * 1024
"""Twice as much saves half a byte for each event, and takes as much longer to load."""

SAMPLE_EVENTS = 1_024
"""Events that a dictionary is learnt from: the oldest of those that are about to be packed …"""

SAMPLE_BYTES = 1_024
"""… and no larger than this: large ones compress well by themselves. Some 20 milliseconds."""

MIN_SAMPLES = 32
"""Of fewer frames nothing is learnt."""

MAX_DICTIONARIES = 64
"""Two megabytes at most, four with their copies."""

_DUE = 0, 65_536
"""After so many packed events the first dictionaries are learnt, and a further one …"""

_DUE_EACH = 1 << 20
"""… after each so many."""

COPIES = 2

MAX_NUMBER = 2**16 - 1
"""Of a dictionary: blocks have two bytes for it."""

SELECT = "SELECT number, copy, data, crc FROM dictionaries ORDER BY number, copy"

Decompress = Callable[[bytes], bytes]


class Stored(NamedTuple):
    """A copy of a dictionary as a row of its table."""

    number: int
    copy: int
    data: bytes
    crc: int

    @property
    def is_named(self) -> bool:
        """Whether it has a number that a dictionary may have: in a damaged row anything may stand."""
        number: Any = self.number
        return isinstance(number, int) and 0 < number <= MAX_NUMBER

    @property
    def is_sound(self) -> bool:
        """Whether it is what was written."""
        data: Any = self.data
        if not self.is_named or type(self.copy) is not int or not isinstance(data, bytes):
            return False
        return checksum(self.number, self.copy, data) == self.crc


class Compressor:
    """Compresses with one dictionary, or with none, which has the number 0. For one thread at a time."""

    def __init__(self, number: int = 0, data: bytes = b"") -> None:
        self.number = number
        learnt = zstandard.ZstdCompressionDict(data) if data else None
        # The dictionary's number stands in the block's directory: no need to repeat it in each frame.
        settings: dict[str, Any] = {"write_checksum": True, "write_dict_id": False}
        self._compress = zstandard.ZstdCompressor(LEVEL, dict_data=learnt, **settings).compress

    def compress(self, content: bytes) -> bytes:
        """A zstd frame with a checksum."""
        return self._compress(content)


class Dictionaries:
    """All dictionaries of one database. For one thread."""

    def __init__(self, rows: Iterable[Sequence[Any]] = ()) -> None:
        self._decompress: dict[int, Decompress] = {0: zstandard.ZstdDecompressor().decompress}
        self._numbers = {0}
        self.newest = Compressor()
        """What to compress with from now on."""
        self.take(rows)

    async def load(self, connection: Connection) -> None:
        """Read what is new in the table."""
        self.take(await connection.fetch(SELECT))

    def take(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take in rows of the table; those that are damaged are left out."""
        for row in map(Stored._make, rows):
            if row.is_named:
                self._numbers.add(row.number)
            if row.number not in self._decompress and row.is_sound:
                learnt = zstandard.ZstdCompressionDict(row.data)
                self._decompress[row.number] = zstandard.ZstdDecompressor(
                    dict_data=learnt
                ).decompress
                if row.number > self.newest.number:
                    self.newest = Compressor(row.number, row.data)

    def knows(self, number: int) -> bool:
        """Whether this dictionary was in the table, in whatever state."""
        return number in self._numbers

    def decompressor(self, number: int) -> Decompress:
        """What decompresses with this dictionary.

        Raises:
            ValueError: it is lost.
        """
        found = self._decompress.get(number)
        if found is None:
            raise ValueError(f"dictionary {number} is damaged or lost")
        return found

    def is_due(self, packed: int) -> bool:
        """Whether one more is to be learnt, where so many events are packed."""
        learnt = len(self._numbers) - 1
        due = _DUE[learnt] if learnt < len(_DUE) else (learnt - 1) * _DUE_EACH
        has_room = learnt < MAX_DICTIONARIES and max(self._numbers) < MAX_NUMBER
        return has_room and packed >= due

    def next_rows(self, data: bytes) -> list[Stored]:
        """One more dictionary, as it is stored."""
        number = max(self._numbers) + 1
        return [Stored(number, copy, data, checksum(number, copy, data)) for copy in range(COPIES)]


def checksum(number: int, copy: int, data: bytes) -> int:
    """What tells that a copy is what was written."""
    return crc32(data, number << 1 | copy)


def learn(contents: Sequence[bytes]) -> bytes:
    """A dictionary of what these frames have in common; empty where that is too little."""
    if len(contents) < MIN_SAMPLES:
        return b""
    try:
        return zstandard.train_dictionary(DICTIONARY_BYTES, list(contents)).as_bytes()
    except zstandard.ZstdError:
        return b""  # they have nothing in common


def inserted(rows: Sequence[Stored]) -> Statement:
    """What stores these, in place of damaged ones."""
    return Statement("INSERT OR REPLACE INTO dictionaries VALUES (?, ?, ?, ?)", rows)
