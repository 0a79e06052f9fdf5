"""Notices of the admin between two nodes: each tells which it holds, and is sent those that it lacks.

They go ahead of everything else that a link has to say, so that a node knows of a revocation before it is handed an
event, and has the next epoch's keys as soon as it has met anybody. What comes while the link lasts is passed on then.

    Noticed (all names) ->        <- Noticed (all names), or heads without: it holds none
    Notify (each that the other lacks) ...
"""

from collections import deque
from collections.abc import Iterable

from lamport.notices import Notice
from transport.messages import Message, Noticed, Notify


class NoticeExchange:
    """One side's view. What waits to be sent is bounded by the notices that there are: each goes out once."""

    def __init__(self, held: Iterable[Notice]) -> None:
        self._held = {notice.id: notice for notice in held}
        self._theirs: dict[bytes, None] = {}
        self._has_told = False
        self._waiting: deque[Message] = deque()
        if self._held:
            self._waiting.append(Noticed(tuple(self._held)))

    def hear(self, message: Noticed | Notify) -> Notice | None:
        """What the peer says; returns the notice that it sent, if it did."""
        if isinstance(message, Notify):
            self._theirs[message.notice.id] = None
            return message.notice
        self._begin(message.ids)
        return None

    def hear_heads(self) -> None:
        """The peer goes on to its heads: it has told all that it holds."""
        self._begin(())

    def _begin(self, ids: Iterable[bytes]) -> None:
        if not self._has_told:
            self._has_told = True
            self._theirs.update(dict.fromkeys(ids))
            for notice in self._held.values():
                self._send(notice)

    def tell(self, notice: Notice) -> None:
        """This node has a notice more."""
        self._held[notice.id] = notice
        if self._has_told:
            self._send(notice)

    @property
    def has_to_send(self) -> bool:
        """Whether `next_message` has something."""
        return bool(self._waiting)

    def next_message(self) -> Message | None:
        """The next message to send, None where nothing waits."""
        return self._waiting.popleft() if self._waiting else None

    def _send(self, notice: Notice) -> None:
        if notice.id not in self._theirs:
            self._theirs[notice.id] = None
            self._waiting.append(Notify(notice))
