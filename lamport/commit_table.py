"""A commit as rows: what `lamport.store` writes of it in one transaction, and what the tag index takes in.

Values in, statements out. `row_of` gives the local number of each stream that the commit names.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lamport.branch_table import fork_statements
from lamport.codec import StoredEvent
from lamport.commit import Commit
from lamport.horizon_table import horizon_statements
from lamport.ids import STREAM_NUMBER_LIMIT, StreamId
from lamport.postings import tag_hashes
from lamport.retraction_table import inserted
from lamport.row_keys import STREAM_BITS, row_checksum, row_key
from lamport.seams import Statement
from lamport.tag_index import Run


def tag_entries(commit: Commit, row_of: Mapping[StreamId, int]) -> list[int]:
    """The commit's entries for the tag index."""
    entries: list[int] = []
    for event, _ in commit.events:
        lamport, stream = event.key
        key = lamport << STREAM_BITS | row_of[stream]
        for tag in tag_hashes(event.tags):
            entries += (tag, key)
    return entries


def commit_statements(
    commit: Commit, runs: Sequence[Run], row_of: Mapping[StreamId, int]
) -> Iterator[Statement]:
    """All that a commit writes, and no statement without rows: a single event is four at most."""
    if commit.certificates:
        yield Statement(
            "INSERT INTO authors VALUES (?, ?) ON CONFLICT DO NOTHING",
            list(commit.certificates.items()),
        )
    if commit.heads:
        yield _heads_statement(commit, row_of)
    for adoption in commit.forks:
        yield from fork_statements(adoption, row_of)
    if commit.events:
        yield Statement(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
            [_event_row(one, row_of) for one in commit.events],
        )
    if commit.horizons:
        yield from horizon_statements(commit.horizons, row_of)
    if runs:
        yield Statement("INSERT INTO tag_runs VALUES (?, ?)", runs)
    if commit.retractions:
        yield inserted(commit.retractions)
    if commit.seals:
        yield Statement(
            "INSERT OR REPLACE INTO seals VALUES (?, ?, ?, ?, ?, ?)",
            [
                (row_of[s.stream], s.offset, s.hash, s.clock, s.horizon, s.signature)
                for s in commit.seals
            ],
        )


def _heads_statement(commit: Commit, row_of: Mapping[StreamId, int]) -> Statement:
    return Statement(
        "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (row)"
        " DO UPDATE SET head = excluded.head, hash = excluded.hash, lamport = excluded.lamport",
        [
            (
                row_of[stream],
                bytes(stream.node),
                STREAM_NUMBER_LIMIT + row_of[stream] if stream.branch else stream.number,
                head.offset,
                head.hash,
                head.lamport,
            )
            for stream, head in commit.heads.items()
        ],
    )


def _event_row(one: StoredEvent, row_of: Mapping[StreamId, int]) -> tuple[Any, ...]:
    lamport, stream = one.event.key
    row, offset, data = row_of[stream], one.event.offset, one.data
    key = row_key(lamport, row)
    return key, row, offset, data, row_checksum(key, offset, data)
