"""How machines take events: order, rollback, refusal; the same on every node."""

from typing import Any

import pytest

from fish.machines import (
    Cancel,
    Effect,
    Emit,
    Log,
    Raise,
    Route,
    SendParent,
    SendTo,
    Spawn,
    System,
    World,
    after,
    assign,
    child,
    cyclic,
    final,
    invoke,
    machine,
    state,
    to,
)
from fish.machines.folding import MAX_DELIVERIES
from fish.states import decode_state, encode_state
from tests.fish.machines.benches import fold, key, metadata, one, reasons


def throwing(_: Any) -> Any:
    raise ValueError("an address: 0x7f00")


def system_of(**states: Any) -> System:
    return System((machine("m", initial=next(iter(states)), states=states, context={"n": 0}),))


@pytest.mark.parametrize(
    "candidate",
    [to("b", guard=throwing), to("b", do=[assign(n=1), Effect("never"), assign(n=throwing)])],
)
def test_a_guard_or_an_action_that_raises_leaves_no_trace_but_the_reason(candidate: Any) -> None:
    system = system_of(a=state(on={"BOOM": candidate, "OK": "b"}), b=state())
    world = fold(system, (1, "A", "m/x", {"type": "BOOM"}), (2, "A", "m/x", {"type": "OK"}))
    assert reasons(world) == ["error:ValueError"]
    instance = world.instances["m/x"]
    assert (instance.value, instance.context, instance.intents) == ("b", {"n": 0}, ())


def test_an_endless_loop_of_always_or_raise_ends_at_the_limit() -> None:
    turning = system_of(a=state(on={"GO": "b"}), b=state(always=to("c")), c=state(always=to("b")))
    raising = system_of(a=state(on={"GO": to(do=Raise({"type": "GO"}))}))
    for system in (turning, raising):
        world = fold(system, (1, "A", "m/x", {"type": "GO"}))
        assert reasons(world) == ["error:loop"]
        assert world.instances["m/x"].value == "a"


@pytest.mark.parametrize("payload", [None, 5, "GO", [], {}, {"type": 7}, {"type": None}])
def test_a_payload_that_is_no_event_is_dropped(payload: Any) -> None:
    system = system_of(a=state(on={"*": "b"}), b=state())
    world = system(World(), payload, metadata(1, "A", "m/x"))
    assert reasons(world) == ["bad-payload"]
    assert world.instances.get("m/x") is None


def test_an_event_of_the_wrong_shape_is_dropped() -> None:
    made = machine(
        "m",
        initial="a",
        states={"a": state(on={"PAY": "b"}), "b": state()},
        events={"PAY": {"amount": "number"}},
    )
    said: list[dict[str, Any]] = [
        {"type": "PAY"},
        {"type": "PAY", "amount": "5"},
        {"type": "PAY", "amount": True},
    ]
    world = fold(System((made,)), *((n, "A", "m/x", event) for n, event in enumerate(said)))
    assert reasons(world) == ["bad-payload:amount"] * 3
    assert one(System((made,)), "m/x", {"type": "PAY", "amount": 5}).value == "b"


def test_strange_records_are_dropped_and_change_nothing() -> None:
    system = system_of(a=state(on={"GO": "b"}), b=state())
    strange: list[dict[str, Any]] = [
        {"type": "$done", "inv": "none"},
        {"type": "$after", "timer": 3},
        {"type": "$huh"},
        {"type": "$migrate", "version": "x"},
        {"type": "$migrate", "version": [2]},
        {"type": "$init", "context": 3},
    ]
    said = [(1, "A", "m/x", {"type": "GO"})]
    said += [(place + 2, "B", "m/x", event) for place, event in enumerate(strange)]
    world = fold(system, *said)
    assert reasons(world) == [
        "unknown-invocation",
        "unknown-timer",
        "unknown-record",
        "unknown-version",
        "unknown-version",
        "already-started",
    ]
    assert world.instances["m/x"].value == "b"


