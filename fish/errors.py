"""What can go wrong with fish, and whose fault it is.

One root, `FishError`. A reducer that raises stops its fish (`FishStopped`); everything else here refuses what a caller
asked for and changes nothing. Errors of the log pass through the pond unchanged: they are not about fish.
"""

from lamport.ids import EventKey


class FishError(Exception):
    """Root of all errors of fish and pond."""


class InvalidFish(FishError):
    """A definition breaks a rule; the text names the rule."""


class FishConflict(FishError):
    """A fish of this name and version already runs with another selection, initial state or code."""


class FishStopped(FishError):
    """A reducer raised; the fish stands at its last good state. `__cause__` is what the reducer raised.

    `fish` is its name, `function` is `on_event` or `is_reset` (`log` where the disk lost the event, `upcaster`
    where one raised), `key` is that of the event that was poison.
    """

    def __init__(
        self, fish: str, function: str, key: EventKey, cause: BaseException | None = None
    ) -> None:
        raised = "raised" if cause is None else f"raised {type(cause).__name__}: {cause}"
        super().__init__(f"fish {fish!r} stopped at event {key}: its {function} {raised}")
        self.__cause__ = cause
        self.fish = fish
        self.function = function
        self.key = key

    def again(self) -> "FishStopped":
        """The same news as a fresh exception, so that each receiver raises one of its own."""
        return FishStopped(self.fish, self.function, self.key, self.__cause__)


class EffectEnded(FishError):
    """A state effect asked to publish after it had returned; nothing was published by that."""


class PondClosed(FishError):
    """The pond was closed, before or meanwhile."""


class StateCodecError(FishError):
    """A state has a part that has no bytes, or bytes have no state in this program. The fish folds on regardless."""
