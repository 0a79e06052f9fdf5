"""A protocol for two roles: checked before anything runs, and followed by two devices that act while cut off."""

from collections.abc import Sequence

from fish.protocols import Protocol, RoleMachine, Transition, check_protocol, project

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

    robot, gateway = (RoleMachine(project(ORDER, HEARD, role)) for role in ("robot", "gateway"))
    told(robot, gateway, [])
    told(robot, gateway, ["bid"])
    told(robot, gateway, ["bid", "selected"])

    # Two gateways decided while they were cut off. All devices order both events alike, and the second one is void.
    healed = ["bid", "selected", "cancelled", "delivered"]
    told(robot, gateway, healed)
    print("they agree:", robot.fold(healed) == gateway.fold(healed) == "over")


def told(robot: RoleMachine, gateway: RoleMachine, history: Sequence[str]) -> None:
    """Print what each role is offered once it knows these events."""
    for role, machine in (("robot", robot), ("gateway", gateway)):
        state = machine.fold(history)
        offered = [one.command for one in machine.offered(state, caught_up=True)]
        print(f"after {len(history)} events {role} is in {state!r}, offered {offered}")


if __name__ == "__main__":
    main()
