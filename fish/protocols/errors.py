"""What can go wrong with a protocol: a value that is none, and a command that is not offered."""

from fish.errors import FishError


class InvalidProtocol(FishError):
    """A protocol, subscriptions or a machine of the wrong shape or size.

    `part` is `protocol`, `subscriptions` or `machine`; `place` is the path to the value inside of it, such as
    `transitions[3].label.role`, empty for the part as a whole. Whoever wrote the part mends it there.
    """

    def __init__(self, part: str, place: str, text: str) -> None:
        where = f"{part}, {place}" if place else part
        super().__init__(f"{where}: {text}")
        self.part = part
        self.place = place
        self.text = text

    def of(self, owner: str) -> "InvalidProtocol":
        """The same, saying whose part it is where there are several."""
        return InvalidProtocol(f"{self.part} of {owner}", self.place, self.text)


class CommandRefused(FishError):
    """A command is not offered to this role now; the text says why, and what is. Nothing was logged."""
