"""Every story ends as it should, from several seeds, and can be looked at."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from simulations.errors import LawBroken
from simulations.picture import draw_svg
from simulations.stories import COUNT, STORIES, Story, tell
from simulations.telling import draw_text
from simulations.trace import Kind, Note
from simulations.world import World

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", STORIES)
def test_a_story_ends_as_it_should(name: str, seed: int) -> None:
    tell(STORIES[name], seed)


@pytest.mark.parametrize("name", STORIES)
def test_a_story_can_be_looked_at(name: str) -> None:
    story = STORIES[name]
    notes = tell(story).notes
    ET.fromstring(draw_svg(notes, title=story.shows))  # noqa: S314 - our own text
    text = draw_text(notes, title=story.shows)
    for note in notes:
        if note.kind is Kind.OPERATION:
            assert note.text[:60] in text


def last_states(notes: list[Note], node: str) -> dict[str, str]:
    """Fish and digest of what a device shows in the end."""
    shown = (
        note.text.rsplit(" ", 1) for note in notes if (note.kind, note.node) == (Kind.STATE, node)
    )
    return {fish: digest for fish, digest in shown}  # noqa: C416 - pairs are lists


def test_two_states_lose_what_work_ids_keep() -> None:
    """In the third table the plain machine ends as it began, the work ids do not."""
    notes = tell(STORIES["cycling-3-unnamed-stays"]).notes
    first: dict[str, str] = {}
    for note in notes:
        if note.kind is Kind.STATE and note.node == "b":
            fish, _, digest = note.text.rpartition(" ")
            first.setdefault(fish, digest)
    last = last_states(notes, "b")
    assert last["two states"] == first["two states"]
    assert last["work ids"] != first["work ids"]
    assert last == last_states(notes, "a")


def test_a_story_that_ends_otherwise_is_found() -> None:
    async def parted_for_ever(world: World) -> None:
        a, b = world.nodes
        world.isolate(a)
        await b.publish("part", 1)

    with pytest.raises(LawBroken, match="law 6"):
        tell(Story("never healed", parted_for_ever, 2, (COUNT,)))


def test_the_same_seed_tells_the_same() -> None:
    story = STORIES["power-cut"]
    assert tell(story, 4).notes == tell(story, 4).notes != tell(story, 5).notes


def simulations(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulations", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_the_command_lists_stories(tmp_path: Path) -> None:
    done = simulations("story", folder=tmp_path)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(STORIES)


def test_the_command_tells_and_draws_a_story(tmp_path: Path) -> None:
    done = simulations("story", "cycling-4", "--seed", "2", "--svg", "it.svg", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"== partition: a \| b", done.stdout)
    assert "stops what it knows of: 2 started" in done.stdout
    assert (tmp_path / "it.svg").read_text("utf-8").startswith("<svg ")


@pytest.mark.parametrize("name", ["nothing", "cycling"])
def test_the_command_wants_one_story(tmp_path: Path, name: str) -> None:
    done = simulations("story", name, folder=tmp_path)
    assert done.returncode == 2
    assert "stories" in done.stderr
