"""The horizon of a stream: the first offset that its author still keeps, and how far a node has followed it.

The author alone moves it, forwards, and says so in its seals. A node that hears of a higher one first writes the
*announcement* down (a seal, so that it can prove it to others), then gives up what lies behind it (from then on nothing
reads that any more), and then clears it away, a bounded piece at a time:

    announced (seal.horizon)  >=  kept from (first)  >=  cleared up to (cleared)

Wherever a crash falls in between, the next start goes on. Values only.
"""

from dataclasses import dataclass, replace

from lamport.chain import Seal, Start


@dataclass(frozen=True, slots=True)
class Horizon:
    """How a stream stands towards its horizon on this disk."""

    seal: Seal
    """The author's seal that names the highest horizon heard of."""
    first: int = 0
    """First offset that is kept here: what lies before is not read any more."""
    base: bytes = b""
    """The chain's hash before `first`, once that is above 0."""
    cleared: int = 0
    """What was stored below this offset is deleted."""

    @property
    def announced(self) -> int:
        """The horizon that the author announced."""
        return self.seal.horizon

    @property
    def is_followed(self) -> bool:
        """Whether nothing is left to do."""
        return self.announced == self.first == self.cleared

    @property
    def start(self) -> Start:
        """What a range needs with it that begins at `first`."""
        return Start(self.base, self.seal)

    def moved(self, first: int, base: bytes) -> "Horizon":
        """Kept from this offset on."""
        return replace(self, first=first, base=base)

    def swept(self, cleared: int) -> "Horizon":
        """Deleted up to this offset."""
        return replace(self, cleared=cleared)


def announced(known: Horizon | None, seal: Seal) -> Horizon | None:
    """The horizon with a seal taken in; None where that says nothing new. A horizon never goes back."""
    if seal.horizon <= (known.announced if known is not None else 0):
        return None
    return Horizon(seal) if known is None else replace(known, seal=seal)
