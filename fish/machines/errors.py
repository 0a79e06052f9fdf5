"""What can go wrong with state machines, and whose fault it is.

A definition that breaks a rule is refused when it is made (`InvalidMachine`, `InvalidCoordination`). An event that a
machine cannot take is no error: `send` answers why it was refused, and the fold drops it with a reason.
"""

from fish.errors import FishError


def text_of(error: BaseException) -> str:
    """The text of an error that somebody else has made; asking for it may raise, too."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is the user's: that it fails must not hide what failed
        return f"{type(error).__name__}, which cannot say what it is"


class MachineError(FishError):
    """Root of all errors of state machines."""


class InvalidMachine(MachineError):
    """A definition breaks a rule. `kind` names the rule, `place` the part that breaks it, `states` those involved."""

    def __init__(self, kind: str, place: str, text: str, states: tuple[str, ...] = ()) -> None:
        super().__init__(f"{place}: {text} [{kind}]")
        self.kind = kind
        self.place = place
        self.states = states


class InvalidCoordination(MachineError):
    """Machines do not fit together. `kind` names the rule, `path` the machines along which it is broken."""

    def __init__(self, kind: str, text: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(f"{text} [{kind}]")
        self.kind = kind
        self.path = path


class MachineThrew(MachineError):
    """An expression asked for the step to fail (`$throw`); the step is rolled back on every node."""


class StepLimitReached(MachineError):
    """One event led to more steps than any sound machine takes: an endless loop of `always` or `raise`."""


class NotReady(MachineError):
    """Not all machines of the coordination are started and caught up: nothing is shown, and nothing accepted."""


class NoSuchMachine(MachineError):
    """The runtime does not run a machine of this name."""


class AccessDenied(MachineError):
    """A gate refused a look at a machine."""


class SelfCancelled(MachineError):
    """A service or an effect ended with a cancellation that nobody here had asked for: it has failed."""
