"""A reducer that takes too long: it is reported, interrupted where Python can, and never harms what comes after it."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import shoal.watchdog
from fish import Fish, FishStopped, Metadata, Pond
from fish.errors import Overran
from fish.reports import ReportKind
from lamport.tags import Tag
from shoal.watchdog import SHOT_TICKS, Watchdog
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, listed
from tests.shoal.daemons import LIMIT_S
from tests.shoal.swarm import make_homes

ENDLESS = "endless"


def quick() -> Watchdog:
    """One that has little patience."""
    return Watchdog(tick_s=0.01, computing_s=0.05, waiting_s=0.2)


def looping(state: Any, payload: Any, metadata: Metadata) -> Any:
    while payload == ENDLESS:
        pass
    return listed(state, payload, metadata)


def catching(state: Any, payload: Any, metadata: Metadata) -> Any:
    """It survives whatever is an `Exception`."""
    while payload == ENDLESS:
        with suppress(Exception):
            time.sleep(0)
    return listed(state, payload, metadata)


def waiting(state: Any, payload: Any, metadata: Metadata) -> Any:
    """It does not compute, it waits."""
    while payload == ENDLESS:
        time.sleep(0.001)
    return listed(state, payload, metadata)


def stubborn(state: Any, payload: Any, metadata: Metadata) -> Any:
    """It lets itself be interrupted at the third time of asking only."""
    asked = 0
    while payload == ENDLESS:
        try:
            while True:
                pass
        except BaseException:  # that is the point
            asked += 1
            if asked == 3:
                raise
    return listed(state, payload, metadata)


def pond_story(act: Callable[[MemoryLog, Pond], Any], watchdog: Watchdog | None = None) -> None:
    async def run() -> None:
        log = MemoryLog()
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, oversight=watchdog or quick())
            await act(log, pond)
            await pond.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("reducer", "watchdog"),
    [
        (looping, quick()),
        (catching, quick()),
        (stubborn, quick()),
        (waiting, Watchdog(tick_s=0.01, computing_s=1e9, waiting_s=0.2)),
    ],
)
def test_an_endless_reducer_stops_its_fish_at_the_last_good_state_and_nothing_else(
    reducer: Callable[..., Any], watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        fish: Fish[Any] = Fish("endless", Tag("a"), (), reducer)
        states: list[Any] = []
        assert await pond.current_state(fish) == ()
        log.commit([])
        pond.observe(fish, states.append)
        log.receive(1, 1, "fine")
        poison = log.receive(1, 2, ENDLESS)
        log.receive(1, 3, "never seen")
        with pytest.raises(FishStopped, match="Overran: it took too long") as stopped:
            await pond.current_state(fish)
        assert stopped.value.key == poison.key
        assert states[-1] == ("fine",)
        assert await pond.current_state(LIST) == ("fine", ENDLESS, "never seen")
        [report] = pond.reports
        assert (report.kind, report.key) == (ReportKind.STOPPED, poison.key)

    with caplog.at_level(logging.ERROR, "shoal.fish"):
        pond_story(act, watchdog)
    assert "fish 'endless' at event" in caplog.records[0].message
    assert caplog.records[0].message.endswith("holds up the node")


def test_a_lookout_and_an_explanation_are_interrupted_too() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        fish: Fish[Any] = Fish("endless", Tag("a"), (), looping)
        log.receive(1, 1, ENDLESS)
        with pytest.raises(FishStopped, match="Overran"):
            await anext(pond.observe_unordered_reduce(Tag("a"), looping, ()))
        explained = await pond.explain(fish)
        assert "Overran" in str(explained.steps[-1].error)

    pond_story(act)


def for_ever(*_: Any) -> Any:
    while True:
        pass


def test_a_comparison_that_does_not_end_stops_its_lookout() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "one")
        second = log.receive(1, 2, "two")
        with pytest.raises(FishStopped, match=r"should_replace.*Overran") as stopped:
            await anext(pond.observe_best_match(Tag("a"), for_ever))
        assert stopped.value.key == second.key
        assert await pond.current_state(LIST) == ("one", "two")

    pond_story(act)


Look = Callable[[Pond, Callable[[Any, Metadata], Any]], Any]

LOOKS: list[tuple[Look, Any]] = [
    (lambda pond, make: pond.observe_all(Tag("a"), make), ((ENDLESS, "fine"),)),
    (lambda pond, make: pond.observe_one(Tag("a"), make), (ENDLESS, "fine")),
    (
        lambda pond, make: pond.observe_groups(
            Tag("a"), lambda *seed: make(*seed).name, lambda _: LIST
        ),
        {"list": (ENDLESS, "fine")},
    ),
]


@pytest.mark.parametrize(("look", "shown"), LOOKS)
def test_a_seed_whose_factory_does_not_end_is_passed_over(
    look: Look, shown: object, caplog: pytest.LogCaptureFixture
) -> None:
    def make(payload: Any, _metadata: Metadata) -> Fish[Any]:
        return LIST if payload == "fine" else for_ever()

    async def act(log: MemoryLog, pond: Pond) -> None:
        seed = log.receive(1, 1, ENDLESS)
        log.receive(1, 2, "fine")
        with look(pond, make) as observation:
            assert await anext(observation) == shown
        assert f"the seed {seed.key} is skipped" in caplog.text

    pond_story(act)


def test_a_fish_whose_state_takes_for_ever_to_be_kept_runs_without_snapshots() -> None:
    fish: Fish[Any] = Fish("kept", Tag("a"), (), listed, serialize_state=for_ever)

    async def act(log: MemoryLog, pond: Pond) -> None:
        for number in range(3):
            log.receive(1, number + 1, number)
            assert (await pond.current_state(fish))[-1] == number
        await pond.close()
        assert log.snapshots == []

    pond_story(act)


def test_a_fish_whose_state_takes_for_ever_to_come_back_stops() -> None:
    fish: Fish[Any] = Fish("kept", Tag("a"), (), listed, deserialize_state=for_ever)

    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "one")
        assert await pond.current_state(fish) == ("one",)
        await pond.close()
        async with asyncio.TaskGroup() as tasks:
            again = Pond(log, tasks, oversight=quick())
            with pytest.raises(FishStopped, match=r"deserialize_state.*Overran"):
                await again.current_state(fish)
            await again.close()

    pond_story(act)


def test_what_is_slow_but_ends_is_reported_and_goes_on() -> None:
    def slow(state: Any, payload: Any, metadata: Metadata) -> Any:
        reported = watchdog_reports(watchdog)
        while payload == ENDLESS and not reported():
            time.sleep(0.001)
        return listed(state, payload, metadata)

    def watchdog_reports(watchdog: Watchdog) -> Callable[[], bool]:
        return lambda: watchdog.has_reported

    async def act(log: MemoryLog, pond: Pond) -> None:
        fish: Fish[Any] = Fish("slow", Tag("a"), (), slow)
        event = log.receive(1, 1, ENDLESS)
        assert await pond.current_state(fish) == (ENDLESS,)
        [report] = pond.reports
        assert (report.kind, report.key) == (ReportKind.OVERRAN, event.key)
        assert "held up the node" in report.text

    watchdog = Watchdog(tick_s=0.01)
    pond_story(act, watchdog)


class Hesitant(Watchdog):
    """It finds a call overdue, and goes on only when that is over."""

    def __init__(self) -> None:
        super().__init__(tick_s=0.001)
        self.looks = threading.Event()
        self.is_over = threading.Event()
        self.is_done = threading.Event()

    def _is_overdue(self, watch: Any) -> bool:
        self.looks.set()
        self.is_over.wait()
        watch.ticks = SHOT_TICKS
        return True

    def _fire(self, watch: Any) -> None:
        super()._fire(watch)
        self.is_done.set()


def test_a_call_that_is_over_is_not_shot_at() -> None:
    watchdog = Hesitant()
    assert watchdog.watched(watchdog.looks.wait, lambda: "a call", lambda _: None)
    watchdog.is_over.set()
    assert watchdog.is_done.wait(), "nothing strikes while we wait"


def test_a_call_is_not_over_before_a_shot_that_was_begun_has_been_fired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes_aim, may_fire = threading.Event(), threading.Event()
    fires = shoal.watchdog._raise_in  # noqa: SLF001 - what is to happen just then has no other handle

    def aimed(thread: int, error: type[BaseException]) -> None:
        takes_aim.set()
        may_fire.wait()
        fires(thread, error)

    def call() -> str:
        takes_aim.wait()
        threading.Thread(target=let_fire).start()
        return "whole"

    def let_fire() -> None:
        for _ in range(1_000):  # a caller who does not wait is gone by then
            time.sleep(0)
        may_fire.set()

    monkeypatch.setattr(shoal.watchdog, "_raise_in", aimed)
    watchdog = Watchdog(tick_s=0.001, computing_s=0.0)
    assert watchdog.watched(call, lambda: "a call", lambda _: None) == "whole"
    assert may_fire.wait(), "nothing strikes while we wait"
    watchdog.join()


def test_the_thread_goes_when_there_is_nothing_to_watch_and_comes_back() -> None:
    watchdog = Watchdog(tick_s=0.001, computing_s=0.01)
    for _ in range(2):
        assert watchdog.watched(lambda: "done", lambda: "a call", lambda _: None) == "done"
        watchdog.join()
    with pytest.raises(Overran):
        watchdog.watched(endless, lambda: "a call", lambda _: None)


def endless() -> None:
    while True:
        pass


def test_a_device_outlives_an_endless_reducer(tmp_path: Path) -> None:
    """With the seams, and the patience, of production."""

    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as device:
            fish: Fish[Any] = Fish("endless", Tag("a"), (), looping)
            await device.publish("a", "fine")
            with device.node.pond.observe(fish) as states:
                assert await anext(states) == ("fine",)
                poison = await device.publish("a", ENDLESS)
                with pytest.raises(FishStopped, match="Overran") as stopped:
                    await anext(states)
            assert stopped.value.key == poison.key
            assert str(poison.key) in device.node.status().stopped["endless"]
            await device.publish("a", "the node goes on")
            others = await device.node.pond.current_state(LIST)
            assert others == ("fine", ENDLESS, "the node goes on")

    asyncio.run(story())


PROFILED = """
import sys
from contextlib import suppress
from fish.errors import Overran
from shoal.watchdog import Watchdog

def endless():
    while True:
        pass

dog = Watchdog(tick_s=0.01, computing_s=0.05, waiting_s=0.2)
with suppress(Overran):
    dog.watched(endless, lambda: "it", print)
sys.setprofile(lambda frame, event, called: None)
(lambda: None)()
sys.setprofile(None)
print("went on")
"""


def test_a_profile_function_may_be_set_behind_a_call_that_was_interrupted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROFILED],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.stdout == "went on\n", done.stderr
