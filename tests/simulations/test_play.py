"""Seeds, plans, what runs come through, and what is made of a failure."""

import asyncio
import inspect
import json
import os
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import lamport.follower
from lamport.clock import LamportClock
from lamport.log import EventLog
from simulations.campaign import MARKED_SEEDS, Scope, Summary, keep_failure, played
from simulations.errors import Deadlock, SimulationError
from simulations.knobs import KNOBS, turned_down
from simulations.loop import run_simulated
from simulations.markers import MARKERS, reached
from simulations.plan import HARDSHIPS, Plan, draw_plan
from simulations.planted import BUGS, planted
from simulations.play import play, shrunk
from simulations.trace import Kind


@pytest.mark.parametrize("seed", range(1, 13))
def test_a_seed_keeps_all_laws(seed: int) -> None:
    outcome = play(draw_plan(seed, seconds=30))
    assert not outcome.failure
    assert outcome.commits > 0


def test_a_world_with_every_kind_of_hardship_keeps_all_laws() -> None:
    plan = draw_plan(1, nodes=5, seconds=30, every_kind=True)
    assert set(plan.options) == set(HARDSHIPS)
    assert not play(plan).failure


def test_a_seed_is_drawn_and_played_the_same_again() -> None:
    plan = draw_plan(5, seconds=20)
    assert plan == draw_plan(5, seconds=20)
    assert play(plan).digest == play(plan).digest != play(draw_plan(6, seconds=20)).digest


def test_who_keeps_notes_changes_nothing() -> None:
    plan = draw_plan(7, seconds=20)
    kept = play(plan, keeps=True)
    assert kept.digest == play(plan).digest
    assert {Kind.START, Kind.MESSAGE, Kind.EVENT, Kind.STATE} <= {note.kind for note in kept.notes}


def test_disks_that_tear_are_part_of_the_digest() -> None:
    plan = replace(draw_plan(8, seconds=20), harsh=True)
    assert play(plan).digest == play(plan).digest
    assert not play(plan).failure


def test_seeds_draw_every_kind_of_hardship_and_leave_every_kind_out() -> None:
    drawn = [set(draw_plan(seed, seconds=1).options) for seed in range(40)]
    assert set.union(*drawn) == set(HARDSHIPS)
    assert not set.intersection(*drawn)


def test_seeds_turn_every_bound_down_and_leave_every_bound_alone() -> None:
    drawn = [set(draw_plan(seed, seconds=1).knobs) for seed in range(60)]
    assert set.union(*drawn) == set(KNOBS)
    assert not set.intersection(*drawn)


def test_a_bound_is_turned_down_for_a_while() -> None:
    before = lamport.follower.KEPT_BATCHES
    with turned_down(["memory keeps one commit"]):
        assert lamport.follower.KEPT_BATCHES == 1 < before
    assert before == lamport.follower.KEPT_BATCHES


def test_an_unknown_bound_is_refused() -> None:
    with pytest.raises(SimulationError, match="speed of light"), turned_down(["speed of light"]):
        pass


def test_a_saved_plan_is_the_same_plan(tmp_path: Path) -> None:
    plan = draw_plan(7, seconds=20)
    (tmp_path / "plan.json").write_text(plan.to_json(), "utf-8")
    assert Plan.read(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text, "utf-8")
    with pytest.raises(SimulationError, match="no plan"):
        Plan.read(tmp_path / "plan.json")


def test_watching_for_markers_leaves_no_trace_in_the_code() -> None:
    before = {(m.owner, m.attribute): m.owner.__dict__[m.attribute] for m in MARKERS}
    with reached():
        assert EventLog.__dict__["_receive"] is not before[EventLog, "_receive"]
    assert {place: place[0].__dict__[place[1]] for place in before} == before


def test_there_are_markers_enough_and_their_names_differ() -> None:
    assert len({marker.name for marker in MARKERS}) == len(MARKERS) >= 25


def test_runs_reach_markers_and_a_campaign_tells_which_it_missed() -> None:
    outcome = play(draw_plan(1, seconds=30))
    assert {"nobody listens", "late event behind a checkpoint"} <= outcome.markers
    summary = Summary()
    for _ in range(MARKED_SEEDS - 1):
        summary.add(outcome)
    assert not summary.missed
    summary.add(outcome)
    assert set(summary.missed) == {marker.name for marker in MARKERS} - outcome.markers


def test_two_processes_play_the_same_as_one() -> None:
    scope = Scope(nodes=3, seconds=10)
    alone = [(one.plan.seed, one.digest) for one in played(range(1, 7), scope, 1)]
    assert [(one.plan.seed, one.digest) for one in played(range(1, 7), scope, 2)] == alone


