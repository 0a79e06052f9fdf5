"""Commands are offered to a role when they make sense, and only then."""

import pytest

from fish.protocols import CommandRefused, InvalidProtocol, Part, Reaction, Role, RoleState

ROLE = Role(
    "idle",
    (
        RoleState("idle", (("go", ("one", "two")),), (Reaction(("one", "two"), "busy"),)),
        RoleState("busy", (("rest", ("end",)), ("ring", ("rung",))), (Reaction(("end",), "idle"),)),
    ),
)


def seen(*types: str, caught_up: bool = True) -> Part:
    part = Part(ROLE)
    part.see(ROLE.fold(types), caught_up=caught_up)
    return part


def test_no_command_before_all_is_known() -> None:
    part = Part(ROLE)
    assert (part.why_not(), part.commands, part.snapshot) == ("not-caught-up", (), None)
    with pytest.raises(CommandRefused, match="not read up to its end"):
        part.command("go")
    part.see(ROLE.start, caught_up=True)
    assert (part.why_not(), part.commands, part.snapshot) == (None, ("go",), ("idle", None))


def test_time_travel_hides_what_was_shown_until_all_is_known_again() -> None:
    part = seen("one", "two")
    part.see(ROLE.start, caught_up=False)
    assert (part.why_not(), part.snapshot) == ("not-caught-up", None)
    part.see(ROLE.start, caught_up=True)
    assert part.snapshot == ("idle", None)


def test_more_to_come_hides_nothing_but_the_commands() -> None:
    part = seen()
    part.see(ROLE.fold(["one", "two"]), caught_up=False)
    assert (part.commands, part.snapshot) == ((), ("busy", None))


def test_a_command_is_locked_until_it_has_come_back_or_could_not_be_published() -> None:
    part = seen()
    assert part.command("go") == ("one", "two")
    with pytest.raises(CommandRefused, match="locked"):
        part.command("go")
    part.unlock()
    assert part.commands == ("go",)
    part.command("go")
    part.see(ROLE.fold(["one"]), caught_up=True)
    assert part.why_not() == "expired"
    part.see(ROLE.fold(["one", "two"]), caught_up=True)
    assert (part.why_not(), part.snapshot) == (None, ("busy", None))


def test_only_another_state_or_payload_is_news() -> None:
    part = seen()
    assert not part.see(ROLE.fold(["other"]), caught_up=True)
    assert part.see(ROLE.fold(["one", "two"]), caught_up=True)
    assert not part.see(ROLE.start, caught_up=False)


def test_a_refusal_says_what_is_offered() -> None:
    with pytest.raises(CommandRefused, match="stop is not offered in state idle, where go is"):
        seen().command("stop")
    with pytest.raises(CommandRefused, match="in state busy, where rest and ring are"):
        seen("one", "two").command("go")


def test_nothing_is_offered_to_a_part_that_a_reaction_has_ended() -> None:
    part = seen()
    part.is_ended = True
    assert (part.why_not(), part.commands) == ("destroyed", ())


@pytest.mark.parametrize(
    "states",
    [
        (RoleState("b"),),
        (RoleState("a", (), (Reaction(("x",), "z"),)),),
        (RoleState("a", (), (Reaction(("x",), "a"), Reaction(("x", "y"), "a"))),),
        (RoleState("a", (), (Reaction((), "a"),)),),
        (RoleState("a", (("_hidden", ("x",)),)),),
        (RoleState("a", (("empty", ()),)),),
        (RoleState("a", (("twice", ("x",)), ("twice", ("y",)))),),
    ],
)
def test_a_role_that_breaks_a_rule_is_refused(states: tuple[RoleState, ...]) -> None:
    with pytest.raises(InvalidProtocol):
        Role("a", states)
