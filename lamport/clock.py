"""The Lamport clock: one counter per node, never behind anything it has seen (Lamport 1978, rules IR1 and IR2).

Wall clocks on a shop floor are wrong by hours or years. This clock only counts, and so an event always sorts after
everything its author knew when it happened.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class LamportClock:
    """The highest timestamp this node has appended or accepted; 0 before the first."""

    highest: int = 0

    def raised(self, lamport: int) -> "LamportClock":
        """The clock after an event of somebody else's was accepted."""
        return LamportClock(max(self.highest, lamport))