def test_seeds_give_the_same_digests_under_any_hash_seed() -> None:
    program = (
        "from dataclasses import replace\n"
        "from simulations.plan import draw_plan\n"
        "from simulations.play import play\n"
        "plans = [draw_plan(seed, seconds=15, every_kind=True) for seed in (1, 2)]\n"
        "print(*(play(plan).digest for plan in (*plans, replace(plans[1], harsh=True))))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(digests) == 1
    assert len(set(digests.pop().split())) > 1


def test_a_planted_bug_is_found_made_small_saved_and_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A clock that is not raised by what is received breaks causality."""
    monkeypatch.setattr(LamportClock, "raised", lambda self, _lamport: self)
    failing = next(one for one in map(play, map(draw_plan, range(1, 50))) if one.failure)
    assert "law 5" in failing.failure
    small, saved, drawn = keep_failure(failing, tmp_path)
    assert len(small.operations) <= 2
    assert play(Plan.read(saved)).failure
    assert "law 5" in drawn.read_text("utf-8")


def test_shrinking_keeps_what_the_failure_needs() -> None:
    plan = draw_plan(3, seconds=60)
    needed = {plan.operations[2], plan.operations[-3]}
    assert set(shrunk(plan, lambda fewer: needed <= set(fewer.operations)).operations) == needed


QUICKLY_FOUND = (
    "acknowledged before the commit",
    "late events folded at the end",
    "an event handed over twice",
    "a stop ends all work",
    "a silent peer is waited for",
    "an offset is taken without its hash",
    "a full disk is taken for a broken one",
    "a commit answers its first request only",
    "the token is not looked at",
    "the own head is not asked for",
    "what is damaged is asked of nobody",
)


@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_a_bug_that_was_planted_is_found_by_the_first_seeds(name: str) -> None:
    """All of them are hunted by `python -m simulations planted`."""
    bug = next(bug for bug in BUGS if bug.name == name)
    right = bug.owner.__dict__[bug.attribute]
    with planted(bug):
        assert any(play(draw_plan(seed)).failure for seed in range(1, 25))
    assert bug.owner.__dict__[bug.attribute] is right


def test_what_is_planted_can_be_called_like_what_it_replaces() -> None:
    """Else it is found because it does not fit, and not because of its mistake."""
    misfits = []
    for bug in BUGS:
        right = bug.owner.__dict__.get(bug.attribute)
        if right is None:
            misfits.append(f"{bug.name}: there is no {bug.attribute}")
        elif inspect.isfunction(right):
            parameters = inspect.signature(right).parameters.values()
            named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
            try:
                inspect.signature(bug.make(right)).bind(
                    *range(len(parameters) - len(named)), **named
                )
            except TypeError as error:
                misfits.append(f"{bug.name}: {error}")
    assert not misfits


def test_there_are_bugs_enough() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20


def test_tasks_of_a_group_are_cancelled_in_the_same_order_wherever_they_lie_in_memory() -> None:
    """A task group keeps its tasks in a set; sets of usual tasks are in the order of addresses."""
    litter: list[object] = []

    async def cancelled_order() -> list[int]:
        order: list[int] = []

        async def wait(number: int) -> None:
            litter.append(bytearray(random.Random(len(litter)).randrange(5_000)))
            try:
                await asyncio.Event().wait()
            finally:
                order.append(number)

        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                for number in range(50):
                    tasks.create_task(wait(number))
                    await asyncio.sleep(0)
                raise ValueError("enough")
        return order

    first = run_simulated(cancelled_order(), random.Random(1))
    assert all(run_simulated(cancelled_order(), random.Random(1)) == first for _ in range(5))


def test_a_simulation_that_waits_for_nothing_says_so() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_simulated(wait(), random.Random(1))


@pytest.mark.parametrize(
    "arguments",
    [
        "run --seeds x",
        "run --seeds 5..1",
        "planted --seeds 5..1",
        "run --nodes 0",
        "run --nodes 1",
        "run --minutes -1",
        "run --minutes nan",
        "run --minutes 0",
        "run --jobs 0",
        "replay nowhere.json",
        "story no-such-story",
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulations", *arguments.split()],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodes", "x"),
        ("nodes", 1),
        ("shape", "donut"),
        ("seconds", -1),
        ("operations", [[1.0, "frobnicate", [0], 1]]),
        ("operations", [[1.0, "publish", [99], 1]]),
        ("operations", [[1.0, "publish", [-1], 1]]),
        ("operations", [["a", "b", "c", "d"]]),
    ],
)
def test_a_plan_of_what_cannot_be_is_refused(tmp_path: Path, field: str, value: object) -> None:
    plan = json.loads(draw_plan(7, seconds=5).to_json())
    (tmp_path / "plan.json").write_text(json.dumps(plan | {field: value}), "utf-8")
    with pytest.raises(SimulationError, match="no plan"):
        Plan.read(tmp_path / "plan.json")
