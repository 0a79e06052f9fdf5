"""Notices on the disk, and how far the streams of revoked nodes count.

What a notice says is in its bytes. How far a stream counts because of it was found by comparing hashes, and is written
in the transaction that keeps the notice, or that found it later: it is read again when the database is opened, before
anything is handed out.
"""

import logging
from collections.abc import Iterable, Mapping

from lamport.chain import Seal
from lamport.cuts import Cuts, Limit
from lamport.errors import InvalidInput
from lamport.ids import NodeId, StreamId
from lamport.notices import Notice, NoticeKind, Notices, decode_notice
from lamport.offsets import NOTHING
from lamport.revocation import decode_revocation
from lamport.seams import Connection, Statement

_log = logging.getLogger("shoal.log")


def inserted_notice(notice: Notice) -> Statement:
    """The statement that keeps a notice."""
    return Statement(
        "INSERT OR REPLACE INTO notices (id, bytes) VALUES (?, ?)",
        [(notice.id, notice.encode())],
    )


def inserted_limits(limits: Mapping[StreamId, int]) -> Statement:
    """The statement that keeps how far parts of streams count."""
    return Statement(
        "INSERT OR REPLACE INTO cuts VALUES (?, ?, ?, ?)",
        [
            (bytes(part.node), part.number, part.branch, limit)
            for part, limit in sorted(limits.items())
        ],
    )


def inserted_seals(seals: Iterable[tuple[int, Seal]]) -> Statement:
    """The statement that keeps seals, each with the row in which it stands."""
    return Statement(
        "INSERT OR REPLACE INTO seals VALUES (?, ?, ?, ?, ?, ?)",
        [(row, s.offset, s.hash, s.clock, s.horizon, s.signature) for row, s in seals],
    )


async def load_notices(connection: Connection) -> Notices:
    """The notices of a database, oldest first. One that the disk has damaged is left out: whoever is met has it."""
    rows = await connection.fetch("SELECT id, bytes FROM notices ORDER BY place")
    return Notices(one for id_, data in rows for one in _sound(id_, data))


def _sound(id_: bytes, data: bytes) -> list[Notice]:
    try:
        notice = decode_notice(data)
    except InvalidInput:
        notice = None
    if notice is None or notice.id != id_:
        _log.error("a notice of the admin is damaged on this disk: the next peer is asked for it")
        return []
    return [notice]


async def load_cuts(
    connection: Connection, notices: Iterable[Notice], row_of: Mapping[StreamId, int]
) -> Cuts:
    """How far the streams of revoked nodes count, as it was found. What is disputed is found again by who writes."""
    rows = await connection.fetch('SELECT node, number, branch, "offset" FROM cuts')
    revocations = [
        decode_revocation(one.body) for one in notices if one.kind == NoticeKind.REVOCATION
    ]
    cuts = Cuts(tuple(revocations))
    limits: dict[StreamId, Limit] = {}
    for node, number, branch, offset in rows:
        part = StreamId(NodeId(node), number, bytes(branch))
        limits[part] = Limit(offset)
        if offset >= 0 and part in row_of:
            own = await _own_limit(connection, part, row_of[part], offset)
            # Of a part that bears a cut, the seal there may have gone when the events were packed.
            is_own = own.offset == offset or not cuts.named_at(part, offset)
            limits[part] = own if is_own else limits[part]
    return cuts.with_limits(limits)


async def _own_limit(connection: Connection, part: StreamId, row: int, offset: int) -> Limit:
    """The limit of a part at the last seal that is stored up to an offset."""
    found = await connection.fetch(
        'SELECT "offset", hash, clock, horizon, signature FROM seals WHERE stream = ?'
        ' AND "offset" <= ? ORDER BY "offset" DESC LIMIT 1',
        (row, offset),
    )
    seal = Seal(part, *found[0]) if found else None
    return Limit(NOTHING) if seal is None else Limit(seal.offset, seal)
