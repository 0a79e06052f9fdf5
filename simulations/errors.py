"""What a simulation can end with besides success."""


class SimulationError(Exception):
    """Root of all errors of the simulator."""


class LawBroken(SimulationError):
    """A law does not hold; the text names the law, the nodes and what was seen."""


class DeviceOff(SimulationError):
    """Something was asked of a device on which no node runs."""


class Deadlock(SimulationError):
    """Nothing is scheduled and nothing can ever happen again."""


class FishImpure(SimulationError):
    """A fish's reducer is no pure function of state, payload and metadata; the text says which and why."""


class NodesDiffer(SimulationError, AssertionError):
    """Nodes hold or answer different things where a test says they agree; the text says who says what."""


class NotDeterministic(SimulationError):
    """Two runs of one seed went differently: something in the test or its fish does not come from the seed."""


class Livelock(SimulationError):
    """Something goes on and on, and no time passes."""


class PowerLost(BaseException):
    """What a dead device's code gets when it still reaches for its disk: nothing it does may count.

    Not an `Exception`, so that nothing which merely goes on after errors goes on after this.
    """
