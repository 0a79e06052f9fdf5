"""Commands are offered to a role when they make sense, and only then."""

import pytest

from fish.machines import InvalidMachine, Part, Reaction, Role, RoleState
from fish.machines.roles import CommandRefused

ROLE = Role(
    "idle",
    (
        RoleState("idle", (("go", ("one", "two")),), (Reaction(("one", "two"), "busy"),)),
        RoleState("busy", (), (Reaction(("end",), "idle"),)),
    ),
)


def test_no_command_before_all_is_known() -> None:
    part = Part(ROLE)
    assert (part.why_not(), part.commands, part.snapshot) == ("not-caught-up", (), None)
    part.feed([])
    assert (part.why_not(), part.commands) == (None, ("go",))
    part.time_travel()
    assert part.why_not() == "not-caught-up"


def test_a_command_is_locked_until_it_has_come_back_or_could_not_be_published() -> None:
    part = Part(ROLE)
    part.feed([])
    assert part.command("go") == ("one", "two")
    with pytest.raises(CommandRefused, match="locked"):
        part.command("go")
    part.failed()
    assert part.commands == ("go",)
    part.command("go")
    part.feed([("one", 1)])
    assert part.why_not() == "expired"
    part.feed([("two", 2)])
    assert (part.why_not(), part.snapshot) == (None, ("busy", None))


def test_a_state_has_its_own_commands_only() -> None:
    part = Part(ROLE)
    part.feed([("one", 1), ("two", 2)])
    with pytest.raises(CommandRefused, match="no command 'go'"):
        part.command("go")


@pytest.mark.parametrize(
    "states",
    [
        (RoleState("b"),),
        (RoleState("a", (), (Reaction(("x",), "z"),)),),
        (RoleState("a", (), (Reaction(("x",), "a"), Reaction(("x", "y"), "a"))),),
        (RoleState("a", (), (Reaction((), "a"),)),),
        (RoleState("a", (("_hidden", ("x",)),)),),
        (RoleState("a", (("empty", ()),)),),
    ],
)
def test_a_role_that_breaks_a_rule_is_refused(states: tuple[RoleState, ...]) -> None:
    with pytest.raises(InvalidMachine):
        Role("a", states)