def test_a_final_state_inside_another_tells_what_is_around() -> None:
    system = system_of(
        p=state(
            initial="x",
            states={"x": state(on={"GO": "y"}), "y": final(output=7)},
            on={"done.state.p": to("end", do=assign(n="$event.output"))},
        ),
        end=state(),
    )
    instance = one(system, "m/x", "GO")
    assert (instance.value, instance.context) == ("end", {"n": 7})


def test_what_is_only_passed_through_begins_nothing() -> None:
    system = system_of(
        a=state(on={"GO": "b"}),
        b=state(always=to("c"), after=[after(5, "a")], invoke=invoke("s"), entry=Effect("seen")),
        c=state(),
    )
    instance = one(system, "m/x", "GO")
    assert (instance.value, instance.flights, instance.timers) == ("c", (), ())
    assert [one.name for one in instance.intents] == ["seen"]


def test_the_same_effect_twice_in_one_step_has_two_idempotency_keys() -> None:
    system = system_of(a=state(on={"GO": to(do=[Effect("x"), Effect("x"), Effect("x", {"n": 1})])}))
    ids = [one.id for one in one(system, "m/x", "GO").intents]
    assert len(set(ids)) == 3
    assert ids == [one.id for one in one(system, "m/x", "GO").intents]


def test_what_is_delayed_can_be_taken_back() -> None:
    system = system_of(
        a=state(
            on={
                "LATER": to(do=Raise({"type": "NOW"}, delay=5, id="soon")),
                "STOP": to(do=Cancel("soon")),
                "NOW": "b",
            }
        ),
        b=state(),
    )
    waiting = one(system, "m/x", "LATER")
    [timer] = waiting.timers
    assert (timer.delay, timer.name, waiting.value) == (5, "soon", "a")
    assert one(system, "m/x", "LATER", "STOP").timers == ()
    assert one(system, "m/x", "LATER", {"type": "$after", "timer": timer.id}).value == "b"
    late = fold(
        system,
        (1, "A", "m/x", {"type": "LATER"}),
        (2, "A", "m/x", {"type": "STOP"}),
        (3, "A", "m/x", {"type": "$after", "timer": timer.id}),
    )
    assert reasons(late) == ["unknown-timer"]


KID = machine(
    "kid",
    initial="s",
    context={"who": "", "got": 0},
    states={
        "s": state(
            on={
                "PING": to(do=assign(got={"$add": ["$ctx.got", 1]})),
                "END": "e",
                "UP": to(do=SendParent({"type": "UP"})),
            }
        ),
        "e": final(output="$ctx.got"),
    },
)


def parent(**more: Any) -> System:
    states = {
        "idle": state(on={"RUN": "run"}),
        "run": state(
            on={
                "PASS": to(do=SendTo("k", {"type": "PING"})),
                "SKIP": "idle",
                "done.child.k": to("idle", do=assign(out="$event.output")),
                "UP": to(do=assign(ups={"$add": ["$ctx.ups", 1]})),
            },
            invoke=child("kid", id="k", context={"who": "$ctx.me"}, **more),
        ),
    }
    made = machine("p", initial="idle", states=states, context={"me": "ann", "out": None, "ups": 0})
    return System((made, KID))


def kid_of(world: World) -> Any:
    return world.instances[dict(world.instances["p/x"].children)["k"]]


def test_parent_and_child_talk_in_the_fold() -> None:
    system = parent()
    run, send = (1, "A", "p/x", {"type": "RUN"}), (2, "B", "p/x", {"type": "PASS"})
    world = fold(system, run, send)
    kid = kid_of(world)
    assert (kid.context, kid.parent.address) == ({"who": "ann", "got": 1}, "p/x")
    world = fold(system, run, send, (3, "C", kid.address, {"type": "END"}))
    assert world.instances["p/x"].context["out"] == 1
    assert world.instances["p/x"].value == "idle"


@pytest.mark.parametrize(("stops", "status"), [(False, "active"), (True, "stopped")])
def test_a_child_outlives_its_state_unless_it_is_to_stop(stops: bool, status: str) -> None:  # noqa: FBT001 - a parameter of the test
    system = parent(stops_on_exit=stops)
    run = (1, "A", "p/x", {"type": "RUN"})
    address = kid_of(fold(system, run)).address
    world = fold(system, run, (2, "A", "p/x", {"type": "SKIP"}))
    assert world.instances[address].status == status


