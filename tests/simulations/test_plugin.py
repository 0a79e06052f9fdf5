"""What a user sees of swarm tests in pytest: failures with their seed, replay, parameters, fixtures."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import simulations.swarm  # noqa: F401 - what pytest runs inside this process finds it imported

pytest_plugins = ["pytester"]

LIMIT_S = 120
ALREADY_IMPORTED = "ignore::pytest.PytestAssertRewriteWarning"
"""This process has imported what pytest, starting in it once more, would rewrite."""

DOCS = Path(__file__).parent.parent.parent / "docs/simulation.md"

HEAD = """
import pytest
import uuid
from fish import Fish
from lamport import Tag
from simulations import swarm_test

PARTS = Fish("parts", Tag("part"), 0, lambda parts, event, _: parts + event)
"""

STALE = """
@swarm_test(nodes=2, seeds=30)
async def test_stale(sim):
    a, b = sim.nodes
    await a.publish("part", 3)
    if sim.random.random() < 0.5:
        sim.say("a long wait")
        await sim.run(minutes=1)
    expected = 3
    assert await b.pond.current_state(PARTS) == expected
"""


STRICT = ("-W", "error", "-W", ALREADY_IMPORTED, "--strict-markers")

Play = Callable[..., pytest.RunResult]


@pytest.fixture
def play(pytester: pytest.Pytester) -> Play:
    """Run tests as a user does; returns what pytest showed."""

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + source)
        return pytester.runpytest_inprocess(*STRICT, *options)

    return run


def test_a_failure_shows_its_line_seed_replay_and_pictures(
    play: Play, pytester: pytest.Pytester
) -> None:
    result = play(STALE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       assert await b.pond.current_state(PARTS) == expected",
            "E       assert 0 == 3",
            "E       swarm: seed * of 1..30 failed",
            "E       swarm: replay it with: pytest *.py::test_stale --swarm-seed=*",
            "E       swarm: picture of the run: *.svg",
            "*- swarm: seed * -*",
            "*a starts*",
            "*a writes*",
        ]
    )
    result.stdout.no_fnmatch_line("*drill.py*")
    [picture] = (pytester.path / ".pytest_cache").rglob("*.svg")
    assert picture.read_text("utf-8").startswith("<svg")
    assert str(picture) in result.stdout.str()


def test_the_seed_that_failed_fails_alone_and_another_passes(play: Play) -> None:
    [line] = [
        one for one in play(STALE).outlines if one.startswith("E ") and "--swarm-seed=" in one
    ]
    seed = line.rpartition("=")[2]
    again = play(STALE, f"--swarm-seed={seed}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"swarm-seed {seed}", f"E       swarm: seed {seed} failed"])
    passing = next(
        number for number in range(1, 9) if play(STALE, f"--swarm-seed={number}").ret == 0
    )
    assert passing != int(seed)


def test_how_many_seeds_can_be_said_on_the_command_line(play: Play) -> None:
    source = """
    seeds = []

    @swarm_test(nodes=1, seeds=50)
    async def test_collects(sim):
        seeds.append(sim.seed)

    def test_seeds():
        assert seeds == {expected}
    """
    lines = "\n".join(line[4:] for line in source.splitlines())
    play(lines.format(expected=[1, 1, 2, 3]), "--swarm-seeds=3").assert_outcomes(passed=2)
    play(lines.format(expected=[7, 7]), "--swarm-seed=7").assert_outcomes(passed=2)


def test_fixtures_parameters_classes_and_outcomes_work_as_usual(play: Play) -> None:
    result = play(
        """
@pytest.fixture
def pieces():
    return 2

@pytest.mark.parametrize("more", [1, 5])
@swarm_test(seeds=2)
async def test_both(sim, pieces, more, tmp_path):
    a, b, c = sim.nodes
    await a.publish("part", pieces)
    await b.publish("part", more)
    await sim.converge()
    assert tmp_path.exists()
    assert await sim.same(lambda device: device.pond.current_state(PARTS)) == pieces + more

class TestMany:
    @swarm_test(seeds=1)
    async def test_method(self, pieces, sim):
        assert pieces == 2

@swarm_test
async def test_skipped(sim):
    pytest.skip("not today")

@swarm_test
async def test_failing(sim):
    pytest.fail("on purpose")

@pytest.mark.xfail(strict=True)
@swarm_test
async def test_expected(sim):
    assert len(sim.nodes) == 4

def test_plain():
    pass
