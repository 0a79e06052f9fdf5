"""The page about protocols says what is so: its blocks are run, and it names every kind of problem."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fish.protocols import Kind
from tests.shoal.daemons import shoal

PAGE = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"```(json|python)\n(.*?)```", PAGE, re.DOTALL))
NEVER_IN_A_TABLE = {Kind.MORE_PROBLEMS}


def test_the_file_on_the_page_is_well_formed(tmp_path: Path) -> None:
    file = tmp_path / "worker.json"
    file.write_text(BLOCKS["json"], "utf-8")
    ended = shoal("check", "--strict", str(file))
    assert (ended.status, ended.out.count("\n")) == (0, 2)


def test_the_program_on_the_page_runs() -> None:
    command = [sys.executable, "-W", "error", "-c", BLOCKS["python"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in NEVER_IN_A_TABLE])
def test_every_kind_of_problem_is_explained(kind: Kind) -> None:
    assert f"`{kind.value}`" in PAGE
