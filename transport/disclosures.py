"""Who wants to have which branch of a stream proven, in one session: both sides' questions, each bounded."""

from collections import deque

from lamport.ids import StreamId
from transport.errors import PeerFault
from transport.messages import Disclose, Message

MAX_SET_ASIDE = 1_024
"""Streams remembered as diverged or quarantined in one session."""

MAX_DISCLOSED = 256
"""Branches whose proof is asked for in one session: eight devices with as many as are kept of each."""

MAX_WANTED = 64
"""Proofs that a peer may want at once; each has a megabyte at most, and is read when its turn has come."""


class Disclosures:
    """Branches that this side has asked about, and those that the peer wants to have proven."""

    def __init__(self) -> None:
        self.wanted: dict[StreamId, None] = {}
        self._asked: dict[StreamId, None] = {}
        self.suspects: dict[StreamId, int] = {}
        """Where the peer named another hash than is held, until somebody has looked (`transport.forks`)."""

    def ask(self, branch: StreamId, line: deque[Message]) -> None:
        """Put the question about a branch in line, once in a session unless `ask_again` is called."""
        if branch not in self._asked and len(self._asked) < MAX_DISCLOSED:
            self._asked[branch] = None
            line.append(Disclose(branch))

    def ask_again(self, stream: StreamId) -> None:
        """What was not taken in of a stream may have been a proof: its branches may be asked about once more."""
        for branch in [one for one in self._asked if one.base == stream.base]:
            del self._asked[branch]

    def want(self, branch: StreamId) -> None:
        """The peer asks about a branch; raise `PeerFault` for one question too many."""
        if len(self.wanted) >= MAX_WANTED:
            raise PeerFault(f"more than {MAX_WANTED} proofs wanted at once")
        self.wanted[branch] = None

    def offer(self, branch: StreamId) -> None:
        """Send the proof of a branch that the peer cannot ask about, for it is told nothing of it."""
        if len(self.wanted) < MAX_WANTED:
            self.wanted[branch] = None

    def next_wanted(self) -> StreamId | None:
        """The next branch whose proof the peer wants; None where it wants none."""
        for branch in self.wanted:
            del self.wanted[branch]
            return branch
        return None
