"""Real hardship: a full disk, a disk that cannot be written to, syncs that fail, damaged files, a crowd of daemons."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lamport.tags import Tag
from shoal.ballast import BALLAST_BYTES, BALLAST_NAME
from tests.lamport.keys import open_log, read_all
from tests.shoal.daemons import (
    LIMIT_S,
    Daemon,
    Ended,
    command,
    daemon,
    enrolled,
    environment,
    first_line,
    shoal,
    started_process,
    watched,
)
from tests.shoal.shims import built_shim

DISK_BYTES = 4 * 1024 * 1024
ROOT = Path(__file__).parents[2]
BIG = json.dumps("x" * 60_000)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of its own with a few megabytes of room."""
    place.mkdir(mode=0o700)
    made = mounted("-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(place))
    if made.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        umount = shutil.which("umount")
        assert umount is not None
        subprocess.run([umount, "--lazy", str(place)], check=True)


def mounted(*arguments: str) -> "subprocess.CompletedProcess[str]":
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command here")
    return subprocess.run([mount, *arguments], capture_output=True, text=True, check=False)


def publish(one: Daemon, payload: str, tag: str = "a") -> Ended:
    return one.ask("publish", "--tag", tag, payload)


def count(one: Daemon, tag: str = "a") -> int:
    ended = one.ask("query", f"FROM '{tag}'")
    assert ended.status == 0, ended
    return len(ended.out.splitlines())


def fill(one: Daemon) -> tuple[int, Ended]:
    """Publish until that is refused; returns how often it was not, and the refusal."""
    for number in range(DISK_BYTES // 60_000 * 2):
        ended = publish(one, BIG)
        if ended.status != 0:
            return number, ended
    raise AssertionError("the disk was never full")


def heard(one: Daemon, tag: str) -> None:
    """Wait until a daemon knows an event with this tag."""
    tail = command("tail", "--data", str(one.folder), "--all", f"FROM '{tag}'")
    with started_process(tail, one.folder.with_name("tail.log")) as process:
        assert first_line(process)


def test_a_full_disk_refuses_appends_and_reads_and_sending_go_on(tmp_path: Path) -> None:
    other = enrolled(tmp_path / "other")
    with small_disk(tmp_path / "disk") as disk:
        folder = enrolled(disk / "data")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(DISK_BYTES // 2))
        with daemon(folder) as one:
            assert publish(one, "1", "first").status == 0
            stored, refusal = fill(one)
            assert "the disk is full" in refusal.err
            assert (refusal.status, refusal.err.count("\n")) == (os.EX_IOERR, 1)
            assert stored == count(one) > 5
            with daemon(other, "--peer", one.listening) as two:
                heard(two, "first")
                ballast.unlink()
                assert publish(one, "1", "last").status == 0
                heard(two, "last")
                assert count(two) == stored
            one.kill()
        with daemon(folder) as one:
            assert (count(one), count(one, "last")) == (stored, 1)
            one.stop(signal.SIGTERM)
        assert "all is well" in shoal("verify", "--data", str(folder)).out


def room(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def test_a_full_disk_throws_the_ballast_out_and_what_that_frees_is_not_for_events(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        folder = enrolled(disk / "data")
        filler = disk / "filler"
        filler.write_bytes(bytes(DISK_BYTES // 2))
        with daemon(folder) as one:
            ballast = folder / BALLAST_NAME
            assert (ballast.stat().st_size, ballast.stat().st_mode & 0o777) == (
                BALLAST_BYTES,
                0o600,
            )
            stored, _ = fill(one)
            assert not ballast.exists()
            # The write-ahead log is in the database, and cut off.
            assert (folder / "log.sqlite-wal").stat().st_size == 0
            (disk / "more").write_bytes(bytes(max(0, room(disk) - BALLAST_BYTES)))
            before = room(disk)
            assert before > BALLAST_BYTES // 2
            for _ in range(3):
                assert "the disk is full" in publish(one, "1").err
            assert (room(disk), count(one)) == (before, stored)
            filler.unlink()
            assert publish(one, "1", "last").status == 0
            assert ballast.stat().st_size == BALLAST_BYTES
        assert "the disk is full: nothing is stored" in one.diary.read_text()
        assert "there is room on the disk again" in one.diary.read_text()


def test_a_daemon_starts_on_a_full_disk_by_its_ballast(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        folder = enrolled(disk / "data")
        with daemon(folder) as one:
            assert publish(one, "1").status == 0
            one.kill()
        filler = disk / "filler"
        filler.write_bytes(bytes(room(disk)))
        with daemon(folder) as one:
            assert not (folder / BALLAST_NAME).exists()
            assert count(one) == 1
            assert "the disk is full" in publish(one, "2").err
            filler.unlink()
            assert publish(one, "3").status == 0
            assert (folder / BALLAST_NAME).exists()


def test_a_daemon_that_finds_no_room_to_start_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        folder = enrolled(disk / "data")
        room = os.statvfs(disk)
        (disk / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize))
        ended = shoal("run", "--data", str(folder))
        assert ended.status == os.EX_IOERR
        assert "the disk is full" in ended.err
        (disk / "ballast").unlink()
        with daemon(folder) as one:
            assert publish(one, "1").status == 0


def test_a_backup_for_which_there_is_no_room_leaves_nothing(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    with daemon(folder) as one, small_disk(tmp_path / "disk") as disk:
        for _ in range(5):
            publish(one, BIG)
        (disk / "ballast").write_bytes(bytes(DISK_BYTES - 64 * 1024))
        ended = shoal("backup", "--data", str(folder), str(disk / "copy"))
        assert ended.status == os.EX_IOERR
        assert "the disk is full" in ended.err
        ended = shoal("export", "--data", str(folder), str(disk / "archive"))
        assert ended.status == os.EX_IOERR
        assert ended.err == "shoal: the disk is full: free some space\n"
        assert [entry.name for entry in disk.iterdir()] == ["ballast"]


def test_a_disk_that_cannot_be_written_to_is_told_and_still_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        folder = enrolled(disk / "data")
        with daemon(folder) as one:
            publish(one, "1")
            assert one.stop(signal.SIGTERM) == 0
        assert mounted("-o", "remount,ro", str(disk)).returncode == 0
        refusal = shoal("run", "--data", str(folder))
        assert refusal.status == os.EX_NOINPUT
        assert "Read-only file system" in refusal.err
        looked = shoal("verify", "--data", str(folder))
        assert looked == Ended(0, "1 events, 1 seals, 1 streams: all is well\n", "")
        saved = shoal("backup", "--data", str(folder), str(tmp_path / "copy"))
        assert (saved.status, saved.err) == (0, "")


def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    path = folder / "log.sqlite"
    path.write_bytes(os.urandom(50_000))
    path.chmod(0o600)
    before = path.read_bytes()
    refusal = shoal("run", "--data", str(folder))
    assert refusal.status == os.EX_CONFIG
    assert "damaged or no database" in refusal.err
    assert path.read_bytes() == before


def test_of_many_daemons_on_one_folder_one_wins(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    ports = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-mdns")
    started = command("run", "--data", str(folder), *ports)
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(started_process(started, tmp_path / f"{number}.log"))
            for number in range(6)
        ]
        winners = [one for one in crowd if first_line(one)]
        losers = [one for one in crowd if one not in winners]
        assert len(winners) == 1
        assert {watched(one, one.wait) for one in losers} == {os.EX_CANTCREAT}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes syncs fail."""
    return built_shim("failing_sync.c", tmp_path_factory.mktemp("shim"))


PUBLISHER = """
import asyncio, os, sys
from pathlib import Path
from tests.lamport.keys import drafts, open_log

diary = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def main():
    async with open_log(Path(sys.argv[1])) as log:
        for number in range(8):
            try:
                [event] = await log.publish(drafts(1, "a"))
            except Exception:
                continue  # an application that does not give up
            os.write(diary, f"acknowledged {event.offset}\\n".encode())

asyncio.run(main())
"""


def published_with_failure(folder: Path, shim: Path, failing: int) -> tuple[int, list[str], str]:
    """Publish eight events while one sync fails: the exit status, the diary, and what was said."""
    folder.mkdir()
    diary = folder / "diary"
    diary.touch()
    shimmed = {"LD_PRELOAD": str(shim), "SHIM_FAIL_AT": str(failing), "SHIM_DIARY": str(diary)}
    ended = subprocess.run(
        [sys.executable, "-c", PUBLISHER, str(folder), str(diary)],
        cwd=ROOT,
        env=environment() | shimmed,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return ended.returncode, diary.read_text().splitlines(), ended.stderr


def test_nothing_is_acknowledged_behind_a_sync_that_failed(tmp_path: Path, shim: Path) -> None:
    """Whichever sync fails, once and never again: the log ends there, and what it had acknowledged is there."""
    acknowledged_before: list[int] = []
    for failing in range(1, 100):
        folder = tmp_path / str(failing)
        status, diary, said = published_with_failure(folder, shim, failing)
        acknowledged = [line for line in diary if line != "failed"]
        if "failed" not in diary:
            assert (status, len(acknowledged)) == (0, 8), said
            break
        assert diary[-1] == "failed", f"sync {failing}: {diary}"
        acknowledged_before.append(len(acknowledged))
        if len(acknowledged) < 8:
            assert status != 0
            assert (
                "StoreFailed: the disk failed the" in said
            )  # the database, or the token beside it
        assert len(asyncio.run(stored(folder))) >= len(acknowledged)
    assert set(range(8)) <= set(acknowledged_before)


CHECKPOINTING = """
import asyncio, os, sys
from pathlib import Path
from lamport.event import draft
from tests.lamport.keys import open_log

async def main():
    acknowledged = 0
    try:
        async with open_log(Path(sys.argv[1])) as log:
            await log.publish([draft("a", 0)])
            Path(os.environ["SHIM_TRIGGER"]).touch()
            for number in range(200):
                await log.publish([draft("a", "x" * 60_000)])
                acknowledged += 1
    finally:
        print(acknowledged)

asyncio.run(main())
"""


def test_a_checkpoint_whose_sync_fails_ends_the_log(tmp_path: Path, shim: Path) -> None:
    """Commits sync the write-ahead log alone; the database is synced when that is moved into it."""
    diary = tmp_path / "diary"
    ended = subprocess.run(
        [sys.executable, "-c", CHECKPOINTING, str(tmp_path)],
        cwd=ROOT,
        env=environment()
        | {"LD_PRELOAD": str(shim), "SHIM_NAME": "log.sqlite", "SHIM_DIARY": str(diary)}
        | {"SHIM_TRIGGER": str(tmp_path / "trigger")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    acknowledged = int(ended.stdout)
    assert "StoreFailed: the disk failed the database" in ended.stderr
    assert diary.read_text().splitlines()[0] == "failed"
    assert 0 < acknowledged < 100
    assert len(asyncio.run(stored(tmp_path))) >= 1 + acknowledged


async def stored(folder: Path) -> list[object]:
    async with open_log(folder) as log:
        return [event.key for event in await read_all(log, Tag("a"))]


def test_a_daemon_whose_disk_fails_a_sync_ends_and_says_so(tmp_path: Path, shim: Path) -> None:
    folder, trigger, diary = enrolled(tmp_path / "data"), tmp_path / "trigger", tmp_path / "log"
    ports = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-mdns")
    with (
        diary.open("wb") as errors,
        subprocess.Popen(
            command("run", "--data", str(folder), *ports),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment() | {"LD_PRELOAD": str(shim), "SHIM_TRIGGER": str(trigger)},
        ) as process,
    ):
        try:
            assert first_line(process)
            arguments = ("--data", str(folder), "--tag", "a")
            assert shoal("publish", *arguments, "1").status == 0
            trigger.touch()
            assert shoal("publish", *arguments, "2").status != 0
            trigger.unlink()
            assert watched(process, process.wait) == os.EX_IOERR
        finally:
            process.kill()
    assert "the disk failed the database" in diary.read_text()
    with daemon(folder) as one:
        assert count(one) in {1, 2}
        assert publish(one, "3").status == 0
