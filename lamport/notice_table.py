"""Notices on the disk, and how far the streams of revoked nodes count.

What a notice says is in its bytes. How far a stream counts because of it was found by comparing hashes, and is written
in the transaction that keeps the notice, or that found it later: it is read again when the database is opened, before
anything is handed out.
"""

import logging
from collections.abc import Iterable, Mapping

from lamport.cuts import Cuts
from lamport.errors import InvalidInput
from lamport.ids import NodeId, StreamId
from lamport.notices import Notice, NoticeKind, Notices, decode_notice
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


async def load_cuts(connection: Connection, notices: Iterable[Notice]) -> Cuts:
    """How far the streams of revoked nodes count, as it was found."""
    rows = await connection.fetch('SELECT node, number, branch, "offset" FROM cuts')
    limits = {
        StreamId(NodeId(node), number, bytes(branch)): limit for node, number, branch, limit in rows
    }
    revocations = [
        decode_revocation(one.body) for one in notices if one.kind == NoticeKind.REVOCATION
    ]
    return Cuts(tuple(revocations), limits)
