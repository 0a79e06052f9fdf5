"""A protocol for two roles: checked before anything runs, and followed by two devices that act while cut off."""

from collections.abc import Sequence

from fish.protocols import Part, Protocol, Role, Transition, check_protocol, project

ORDER = Protocol(
    "open",
    (
        Transition("open", "bid", "robot", ("bid",), "open"),
        Transition("open", "select", "gateway", ("selected",), "underway"),
        Transition("open", "cancel", "gateway", ("cancelled",), "over"),
        Transition("underway", "deliver", "robot", ("delivered",), "over"),
    ),
)
EVERYTHING = ["bid", "selected", "cancelled", "delivered"]
HEARD = {"gateway": EVERYTHING, "robot": EVERYTHING}


def main() -> None:
    """Check the protocol, then run it."""
    for problem in check_protocol(ORDER, {**HEARD, "robot": ["bid", "cancelled", "delivered"]}):
        print("a deaf robot:", problem)
    assert check_protocol(ORDER, HEARD, strict=True) == ()

    robot, gateway = (Role.of(project(ORDER, HEARD, role)) for role in ("robot", "gateway"))
    told(robot, gateway, [])
    told(robot, gateway, ["bid"])
    told(robot, gateway, ["bid", "selected"])

    # Two gateways decided while they were cut off. All devices order both events alike, and the second one is void.
    healed = ["bid", "selected", "cancelled", "delivered"]
    told(robot, gateway, healed)
    print("they agree:", robot.fold(healed).state == gateway.fold(healed).state == "over")


def told(robot: Role, gateway: Role, history: Sequence[str]) -> None:
    """Print what each role is offered once it knows these events."""
    for name, role in (("robot", robot), ("gateway", gateway)):
        part, place = Part(role), role.fold(history)
        part.see(place, caught_up=True)
        print(f"after {len(history)} events {name} is in {place.state!r}, offered {part.commands}")


if __name__ == "__main__":
    main()