"""
    )
    result.assert_outcomes(passed=4, skipped=1, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(
        ["E       Failed: on purpose", "E       swarm: seed 1 of 1..50 failed"]
    )


def test_swarm_tests_can_be_chosen_by_their_marker(play: Play) -> None:
    source = "@swarm_test(seeds=1)\nasync def test_one(sim): pass\n\ndef test_two(): pass\n"
    play(source, "-m", "swarm").assert_outcomes(passed=1, deselected=1)
    play(source, "-m", "not swarm", "-k", "one").assert_outcomes(deselected=2)


NOT_FROM_THE_SEED = {
    "a payload": ('await sim.nodes[0].publish("part", str(uuid.uuid4()))', "in the bytes"),
    "a number of events": (
        'CALLS.append(1)\n    for _ in CALLS: await sim.nodes[0].publish("part", 1)',
        "at 0.*s, a: *",
    ),
    "how it ends": (
        "CALLS.append(1)\n    assert len(CALLS) == 1",
        "in how they end: no error against",
    ),
}


@pytest.mark.parametrize("kind", NOT_FROM_THE_SEED)
def test_what_does_not_come_from_the_seed_is_told(play: Play, kind: str) -> None:
    body, where = NOT_FROM_THE_SEED[kind]
    result = play(f"CALLS = []\n\n@swarm_test(seeds=2)\nasync def test_it(sim):\n    {body}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*NotDeterministic: two runs of seed 1 differ {where}*"])


def test_a_failure_that_does_not_come_back_is_called_so(play: Play) -> None:
    result = play(
        "CALLS = []\n\n@swarm_test\nasync def test_it(sim):\n    CALLS.append(1)\n    assert CALLS != [1]\n"
    )
    result.stdout.fnmatch_lines(
        ["E       assert [[]1[]] != [[]1[]]", "E       swarm: THE TEST IS NOT DETERMINISTIC*"]
    )


@pytest.mark.parametrize(("order", "failed"), [("list", 1), ("sorted", 0)])
def test_another_hash_seed_finds_the_order_of_a_set(play: Play, order: str, failed: int) -> None:
    source = f"""
@swarm_test(nodes=1, seeds=2)
async def test_it(sim):
    await sim.nodes[0].publish("part", {order}({{str(one) for one in range(20)}}))
"""
    result = play(source, "--swarm-hash-seeds=1")
    result.assert_outcomes(failed=failed, passed=1 - failed)
    if failed:
        result.stdout.fnmatch_lines(["*goes otherwise in a process with PYTHONHASHSEED=*"])


def test_an_impure_fish_is_named_also_where_something_else_fails(play: Play) -> None:
    result = play(
        """
def in_place(state, event, _):
    state.append(event)
    return state

def listed():
    return Fish("listed", Tag("part"), [], in_place)

@swarm_test
async def test_passing(sim):
    await sim.nodes[0].publish("part", 1)
    await sim.nodes[0].pond.current_state(listed())

@swarm_test
async def test_failing(sim):
    await sim.nodes[0].publish("part", 1)
    assert await sim.nodes[0].pond.current_state(listed()) == []
"""
    )
    result.assert_outcomes(failed=2)
    told = "fish 'listed' version 1 is impure: in_place (*.py:*): it changes the state it is given*"
    result.stdout.fnmatch_lines(
        [f"E*FishImpure: {told}", "*swarm: seed 1 of 1..50 failed", f"E*besides: {told}"]
    )
    result.stdout.fnmatch_lines(["*swarm: replay it with: *test_passing --swarm-seed=1"])


def test_a_test_that_never_ends_is_told_where_it_waits(play: Play) -> None:
    result = play("@swarm_test(minutes=2)\nasync def test_it(sim):\n    await sim.run(minutes=3)\n")
    result.stdout.fnmatch_lines(
        [">       await sim.run(minutes=3)", "E*has not ended after 2 minutes of virtual time*"]
    )
    result.stdout.no_fnmatch_line("*asyncio*")


def test_the_tests_in_the_documentation_do_what_it_says(pytester: pytest.Pytester) -> None:
    files = dict(
        re.findall(r"<!-- file (\S+) -->\n```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    )
    for name, text in files.items():
        (pytester.path / name).write_text(text)
    result = pytester.runpytest_inprocess(*STRICT)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_shift.py F*",
            "test_work.py .*",
            "E       AssertionError: assert 'idle' == 'working'",
        ]
    )


def test_the_plugin_loads_no_simulator() -> None:
    program = (
        "import sys, pytest, simulations.plugin\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}\n"
        "      & {'fish', 'lamport', 'shoal', 'transport', 'cryptography', 'msgpack'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    assert done.stdout == "[]\n"


def test_a_swarm_test_runs_without_pytest(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(
        "import sys\n"
        "sys.modules['pytest'] = None\n"
        "from simulations import swarm_test\n"
        "@swarm_test(nodes=1, seeds=2)\n"
        "async def test(sim):\n"
        "    assert sim.seed == 1, 'the second seed'\n"
        "try:\n"
        "    test()\n"
        "except AssertionError as error:\n"
        "    print(error, error.__notes__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "alone.py")],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    assert done.stdout == "the second seed ['swarm: seed 2 of 1..2 failed']\n"
