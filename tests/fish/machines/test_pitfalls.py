"""The five pitfalls of machines that talk to each other: each as it happens to plain callbacks, and not here.

The callbacks (`Bus`) are what one writes first: whoever listens now is called now, and reads what state it finds.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fish.machines import (
    Call,
    Emit,
    InvalidCoordination,
    NotReady,
    Passage,
    Route,
    SendTo,
    System,
    assign,
    invoke,
    machine,
    state,
    to,
)
from fish.machines.definition import Action
from simulations import Sim, swarm_test
from tests.fish.machines.benches import fold, key, reasons

Heard = Callable[[Mapping[str, Any]], None]


class Bus:
    """Plain callbacks: no order but that of the calls, no buffer, no memory."""

    def __init__(self) -> None:
        self._heard: dict[str, list[Heard]] = {}

    def on(self, type_: str, heard: Heard) -> None:
        self._heard.setdefault(type_, []).append(heard)

    def emit(self, type_: str, **more: Any) -> None:
        for heard in self._heard.get(type_, []):
            heard({"type": type_, **more})


# 1. Machines that trigger each other for ever.

PING = machine("ping", initial="s", states={"s": state(on={"GO": to(do=Emit({"type": "ping"}))})})
PONG = machine("pong", initial="s", states={"s": state(on={"GO": to(do=Emit({"type": "pong"}))})})
THERE, BACK = Route("ping", "ping", "pong", "GO"), Route("pong", "pong", "ping", "GO")


def test_1_callbacks_that_trigger_each_other_never_end() -> None:
    bus = Bus()
    bus.on("ping", lambda _: bus.emit("pong"))
    bus.on("pong", lambda _: bus.emit("ping"))
    with pytest.raises(RecursionError):
        bus.emit("ping")


@pytest.mark.parametrize(
    ("feedback", "kind"), [(False, "coordination-cycle"), (True, "event-cycle")]
)
def test_1_machines_that_would_trigger_each_other_are_refused(feedback: bool, kind: str) -> None:  # noqa: FBT001 - a parameter
    back = Route("pong", "pong", "ping", "GO", feedback=feedback)
    with pytest.raises(InvalidCoordination) as caught:
        System((PING, PONG), (THERE, back))
    assert caught.value.kind == kind


def test_1_a_circle_that_no_check_can_see_ends_and_leaves_no_trace_but_its_reason() -> None:
    def thrower(name: str, other: str) -> Any:
        throw: list[Action] = [
            assign(n={"$add": ["$ctx.n", 1]}),
            SendTo(f"{other}/{other}", {"type": "GO"}),
        ]
        return machine(
            name,
            initial="s",
            context={"n": 0},
            states={"s": state(on={"GO": to(do=throw), "HI": to()})},
        )

    system = System((thrower("a", "b"), thrower("b", "a")))
    world = fold(system, (1, "A", "a", {"type": "HI"}), (2, "A", "a", {"type": "GO"}))
    assert reasons(world) == ["error:loop"]
    assert world.instances["a/a"].context == {"n": 0}
    assert "b/b" not in world.instances


# 2. Events before everybody listens.

USER = machine(
    "user",
    initial="out",
    states={"out": state(on={"LOGIN": to("in", do=Emit({"type": "user/LOGIN"}))}), "in": state()},
)
SESSION = machine(
    "session", initial="none", states={"none": state(on={"BEGIN": "on"}), "on": state()}
)
LOGIN = System((USER, SESSION), (Route("user", "user/LOGIN", "session", "BEGIN"),))


def test_2_a_callback_that_listens_too_late_has_missed_it() -> None:
    bus, session = Bus(), ["none"]
    bus.emit("user/LOGIN")
    bus.on("user/LOGIN", lambda _: session.append("on"))
    assert session == ["none"]


@pytest.mark.parametrize("order", [("user", "session"), ("session", "user")])
def test_2_what_was_said_before_a_machine_started_reaches_it_whoever_starts_first(
    order: tuple[str, str],
) -> None:
    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        [device] = sim.nodes
        async with device.node.machines(LOGIN, starts=False) as machines:
            await machines.start(order[0])
            await machines.publish("user", {"type": "LOGIN"})
            for look in (machines.view("session"), machines.send("session", {"type": "BEGIN"})):
                with pytest.raises(NotReady, match=order[1]):
                    await look
            await machines.start(order[1])
            assert (await machines.view("session")).value == "on"

    story()


# 3. Two sources at once.

ACCOUNT = System(
    (
        machine(
            "account",
            initial="open",
            context={"left": 100},
            states={
                "open": state(
                    on={
                        "TAKE": to(
                            guard=lambda scope: scope.context["left"] >= scope.event["sum"],
                            do=assign(
                                left=lambda scope: scope.context["left"] - scope.event["sum"]
                            ),
                        )
                    }
                )
            },
        ),
    )
)


def test_3_callbacks_that_look_and_then_act_take_more_than_there_is() -> None:
    left = [100]

    async def take(amount: int) -> None:
        if left[0] >= amount:
            await asyncio.sleep(0)  # whatever it asks for on the way
            left[0] -= amount

    async def at_once() -> None:
        await asyncio.gather(take(70), take(60))

    asyncio.run(at_once())
    assert left == [-30]


@swarm_test(nodes=2, seeds=5)
async def test_3_of_two_sources_at_once_every_node_lets_the_same_one_win(sim: Sim) -> None:
    one, other = sim.nodes
    async with one.node.machines(ACCOUNT) as here, other.node.machines(ACCOUNT) as there:
        with sim.partition({one}, {other}):
            assert (await here.send("account", {"type": "TAKE", "sum": 70})).is_accepted
            assert (await there.send("account", {"type": "TAKE", "sum": 60})).is_accepted
        await sim.converge()
        views = [await machines.view("account") for machines in (here, there)]
        assert views[0].context == views[1].context
        assert views[0].context["left"] in (30, 40)
        assert [len(reasons(machines.world)) for machines in (here, there)] == [1, 1]


def test_3_what_comes_twice_counts_twice_for_a_callback_and_once_here() -> None:
    bus, left = Bus(), [100]
    bus.on("TAKE", lambda event: left.append(left.pop() - event["sum"]))
    for _ in range(2):
        bus.emit("TAKE", sum=40)
    assert left == [20]
    said = {"type": "TAKE", "sum": 40, "$dedupe": "the order"}
    world = fold(ACCOUNT, (1, "A", "account", said), (2, "B", "account", said))
    assert (world.instances["account/account"].context, reasons(world)) == (
        {"left": 60},
        ["duplicate"],
    )


# 4. Reacting to a state on the way.

ORDER = machine(
    "order",
    initial="open",
    states={
        "open": state(on={"PAY": "paid"}),
        "paid": state(always=[to("held", guard="$event.doubtful"), to("booking")]),
        "held": state(),
        "booking": state(invoke=invoke("book", done="ready", error="held")),
        "ready": state(entry=Emit({"type": "order/READY"})),
    },
)
PARCEL = machine(
    "parcel", initial="here", states={"here": state(on={"SEND": "gone"}), "gone": state()}
)
SHOP = System((ORDER, PARCEL), (Route("order", "order/READY", "parcel", "SEND"),))


def test_4_a_callback_that_looks_at_the_state_acts_on_one_that_is_on_the_way() -> None:
    bus, order, sent = Bus(), ["open"], []
    bus.on("order/CHANGED", lambda _: sent.append("parcel") if order[-1] == "paid" else None)

    def pay(event: Mapping[str, Any]) -> None:
        for then in ("paid", "held" if event["doubtful"] else "ready"):
            order.append(then)
            bus.emit("order/CHANGED")

    pay({"doubtful": True})
    assert (order[-1], sent) == ("held", ["parcel"])


@pytest.mark.parametrize(
    ("doubtful", "seen", "parcel"),
    [(True, ["open", "held"], "here"), (False, ["open", "booking", "ready"], "gone")],
)
def test_4_nobody_sees_a_state_on_the_way_and_completion_is_an_event(
    doubtful: bool,  # noqa: FBT001 - a parameter
    seen: list[str],
    parcel: str,
) -> None:
    async def book(_: Call) -> None:
        await asyncio.sleep(5)

    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        [device] = sim.nodes
        async with device.node.machines(SHOP, services={"book": book}) as machines:
            shown: list[str] = []

            async def watch() -> None:
                async for value in machines.watch("order", lambda one: one.value):
                    shown.append(value)  # noqa: PERF401 - what was seen before the end counts

            watching = asyncio.create_task(watch())
            await sim.run(seconds=1)
            sending = machines.send("order", {"type": "PAY", "doubtful": doubtful}, waits=False)
            assert (await sending).value == seen[1]
            assert (await machines.view("parcel")).value == "here"
            await sim.run(seconds=10)
            watching.cancel()
            assert shown == seen
            assert (await machines.view("parcel")).value == parcel

    story()


# 5. Not seeing who did what.

CUT = System(
    (
        machine(
            "user",
            initial="in",
            states={
                "in": state(on={"LOGOUT": to("out", do=Emit({"type": "bye"}))}),
                "out": state(),
            },
        ),
        machine("session", initial="on", states={"on": state(on={"END": "off"}), "off": state()}),
    ),
    (
        Route("user", "bye", "session", "END", "$event.session"),
        Route("user", "bye", "session", "END", "s"),
    ),
)


def test_5_callbacks_keep_no_cause_and_lose_what_nobody_takes() -> None:
    bus, told = Bus(), list[str]()
    bus.on("LOGOUT", lambda _: bus.emit("END"))
    bus.on("END", lambda event: told.append(event["type"]))
    bus.emit("LOGOUT")
    bus.emit("END")  # somebody else's
    bus.emit("EMD")  # a slip
    assert told == ["END", "END"]  # which of them was whose, and where is the third?


@swarm_test(nodes=2, seeds=2)
async def test_5_one_registry_tells_every_step_of_every_machine_and_what_it_follows_from(
    sim: Sim,
) -> None:
    hooked: list[tuple[Passage, bool]] = []
    one, other = sim.nodes

    def hook(passage: Passage, is_live: bool) -> None:  # noqa: FBT001 - the shape of a hook
        hooked.append((passage, is_live))

    async with (
        one.node.machines(CUT, hooks=(hook,)) as machines,
        other.node.machines(CUT) as others,
    ):
        logout = await machines.publish("user", {"type": "LOGOUT"})
        slip = await machines.publish("session/s", {"type": "EMD"})
        await sim.converge()
        await sim.run(seconds=1)
        told = [passage async for passage in machines.history() if passage.event != "$init"]
        found = [(one.machine, one.event, one.kind, one.reason, one.key) for one in told]
        assert found == [
            ("user", "bye", "warning", "route:no-instance", str(logout.key)),
            ("user", "LOGOUT", "transition", None, str(logout.key)),
            ("session", "END", "transition", None, f"{logout.key}#1"),
            ("session", "EMD", "dropped", "not-enabled", str(slip.key)),
        ]
        assert {one.root for one in told[:3]} == {str(logout.key)}
        assert [one for one, _ in hooked if one.event != "$init"] == told
        assert all(is_live for _, is_live in hooked)
        assert others.passages() == machines.passages()


def test_5_an_event_that_came_through_several_machines_keeps_its_root() -> None:
    world = fold(LOGIN, (1, "A", "user", {"type": "LOGIN"}))
    last = world.passages[-1]
    assert (last.machine, last.root, last.key) == ("session", key(1), f"{key(1)}#1")