def test_a_child_whose_cause_was_taken_away_never_was() -> None:
    system = parent()
    run = (5, "A", "p/x", {"type": "RUN"})
    address = kid_of(fold(system, run)).address
    talk = (6, "A", address, {"type": "UP"})
    assert fold(system, run, talk).instances["p/x"].context["ups"] == 1
    # An earlier RUN by someone else makes this one a dropped event.
    world = fold(system, (2, "B", "p/x", {"type": "RUN"}), run, talk)
    assert world.instances["p/x"].context["ups"] == 0
    assert system.instance(world, address).status == "stopped"
    assert reasons(world) == ["not-enabled", "not-started"]


def test_a_child_is_spawned_from_an_action_and_addressed_by_its_reference() -> None:
    spawner = machine(
        "p",
        initial="a",
        context={"ref": None},
        states={
            "a": state(
                on={
                    "NEW": to(do=Spawn("kid", "ref", context={"who": "$event.who"})),
                    "HEY": to(do=SendTo("$ctx.ref", {"type": "PING"})),
                }
            )
        },
    )
    system = System((spawner, KID))
    world = fold(
        system,
        (1, "A", "p/x", {"type": "NEW", "who": "bob"}),
        (2, "A", "p/x", {"type": "HEY"}),
    )
    kid = world.instances[world.instances["p/x"].context["ref"]]
    assert kid.context == {"who": "bob", "got": 1}


def test_deliveries_without_end_are_cut_and_rolled_back() -> None:
    ping = machine(
        "ping", initial="a", states={"a": state(on={"GO": to(do=SendTo("pong/x", {"type": "GO"}))})}
    )
    pong = machine(
        "pong", initial="a", states={"a": state(on={"GO": to(do=SendTo("ping/x", {"type": "GO"}))})}
    )
    world = fold(System((ping, pong)), (1, "A", "ping/x", {"type": "GO"}))
    assert reasons(world) == ["error:loop"]
    assert len(world.passages) < MAX_DELIVERIES
    assert len(world.instances) == 0


def test_a_world_comes_back_from_its_bytes() -> None:
    world = fold(parent(), (1, "A", "p/x", {"type": "RUN"}), (2, "A", "p/x", {"type": "PASS"}))
    again = decode_state(encode_state(world, ordered=True))
    assert again == world
    assert type(again.instances) is type(world.instances)


def test_words_of_a_step_stand_in_its_passage() -> None:
    system = system_of(a=state(on={"GO": to(do=Log("$meta.key"))}))
    world = fold(system, (4, "B", "m/x", {"type": "GO"}))
    assert world.passages[-1].words == (key(4, "B"),)


