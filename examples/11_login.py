"""Three machines that know nothing of each other, on three nodes: `pytest examples/11_login.py`.

A user logs in and out, on as many devices as they like. Each login has a session of its own, named by the login's work
id: 15 minutes without activity lead to a warning, one more to expiry. A notification is shown for five seconds, and the
next one starts them anew. Routes carry what one machine emits to another; the way back, from the expired session to
the user, is declared as feedback.
"""

import asyncio
from contextlib import AsyncExitStack

from fish.machines import (
    Emit,
    Machines,
    Route,
    System,
    after,
    assign,
    cyclic,
    final,
    machine,
    state,
    to,
)
from simulations import Sim, swarm_test

IDLE_S, GRACE_S, SHOWN_S = 15 * 60, 60, 5

user = machine(
    "user",
    initial="logged_out",
    states={
        "logged_out": state(
            on={"LOGIN": to("logged_in", do=Emit({"type": "user/LOGIN", "login": "$meta.key"}))}
        ),
        "logged_in": cyclic(
            closes="logins",
            on={"LOGOUT": "logged_out", "SESSION_EXPIRED": "logged_out"},
            exit=Emit({"type": "user/LOGOUT", "login": "$work"}),
        ),
    },
)

session = machine(
    "session",
    initial="none",
    context={"login": None},
    states={
        "none": state(on={"BEGIN": to("active", do=assign(login="$event.login"))}),
        "active": state(
            on={"ACTIVITY": "active", "END": "ended"},  # its own state: left and entered again
            after=[after(IDLE_S, "warning")],
        ),
        "warning": state(
            entry=Emit({"type": "session/SHOW", "message": "Session expiring soon"}),
            on={"ACTIVITY": "active", "END": "ended"},
            after=[after(GRACE_S, "expired")],
        ),
        "expired": final(
            entry=[
                Emit({"type": "session/SHOW", "message": "Your session has expired"}),
                Emit({"type": "session/EXPIRED", "logins": ["$ctx.login"]}),
            ]
        ),
        "ended": final(),
    },
)

SHOW = to("visible", do=assign(message="$event.message"))
notification = machine(
    "notification",
    initial="idle",
    context={"message": ""},
    states={
        "idle": state(on={"SHOW": SHOW}),
        "visible": state(
            on={"SHOW": SHOW, "DISMISS": "idle"},
            after=[after(SHOWN_S, "idle", do=assign(message=""))],
        ),
    },
)

system = System(
    (user, session, notification),
    (
        Route("user", "user/LOGIN", "session", "BEGIN", to_instance="$event.login"),
        Route("user", "user/LOGOUT", "session", "END", to_instance="$event.login"),
        Route("session", "session/SHOW", "notification", "SHOW"),
        Route("session", "session/EXPIRED", "user", "SESSION_EXPIRED", "ann", feedback=True),
    ),
)


async def started(sim: Sim, stack: AsyncExitStack) -> list[Machines]:
    """The machines on every node."""
    return [await stack.enter_async_context(one.node.machines(system)) for one in sim.nodes]


@swarm_test(nodes=3, seeds=2)
async def test_a_logout_behind_a_cut_does_not_end_the_login_on_the_other_side(sim: Sim) -> None:
    """Two logins, two sessions; a second login is never swallowed by the first one's session."""
    async with AsyncExitStack() as stack:
        phone, laptop, other = await started(sim, stack)
        await phone.send("user/ann", {"type": "LOGIN"})
        await sim.run(seconds=1)
        with sim.partition({sim.nodes[0]}, set(sim.nodes[1:])):
            await laptop.send("user/ann", {"type": "LOGIN"})
            await phone.send("user/ann", {"type": "LOGOUT"})
        await sim.converge()
        ann = await other.view("user/ann")
        [login] = ann.tokens
        assert ann.value == "logged_in"
        assert (await other.view(f"session/{login.id}")).value == "active"


@swarm_test(nodes=3, seeds=2)
async def test_fifteen_idle_minutes_lead_to_a_warning_then_to_expiry_and_logout(sim: Sim) -> None:
    """Activity puts it off; an activity feed logs one event in ten seconds, not one for each move of the mouse."""
    async with AsyncExitStack() as stack:
        desk, wall, _ = await started(sim, stack)
        await desk.send("user/ann", {"type": "LOGIN"})
        [login] = (await desk.view("user/ann")).tokens
        here = desk.machine(f"session/{login.id}")
        mouse = here.feed({"type": "ACTIVITY"}, every=10)
        moved = [await mouse.tell() for _ in range(50)]
        assert moved == [True] + [False] * 49
        await sim.run(minutes=14)
        assert await mouse.tell()
        await sim.run(minutes=14)
        assert (await here.view()).value == "active"
        await sim.run(minutes=1, seconds=2)
        assert (await wall.view("notification")).context["message"] == "Session expiring soon"
        await sim.run(minutes=1)
        assert (await wall.view("user/ann")).value == "logged_out"
        assert (await wall.view("notification")).context["message"] == "Your session has expired"
        await desk.send("user/ann", {"type": "LOGIN"})
        assert (await desk.view("user/ann")).value == "logged_in"


@swarm_test(nodes=3, seeds=2)
async def test_each_new_notification_starts_the_dismissal_anew(sim: Sim) -> None:
    """The second is shown for its own five seconds, on every node."""
    async with AsyncExitStack() as stack:
        one, two, three = await started(sim, stack)
        await one.send("notification", {"type": "SHOW", "message": "first"})
        await sim.run(seconds=3)
        await two.send("notification", {"type": "SHOW", "message": "second"})
        await sim.run(seconds=3)
        assert (await three.view("notification")).context["message"] == "second"
        await sim.run(seconds=3)
        assert (await three.view("notification")).value == "idle"


@swarm_test(nodes=3, seeds=2)
async def test_who_was_cut_off_learns_of_the_expiry_when_the_cut_heals(sim: Sim) -> None:
    """The session expires where the login was logged, whoever can be reached; a login beside it goes on."""
    async with AsyncExitStack() as stack:
        desk, wall, _ = await started(sim, stack)
        await desk.send("user/ann", {"type": "LOGIN"})
        await sim.run(seconds=1)
        with sim.partition({sim.nodes[0]}, set(sim.nodes[1:])):
            await sim.run(minutes=10)
            await wall.send("user/ann", {"type": "LOGIN"})
            await sim.run(minutes=7)
            assert (await desk.view("user/ann")).value == "logged_out"
            _, later = (await wall.view("user/ann")).tokens
        await sim.converge()
        assert (await wall.view("user/ann")).tokens == (later,)
        assert (await desk.view(f"session/{later.id}")).value == "active"


@swarm_test(nodes=3, seeds=2)
async def test_outsiders_see_what_they_are_meant_to_see_and_only_when_it_changes(sim: Sim) -> None:
    """A lamp beside the door shows whether ann is in; of messages, mice and second logins it hears nothing."""
    seen: list[bool] = []

    async with AsyncExitStack() as stack:
        desk, wall, _ = await started(sim, stack)

        async def lamp() -> None:
            async for is_in in wall.watch("user/ann", lambda ann: ann.value == "logged_in"):
                seen.append(is_in)  # noqa: PERF401 - what was seen before the end counts

        watching = asyncio.create_task(lamp())
        for what in ("LOGIN", "LOGIN", "NONSENSE", "LOGOUT", "LOGIN"):
            await desk.send("user/ann", {"type": what})
            await desk.send("notification", {"type": "SHOW", "message": what})
            await sim.run(seconds=1)
        watching.cancel()
    assert seen == [False, True, False, True]
