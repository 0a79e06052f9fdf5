"""What came of one vector."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """A vector's name, and what was wrong; None where all was as the vector says."""

    name: str
    fault: str | None = None