def doubled(value: str, context: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return {"old": "new"}[value], {"n": 2 * context["n"]}


def counter(name: str, type_: str, step: int, **more: Any) -> Any:
    counting = to(do=assign(n={"$add": ["$ctx.n", step]}))
    context = {"n": 1 if step > 0 else 0}
    return machine(
        "m", initial=name, states={name: state(on={type_: counting})}, context=context, **more
    )


def test_an_instance_goes_by_the_definition_it_was_begun_under_until_it_is_migrated() -> None:
    first, second = counter("old", "INC", 1), counter("new", "DEC", -1, version=2, migrate=doubled)
    system = System((first, second))
    old = one(system, "m/x", "INC", "DEC")
    assert (old.version, old.value, old.context) == (1, "old", {"n": 2})
    new = one(system, "m/x", "INC", {"type": "$migrate", "version": 2}, "DEC")
    assert (new.version, new.value, new.context) == (2, "new", {"n": 3})
    young = one(system, "m/y", {"type": "DEC", "$version": 2})
    assert (young.version, young.context) == (2, {"n": -1})
    refused = fold(
        system,
        (1, "A", "m/x", {"type": "INC"}),
        (2, "A", "m/x", {"type": "$migrate", "version": 9}),
    )
    assert reasons(refused) == ["unknown-version"]


def test_a_migration_that_raises_leaves_the_instance_as_it_was() -> None:
    first = machine(
        "m", initial="other", states={"other": state(on={"GO": to()})}, context={"n": 1}
    )
    second = machine("m", initial="new", states={"new": state()}, version=2, migrate=doubled)
    world = fold(
        System((first, second)),
        (1, "A", "m/x", {"type": "GO"}),
        (2, "A", "m/x", {"type": "$migrate", "version": 2}),
    )
    assert reasons(world) == ["error:KeyError"]
    assert world.instances["m/x"].version == 1


@pytest.mark.parametrize(
    "record",
    [
        {"type": "$ran"},
        {"type": "$ran", "id": 3, "name": "x", "cause": "", "root": "", "attempt": 1, "number": 1},
        {"type": "$undone", "id": "", "name": "", "cause": "", "root": "", "attempt": "x", "number": 0},
        {"type": "GO", "$version": [1]},
        {"type": "GO", "$version": {}, "$dedupe": {"x": []}},
        {"type": "$init", "context": [1], "$version": 7},
        {"type": "$abort", "inv": [], "deliver": {}},
        {"type": "done.invoke.s", "output": 1},
        {"type": "STOP", "ids": [{}, [], None, 3]},
        {"type": "STOP", "ids": "0"},
    ],
)  # fmt: skip
def test_no_event_of_the_log_can_stop_the_fold(record: dict[str, Any]) -> None:
    states = {"a": state(on={"GO": "b"}), "b": cyclic(closes="ids", on={"STOP": "a"})}
    system = System((machine("m", initial="a", states=states),))
    for said in ([], [(1, "A", "m/x", {"type": "GO"})]):
        world = fold(system, *said, (2, "B", "m/x", record), (3, "A", "m/x", {"type": "GO"}))
        assert world.instances["m/x"].value == "b"


@pytest.mark.parametrize("said", [5, {"no": "type"}, {"type": 3}, {"type": "$stop"}])
@pytest.mark.parametrize("word", [Emit, Raise, SendParent, lambda event: SendTo("m/y", event)])
def test_a_step_that_says_something_that_is_no_event_is_rolled_back(said: Any, word: Any) -> None:
    system = system_of(a=state(on={"GO": to(do=word(lambda _: said))}))
    assert reasons(fold(system, (1, "A", "m/x", {"type": "GO"}))) == ["error:no-event"]


def test_a_route_that_raises_or_names_no_instance_goes_nowhere_and_says_so() -> None:
    said = machine("m", initial="a", states={"a": state(on={"GO": to(do=Emit({"type": "x"}))})})
    other = machine("o", initial="a", states={"a": state()})
    routes = (Route("m", "x", "o", "GO", "$event.none"), Route("m", "x", "o", "GO", throwing))
    world = fold(System((said, other), routes), (1, "A", "m/x", {"type": "GO"}))
    found = [one.reason for one in world.passages if one.kind == "warning"]
    assert found == ["route:no-instance", "route:error:ValueError"]


def test_a_machine_matches_the_states_around_the_one_it_is_in() -> None:
    inner = {"x": state(on={"GO": "y"}), "xy": state(), "y": state(on={"GO": "xy"})}
    nested = machine("m", initial="a", states={"a": state(initial="x", states=inner)})
    instance = one(System((nested,)), "m/x", "NOTHING")
    assert [instance.matches(path) for path in ("a", "a.x", "a.y", "x", "a.xy")] == [
        *(True, True),
        *(False, False, False),
    ]
    assert one(System((nested,)), "m/x", "GO", "GO").matches("a.xy")
    assert not one(System((nested,)), "m/x", "GO", "GO").matches("a.x")


def test_a_machine_with_work_ids_matches_where_any_of_them_is() -> None:
    busy = cyclic(closes="ids", on={"STOP": "idle", "PAUSE": "paused"})
    paused = cyclic(closes="ids", on={"STOP": "idle"})
    states = {"idle": state(on={"START": "busy"}), "busy": busy, "paused": paused}
    work = System((machine("m", initial="idle", states=states),))
    pause = {"type": "PAUSE", "ids": [key(1)]}
    instance = one(work, "m/x", "START", "START", pause)
    assert [instance.matches(path) for path in ("idle", "busy", "paused")] == [False, True, True]
