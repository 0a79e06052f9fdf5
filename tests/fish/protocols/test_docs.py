"""The page about protocols says what is so: its blocks are run, and it names every kind of problem."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fish.protocols import Kind, Role
from lamport import Tag
from simulations import Sim, swarm_test
from tests.shoal.daemons import shoal

PAGE = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text("utf-8")
FILE = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0]
PROGRAM, AT_A_NODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NEVER_IN_A_TABLE = {Kind.MORE_PROBLEMS}


def test_the_file_on_the_page_is_well_formed(tmp_path: Path) -> None:
    file = tmp_path / "worker.json"
    file.write_text(FILE, "utf-8")
    ended = shoal("check", "--strict", str(file))
    assert (ended.status, ended.out.count("\n")) == (0, 2)


def test_the_program_on_the_page_runs() -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in NEVER_IN_A_TABLE])
def test_every_kind_of_problem_is_explained(kind: Kind) -> None:
    assert f"`{kind.value}`" in PAGE


@swarm_test(nodes=1, seeds=1)
async def test_the_role_on_the_page_works(sim: Sim) -> None:
    names: dict[str, Any] = {"node": sim.nodes[0].node, "Role": Role, "Tag": Tag}
    exec(PROGRAM, names)  # noqa: S102 - our own page
    lines = [*AT_A_NODE.splitlines(), "return await worker.place(), await worker.offered()"]
    exec("async def shown():\n" + "\n".join(f"    {one}" for one in lines), names)  # noqa: S102 - our own page
    place, offered = await names["shown"]()
    assert (place.state, offered) == ("working", ("stop",))
