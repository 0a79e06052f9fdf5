"""Commands by a user who may not open what they are about: told as that, and not as something else."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.shoal.daemons import LIMIT_S, command, daemon, enrolled, environment

CLOSED = 0


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data folder with a log, and no daemon."""
    folder = enrolled(tmp_path / "data")
    with daemon(folder) as one:
        assert one.stop(signal.SIGTERM) == 0
    return folder


def unprivileged(*arguments: str) -> list[str]:
    """A command line for which the modes of files count, whoever runs the tests."""
    if os.geteuid() != 0:
        return list(arguments)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may open everything, and there is no setpriv to give that up with")
    return [setpriv, "--bounding-set", "-dac_override,-dac_read_search", *arguments]


def refused(name: str, folder: Path, *arguments: Path) -> str:
    """What is said to who may not, in one line."""
    asked = unprivileged(*command(name, "--data", str(folder), *map(str, arguments)))
    ended = subprocess.run(
        asked, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment()
    )
    assert (ended.returncode, ended.stdout) == (os.EX_NOPERM, ""), ended
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_a_daemon_of_another_user_is_not_told_as_none(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    with daemon(folder):
        folder.chmod(CLOSED)
        said = refused("status", folder)
        folder.chmod(0o700)
    assert f"this user may not open {folder / 'lock'}" in said
    assert "run this as the user it belongs to" in said


@pytest.mark.parametrize("name", ["run", "verify"])
def test_a_folder_of_another_user_is_told_with_what_to_do(filled: Path, name: str) -> None:
    filled.chmod(CLOSED)
    said = refused(name, filled)
    filled.chmod(0o700)
    assert "run this as the user it belongs to" in said


@pytest.mark.parametrize("left", ["log.sqlite", "log.token"])
def test_a_file_that_another_user_left_in_the_folder_is_named(filled: Path, left: str) -> None:
    (filled / left).chmod(CLOSED)
    for name in ("run", "verify"):
        assert f"{filled / left} is closed to this user" in refused(name, filled)


@pytest.mark.parametrize("name", ["import", "restore"])
def test_a_file_that_may_not_be_read_is_no_fault_of_the_disk(
    filled: Path, tmp_path: Path, name: str
) -> None:
    given = tmp_path / "given"
    given.touch(CLOSED)
    assert f"this user may not open {given}" in refused(name, filled, given)
