"""Proven forks on the disk: the statements that keep one, in the commit that takes it in."""

from collections.abc import Iterator, Mapping

from lamport.forks import Adoption, encode_proof
from lamport.ids import StreamId
from lamport.seams import Statement


def fork_statements(adoption: Adoption, row_of: Mapping[StreamId, int]) -> Iterator[Statement]:
    """The statements that keep a proof and the branches that it tells apart."""
    origin, parent = adoption.origin, adoption.origin.stream
    node, trunk = bytes(parent.node), row_of[parent]
    place = (trunk, origin.offset, origin.hash, origin.lamport)
    yield Statement(  # of which nothing may be held: then both histories have nothing in common
        "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
        [(trunk, node, parent.number, origin.offset, origin.hash, origin.lamport)],
    )
    rows = {grown.head.stream: row_of[grown.head.stream] for grown in adoption.grown}
    if adoption.tail is not None:
        rows[adoption.tail] = trunk
    yield Statement(
        "INSERT INTO branches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(node, parent.number, one.branch, row, *place) for one, row in rows.items()],
    )
    alarm = int(adoption.found)
    yield Statement(
        "INSERT OR IGNORE INTO forks VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                node,
                parent.number,
                *(one.branch for one in proof.branches),
                encode_proof(proof),
                alarm,
            )
            for proof in adoption.proofs
        ],
    )
