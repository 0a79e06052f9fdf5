"""Leaps of the clock: which timestamps a node believes, and the admin's word for those that it does not.

An honest clock is never further than one above the highest timestamp that its node has seen. One that leaps further is
broken, and would take everybody's clock along, for good. So a range whose timestamps leap above all that is known is
not taken in: it is *quarantined*, that is shown, and asked for again as soon as it would be taken in. Two things make
it so:

- The admin says that the timestamps up to some value are right. That is a notice (`lamport.notices`), kept by everybody
  for good; what it names counts as known, whatever a node has seen.
- A node that has not caught up with anybody yet knows nothing to judge by, and believes what it is told.

    [lamport]        the body of a release
"""

from collections.abc import Iterable
from contextlib import suppress

import msgpack

from lamport.errors import InvalidInput
from lamport.fields import read_number
from lamport.ids import MAX_LAMPORT
from lamport.notices import Notice, NoticeKind

MAX_LEAP = 2**32
"""A range whose timestamps lie further above all known ones is not taken in: it would use up everybody's clock."""


def encode_release(lamport: int) -> bytes:
    """The body of the notice by which timestamps up to this one count as known."""
    body: bytes = msgpack.packb([lamport])
    return body


def decode_release(body: bytes) -> int:
    """Read the body of a notice.

    Raises:
        InvalidInput: it is none of a release.
    """
    try:
        [value] = msgpack.unpackb(body)
        lamport = read_number(value, 0, MAX_LAMPORT)
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise InvalidInput(f"this notice is no release ({error})") from error
    if encode_release(lamport) != body:
        raise InvalidInput("this notice is no release as we write it")
    return lamport


class Leaps:
    """What one node believes of timestamps besides those that it has seen."""

    __slots__ = ("is_newcomer", "released")

    def __init__(self) -> None:
        self.released = 0
        """The highest timestamp that the admin has released."""
        self.is_newcomer = False
        """Whether the node has not caught up with anybody yet; `transport.newcomer` keeps track of that."""

    def learn(self, notices: Iterable[Notice]) -> None:
        """Take note of what the admin has released."""
        for notice in notices:
            if notice.kind == NoticeKind.RELEASE:
                # An older version kept what it could not read; that means nothing, then or now.
                with suppress(InvalidInput):
                    self.released = max(self.released, decode_release(notice.body))

    def reach(self, clock: int) -> int:
        """The highest timestamp that is taken in where `clock` is the highest that was seen."""
        return MAX_LAMPORT if self.is_newcomer else max(clock, self.released) + MAX_LEAP
