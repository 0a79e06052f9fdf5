"""What can go wrong with fish, and whose fault it is.

One root, `FishError`. A reducer that raises stops its fish (`FishStopped`); everything else here refuses what a caller
asked for and changes nothing. Errors of the log pass through the pond unchanged: they are not about fish.
"""

import asyncio
from typing import Any

from lamport.ids import EventKey

RAISED_BY_STRANGERS: tuple[type[BaseException], ...] = (
    Exception,
    SystemExit,
    asyncio.CancelledError,
)
"""What a reducer and the like may raise that is their own affair. They wait for nothing, and so nobody cancels them:
what looks like it is the result of something else that was, and is no end of the task that has called them."""


class FishError(Exception):
    """Root of all errors of fish and pond."""


class InvalidFish(FishError):
    """A definition breaks a rule; the text names the rule."""


class FishConflict(FishError):
    """A fish of this name and version already runs with another selection, initial state or code."""


class FishStopped(FishError):
    """A reducer raised; the fish stands at its last good state. `__cause__` is what the reducer raised.

    `fish` is its name, `function` is `on_event` or `is_reset` (`log` where the disk lost the event, `upcaster`
    where one raised, `isolation` where its process cannot be), `key` is that of the event that was poison.
    """

    def __init__(
        self, fish: str, function: str, key: EventKey, cause: BaseException | None = None
    ) -> None:
        self.__cause__ = cause
        self.fish = fish
        self.function = function
        self.key = key
        super().__init__(self.text("stopped at"))

    def __reduce__(self) -> tuple[Any, ...]:
        return FishStopped, (self.fish, self.function, self.key, self.__cause__)

    def text(self, what: str) -> str:
        """What happened, in words."""
        cause = self.__cause__
        raised = "raised" if cause is None else f"raised {type(cause).__name__}: {cause}"
        return f"fish {self.fish!r} {what} event {self.key}: its {self.function} {raised}"

    def again(self) -> "FishStopped":
        """The same news as a fresh exception, so that each receiver raises one of its own."""
        return FishStopped(self.fish, self.function, self.key, self.__cause__)


class Overran(BaseException):
    """A reducer took so long that it held up the node, and was interrupted.

    It is raised in the midst of the reducer, and so no `Exception`: a reducer that catches those is interrupted, too.
    """

    def __init__(self, text: str = "it took too long, and was interrupted") -> None:
        super().__init__(text)


RAISED_WHILE_WATCHED: tuple[type[BaseException], ...] = (*RAISED_BY_STRANGERS, Overran)
"""The same where the call may have been interrupted."""


class Lost(FishError):
    """The process of an isolated fish stood still and was killed, or died; `mark` says how far it had come."""

    def __init__(self, mark: int, text: str, *, stood_still: bool) -> None:
        super().__init__(text)
        self.mark = mark
        self.stood_still = stood_still


class IsolationError(FishError):
    """A fish cannot be isolated: this system has no way to do it, or its state cannot leave its process."""


class FishImpure(FishError):
    """A reducer is no pure function of state, payload and metadata; the text says which, why, and at which line."""


class UnreadableEvent(FishError):
    """A payload names a class of events and does not fit it; the text names the field. Its author's fault."""


class NotCommutative(FishError, AssertionError):
    """A fish that says it is commutative is not: two orders of the same events gave two states."""


class EffectEnded(FishError):
    """A state effect asked to publish after it had returned; nothing was published by that."""


class EffectCancelled(FishError):
    """Something that a standing effect waited for was cancelled; nothing of that turn was published."""


class PondClosed(FishError):
    """The pond was closed, before or meanwhile."""


class StateCodecError(FishError):
    """A state has a part that has no bytes, or bytes have no state in this program. The fish folds on regardless."""
