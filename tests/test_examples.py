"""The ladder of examples runs, and each step ends with what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
LAST_LINE = {
    "01_one_node.py": "p8 was milled",
    "02_a_fish.py": "then {'milled': 2, 'painted': 1}",
    "03_two_nodes.py": "the tablet counts 7",
    "04_work_across_a_cut.py": "healed, they agree: True - open: 1",
    "06_a_slip_and_an_old_version.py": "2500 g",
    "07_a_protocol.py": "they agree: True",
    "08_a_counter.py": "pieces 7",
    "09_a_worker.py": "open 0",
    "10_a_shift_board.py": "{'ada': 'paint shop', 'bob': 'mill', 'eve': 'press'}",
    "15_a_workflow.py": "refused: not-enabled",
}
TESTS = {
    "05_partition_test.py": "2 passed",
    "11_login.py": "5 passed",
    "12_settling.py": "3 passed",
    "13_worker.py": "4 passed",
    "14_transport_order.py": "2 passed",
}
LIMIT_S = 60.0


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*LAST_LINE, *TESTS}


@pytest.mark.parametrize("name", sorted(LAST_LINE))
def test_a_step_of_the_ladder_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) < 60


@pytest.mark.parametrize("name", sorted(LAST_LINE))
def test_an_example_ends_with_what_it_promises(name: str) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == LAST_LINE[name]


@pytest.mark.parametrize("name", sorted(TESTS))
def test_an_example_of_a_test_passes(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(TESTS[name])
