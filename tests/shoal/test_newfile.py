"""New files for an operator, on disks and on sticks that know no links."""

import os
import signal
from pathlib import Path

import pytest

from tests.shoal.daemons import Ended, daemon, enrolled, shoal, shoal_process
from tests.shoal.shims import built_shim


@pytest.fixture(scope="module")
def no_links(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that lets no file have a second name."""
    return str(built_shim("no_links.c", tmp_path_factory.mktemp("shim")))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data folder with an event, and no daemon."""
    folder = enrolled(tmp_path / "data")
    with daemon(folder) as one:
        assert one.ask("publish", "--tag", "a", "1").status == 0
        assert one.stop(signal.SIGTERM) == 0
    return folder


def test_archives_and_backups_are_made_on_a_stick_that_knows_no_links(
    filled: Path, tmp_path: Path, no_links: str
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()

    def made(command: str, name: str) -> Ended:
        arguments = ("--data", str(filled), str(stick / name))
        return shoal_process(command, *arguments, LD_PRELOAD=no_links)

    assert made("export", "news").status == 0
    assert made("backup", "monday").status == 0
    assert sorted(path.name for path in stick.iterdir()) == ["monday", "news"]
    assert {path.stat().st_mode & 0o777 for path in stick.iterdir()} == {0o600}
    assert shoal("import", "--data", str(filled), str(stick / "news")).status == 0
    assert shoal("restore", "--data", str(filled), str(stick / "monday")).status == 0

    (stick / "news").write_text("precious")
    again = made("export", "news")
    assert (again.status, "exists" in again.err) == (os.EX_CANTCREAT, True)
    assert (stick / "news").read_text() == "precious"
