"""When a fish's state is due to be stored: after so many calls of its reducer, more where it is large or the disk full.

A number of calls is when something was stored, or tried; it counts those of one timeline, and begins anew with it.
"""

from fish.surroundings import Limits

MOST_PATIENCE = 64
"""What a full disk has refused is tried again behind twice as many calls each time, up to so many times the usual."""


class Dues:
    """How far what was stored, or tried to be, is behind."""

    __slots__ = ("_limits", "_patience", "_saved", "_tried")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._saved = self._tried = 0
        self._patience = 1

    def is_saved(self, calls: int) -> bool:
        """Whether nothing was folded since something was stored."""
        return calls == self._saved

    def is_due(self, calls: int, size: int) -> bool:
        """Whether it is time; `size` is the bytes of the state."""
        usual = max(self._limits.snapshot_every, size // self._limits.snapshot_bytes_per_call)
        return calls - max(self._saved, self._tried) >= usual * self._patience

    def tried(self, calls: int, *, is_stored: bool) -> None:
        """Note what came of it."""
        self._tried = calls
        self._saved = calls if is_stored else self._saved
        self._patience = 1 if is_stored else min(2 * self._patience, MOST_PATIENCE)
