"""A data folder: closed to others, one device's, and one process's at a time."""

import asyncio
import base64
import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from shoal import open_node
from shoal.errors import FolderError, FolderInUse, FolderOpen
from shoal.folder import enrol_device, locked_folder, read_folder
from tests.shoal.daemons import SWARM_KEY, enrolled, first_line, shoal, started_process
from transport.errors import IdentityError
from transport.network import Address

HOLDER = """
import signal
import sys
from pathlib import Path
from shoal.folder import locked_folder

with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = enrolled(tmp_path / "above" / "data")
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700
    assert mode_of(folder / "identity.json") == 0o600
    assert [entry.name for entry in folder.iterdir()] == ["identity.json"]


def test_an_empty_folder_is_taken_and_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    enrolled(tmp_path)
    assert mode_of(tmp_path) == 0o700


def test_what_was_enrolled_is_read_back(tmp_path: Path) -> None:
    identity = enrol_device(tmp_path / "data", SWARM_KEY)
    assert read_folder(tmp_path / "data") == identity


def test_enrolling_twice_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    before = (folder / "identity.json").read_bytes()
    with pytest.raises(
        FolderError, match=r"a device is enrolled in .* already: use another folder"
    ):
        enrolled(folder)
    assert (folder / "identity.json").read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("sea")
    tmp_path.chmod(0o755)
    with pytest.raises(FolderError, match="is not empty: name a new or empty folder"):
        enrolled(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]
    assert mode_of(tmp_path) == 0o755


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(FolderError, match="is no folder"):
        enrolled(tmp_path / "file")


def test_a_folder_that_cannot_be_made_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(FolderError, match=r"cannot make .*file/data \(Not a directory\)"):
        enrolled(tmp_path / "file" / "data")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o601])
def test_an_identity_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    folder = enrolled(tmp_path / "data")
    (folder / "identity.json").chmod(mode)
    with pytest.raises(
        IdentityError, match=rf"mode {mode:04o}\): run chmod 600 {folder}/identity.json"
    ):
        read_folder(folder)


@pytest.mark.parametrize("name", ["log.sqlite", "log.sqlite-wal", "log.sqlite-shm", "log.token"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602])
def test_a_log_that_others_may_open_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    folder = enrolled(tmp_path / "data")
    path = folder / name
    path.touch(0o600)
    read_folder(folder)
    path.chmod(mode)
    with pytest.raises(FolderOpen, match=rf"mode {mode:04o}\): run chmod 600 {path}$"):
        read_folder(folder)
    ended = shoal("run", "--data", str(folder))
    assert (ended.status, mode_of(path)) == (os.EX_NOPERM, mode)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o705, 0o701])
def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    folder = enrolled(tmp_path / "data")
    folder.chmod(mode)
    with pytest.raises(IdentityError, match=rf"mode {mode:04o}\): run chmod 700 {folder}$"):
        read_folder(folder)


def test_without_an_identity_the_way_to_one_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FolderError, match=rf"run `shoal init --data {folder} --swarm-key"):
            read_folder(folder)


def test_a_damaged_identity_is_refused_by_name(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    os.truncate(folder / "identity.json", 100)
    with pytest.raises(IdentityError, match=rf"^{folder}/identity.json: it is damaged"):
        read_folder(folder)


def test_the_swarm_key_stands_nowhere_in_the_folder_of_a_node_that_has_run(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")

    async def run() -> dict[str, bytes]:
        async with open_node(folder, listen=Address("127.0.0.1", 0), mdns=False) as node:
            await node.publish("a", 1)
            return {entry.name: entry.read_bytes() for entry in folder.iterdir()}

    while_it_ran = asyncio.run(run())
    files = [*while_it_ran.values(), *(entry.read_bytes() for entry in folder.iterdir())]
    assert {"identity.json", "log.sqlite", "log.sqlite-wal", "lock"} <= while_it_ran.keys()
    key = SWARM_KEY.key
    for form in (key, key.hex().encode(), base64.b64encode(key), base64.b85encode(key)):
        assert not any(form in content for content in files)


def test_all_files_of_a_running_node_are_closed_to_others(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")

    async def run() -> dict[str, int]:
        async with open_node(folder, listen=Address("127.0.0.1", 0), mdns=False) as node:
            await node.publish("a", 1)
            return {entry.name: mode_of(entry) for entry in folder.iterdir()}

    before = os.umask(0)
    try:
        modes = asyncio.run(run())
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes


def test_a_lock_is_free_again_when_it_is_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with locked_folder(tmp_path):
            pass
    assert mode_of(tmp_path / "lock") == 0o600


def test_the_number_of_a_former_holder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123456789012\n")
    with locked_folder(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_held_lock_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    with (
        locked_folder(tmp_path),
        pytest.raises(FolderInUse, match=rf"another process \(pid {os.getpid()}\) works on"),
        locked_folder(tmp_path),
    ):
        raise AssertionError("both hold it")


def test_a_holder_that_left_no_number_is_refused_all_the_same(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(FolderInUse, match=r"another process \(pid unknown\)"),
            locked_folder(tmp_path),
        ):
            raise AssertionError("both hold it")


def test_the_lock_of_another_process_holds_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    arguments = [sys.executable, "-c", HOLDER, str(folder)]
    with started_process(arguments, tmp_path / "holder.log") as holder:
        assert first_line(holder) == "held\n", (tmp_path / "holder.log").read_text()
        with pytest.raises(FolderInUse, match=rf"pid {holder.pid}"), locked_folder(folder):
            raise AssertionError("both hold it")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with locked_folder(folder):
            assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_a_refused_process_does_not_take_the_holders_number_away(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        with pytest.raises(FolderInUse), locked_folder(tmp_path):
            raise AssertionError("both hold it")
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_without_room_for_a_lock_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with (
        pytest.raises(FolderError, match=r"cannot open .*/lock \(Is a directory\)"),
        locked_folder(tmp_path),
    ):
        raise AssertionError("it is held")
