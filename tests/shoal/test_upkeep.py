"""Looking after a log: `shoal verify`, `backup` and `restore`, beside a running daemon and without one."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lamport.schema import migrations
from tests.shoal.daemons import (
    Daemon,
    Ended,
    command,
    daemon,
    enrolled,
    first_line,
    shoal,
    started_process,
)

DAMAGE = 'UPDATE events SET bytes = zeroblob(length(bytes)) WHERE "offset" = 1'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return enrolled(tmp_path / "data")


@pytest.fixture
def filled(folder: Path) -> Path:
    """A data folder with three events, and no daemon."""
    with daemon(folder) as one:
        publish(one, 3)
        assert one.stop(signal.SIGTERM) == 0
    return folder


def publish(one: Daemon, count: int) -> None:
    for number in range(count):
        ended = one.ask("publish", "--tag", "a", str(number))
        assert ended.status == 0, ended


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def payloads(one: Daemon) -> list[Any]:
    ended = one.ask("query", "FROM 'a'")
    assert ended.status == 0, ended
    return [json.loads(line)["payload"] for line in ended.out.splitlines()]


def run(name: str, folder: Path, *arguments: str | Path) -> Ended:
    return shoal(name, "--data", str(folder), *map(str, arguments))


def succeeded(ended: Ended) -> str:
    assert (ended.status, ended.err) == (0, ""), ended
    return ended.out


def failed(ended: Ended, status: int, *parts: str) -> None:
    assert (ended.status, ended.out) == (status, ""), ended
    assert ended.err.startswith("shoal: ")
    assert ended.err.count("\n") == 1
    for part in parts:
        assert part in ended.err


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_sound_log_is_well_with_its_daemon_and_without(folder: Path) -> None:
    with daemon(folder) as one:
        publish(one, 3)
        assert "all is well" in succeeded(run("verify", folder))
        assert one.stop(signal.SIGTERM) == 0
    assert succeeded(run("verify", folder)) == "3 events, 3 seals, 1 streams: all is well\n"


def test_damage_is_told_line_by_line_and_by_the_status(filled: Path) -> None:
    execute(filled / "log.sqlite", DAMAGE)
    ended = run("verify", filled)
    assert ended.status == os.EX_DATAERR
    assert "offsets 1 to 1: the bytes are not those that the author sealed\n" in ended.out
    as_json = run("verify", filled, "--json")
    assert as_json.status == os.EX_DATAERR
    found = json.loads(as_json.out)
    assert found["count"] == len(found["findings"]) > 0
    assert {(one["first"], one["last"]) for one in found["findings"] if one["stream"]} == {(1, 1)}


def test_a_log_that_is_no_database_is_refused(filled: Path) -> None:
    (filled / "log.sqlite").write_bytes(b"bread\n" * 2_000)
    failed(run("verify", filled), os.EX_CONFIG, "no database")


def test_a_log_of_a_newer_schema_is_refused_by_every_command(filled: Path, tmp_path: Path) -> None:
    execute(filled / "log.sqlite", f"PRAGMA user_version = {len(migrations()) + 1}")
    before = (filled / "log.sqlite").read_bytes()
    for ended in (
        run("verify", filled),
        run("verify", filled, "--heal"),
        run("backup", filled, tmp_path / "copy"),
        run("run", filled),
    ):
        failed(ended, os.EX_CONFIG, "schema version", "upgrade Shoal")
    assert (filled / "log.sqlite").read_bytes() == before
    assert not (tmp_path / "copy").exists()


def test_without_a_log_the_way_to_one_is_told(folder: Path, tmp_path: Path) -> None:
    for ended in (run("verify", folder), run("backup", folder, tmp_path / "copy")):
        failed(ended, os.EX_NOINPUT, "there is no log", "shoal run")
    assert names(folder) == {"identity.json"}


def test_healing_needs_the_folder_for_itself(folder: Path) -> None:
    with daemon(folder):
        failed(run("verify", folder, "--heal"), os.EX_CANTCREAT, "works on")


def test_healing_drops_what_others_wrote_and_gossip_brings_it_again(tmp_path: Path) -> None:
    tablet, robot = enrolled(tmp_path / "tablet"), enrolled(tmp_path / "robot")
    with daemon(robot) as author:
        publish(author, 3)
        with daemon(tablet, "--peer", author.listening) as reader:
            follow(reader, 3)
            assert reader.stop(signal.SIGTERM) == 0
        execute(tablet / "log.sqlite", DAMAGE)
        healed = succeeded(run("verify", tablet, "--heal"))
        assert "cut back from offset 2" in healed
        assert "all is well" in healed
        with daemon(tablet, "--peer", author.listening) as reader:
            follow(reader, 3)
            assert payloads(reader) == [0, 1, 2]
            assert "all is well" in succeeded(run("verify", tablet))


def follow(one: Daemon, count: int) -> None:
    """Wait until a daemon knows so many events."""
    tail = command("tail", "--data", str(one.folder), "--all", "FROM 'a'")
    with started_process(tail, one.folder.with_name("tail.log")) as process:
        for _ in range(count):
            assert first_line(process)


def test_a_backup_beside_a_writing_daemon_is_whole_and_private(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite"
    with daemon(folder) as one:
        publish(one, 3)
        assert succeeded(run("backup", folder, copy)) == f"backed up to {copy}\n"
        publish(one, 2)
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (3,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    seed = json.loads((folder / "identity.json").read_text())["seed"]
    assert seed.encode() not in copy.read_bytes()
    assert names(tmp_path) == {"copy.sqlite", "data", "data.log"}


def test_a_backup_overwrites_nothing_and_leaves_nothing(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    failed(run("backup", filled, tmp_path / "precious"), os.EX_CANTCREAT, "exists")
    assert (tmp_path / "precious").read_text() == "precious"
    failed(run("backup", filled, tmp_path / "absent" / "copy"), os.EX_CANTCREAT, "cannot make")
    failed(run("backup", filled, ""), os.EX_CANTCREAT, "names no file")
    assert names(tmp_path) == {"precious", "data", "data.log"}


def test_a_backup_of_a_damaged_log_is_made_and_says_so(filled: Path, tmp_path: Path) -> None:
    execute(filled / "log.sqlite", "UPDATE streams SET hash = zeroblob(32)")
    ended = run("backup", filled, tmp_path / "copy")
    assert ended.status == os.EX_DATAERR
    assert "no seal vouches for its head" in ended.err
    assert (tmp_path / "copy").exists()
    failed(run("restore", filled, tmp_path / "copy"), os.EX_CONFIG, "is damaged")


def test_a_restored_log_is_what_was_backed_up_and_the_other_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    copy, second = tmp_path / "copy", tmp_path / "second"
    with daemon(folder) as one:
        publish(one, 2)
        succeeded(run("backup", folder, copy))
        publish(one, 3)
        one.kill()
    assert "replaced-1" in succeeded(run("restore", folder, copy))
    assert succeeded(run("verify", folder)) == "2 events, 2 seals, 1 streams: all is well\n"
    assert (folder / "log.sqlite").stat().st_mode & 0o777 == 0o600
    assert "replaced-2" in succeeded(run("restore", folder, folder / "log.sqlite.replaced-1"))
    assert succeeded(run("verify", folder)) == "5 events, 5 seals, 1 streams: all is well\n"
    succeeded(run("backup", folder, second))
    assert not {name for name in names(folder) if name.startswith(".")}


@pytest.mark.parametrize("left", [None, b""])
def test_a_log_that_is_gone_is_told_when_an_empty_one_takes_its_place(
    filled: Path, left: bytes | None
) -> None:
    (filled / "log.sqlite").unlink()
    if left is not None:
        (filled / "log.sqlite").touch(0o600)
    with daemon(filled) as one:
        assert one.stop(signal.SIGTERM) == 0
    assert one.diary.read_text().count("is gone, and an empty one takes its place") == 1
    with daemon(filled) as one:
        assert one.stop(signal.SIGTERM) == 0
    assert one.diary.read_text().count("is gone") == 1


def test_a_log_is_restored_where_none_is_left(filled: Path, tmp_path: Path) -> None:
    succeeded(run("backup", filled, tmp_path / "copy"))
    for name in names(filled) - {"identity.json"}:
        (filled / name).unlink()
    assert succeeded(run("restore", filled, tmp_path / "copy")).count("\n") == 1
    assert "3 events" in succeeded(run("verify", filled))


def test_a_restored_log_is_exported_before_its_node_has_run_again(
    filled: Path, tmp_path: Path
) -> None:
    succeeded(run("backup", filled, tmp_path / "copy"))
    succeeded(run("restore", filled, tmp_path / "copy"))
    assert "3 events" in succeeded(run("export", filled, tmp_path / "archive"))
    (filled / "log.token").unlink()
    assert "3 events" in succeeded(run("export", filled, tmp_path / "again"))
    assert (tmp_path / "archive").read_bytes() == (tmp_path / "again").read_bytes()


def test_a_log_damaged_beyond_reading_is_put_aside_as_it_is(filled: Path, tmp_path: Path) -> None:
    succeeded(run("backup", filled, tmp_path / "copy"))
    (filled / "log.sqlite").write_bytes(b"bread")
    (filled / "log.sqlite-wal").write_bytes(b"crumbs")
    succeeded(run("restore", filled, tmp_path / "copy"))
    assert (filled / "log.sqlite.replaced-1").read_bytes() == b"bread"
    assert "3 events" in succeeded(run("verify", filled))


@pytest.mark.parametrize("what", ["other node", "text", "other database", "newer"])
def test_what_is_no_backup_of_this_log_is_refused_untouched(
    filled: Path, tmp_path: Path, what: str
) -> None:
    copy = tmp_path / "copy"
    if what == "text":
        copy.write_text("bread\n" * 1_000)
    elif what == "other database":
        execute(copy, "CREATE TABLE recipes (name)")
    else:
        succeeded(run("backup", filled, copy))
        newer = f"PRAGMA user_version = {len(migrations()) + 1}"
        other = "UPDATE facts SET value = zeroblob(32) WHERE name = 'node'"
        execute(copy, newer if what == "newer" else other)
    before = (filled / "log.sqlite").read_bytes(), names(filled)
    failed(run("restore", filled, copy), os.EX_CONFIG)
    assert ((filled / "log.sqlite").read_bytes(), names(filled)) == before


def test_restoring_needs_a_file_and_the_folder_for_itself(folder: Path, tmp_path: Path) -> None:
    failed(run("restore", folder, tmp_path / "absent"), os.EX_NOINPUT, "there is no file")
    with daemon(folder):
        succeeded(run("backup", folder, tmp_path / "copy"))
        failed(run("restore", folder, tmp_path / "copy"), os.EX_CANTCREAT, "works on")


def test_an_archive_is_written_beside_a_daemon_and_taken_in_by_another_node(
    folder: Path, tmp_path: Path
) -> None:
    archive, other = tmp_path / "archive", enrolled(tmp_path / "other")
    with daemon(folder) as one:
        publish(one, 3)
        told = succeeded(run("export", folder, archive))
        assert told == f"exported 3 events of 1 streams to {archive}\n"
        assert archive.stat().st_mode & 0o777 == 0o600
        assert "imported 0 of 3 events" in succeeded(run("import", folder, archive))
    assert "imported 3 of 3 events" in succeeded(run("import", other, archive))
    assert "imported 0 of 3 events" in succeeded(run("import", other, archive))
    assert "3 events" in succeeded(run("verify", other))
    with daemon(other) as two:
        assert payloads(two) == [0, 1, 2]


def test_a_running_daemon_takes_an_archive_in(folder: Path, tmp_path: Path) -> None:
    archive, other = tmp_path / "archive", enrolled(tmp_path / "other")
    with daemon(folder) as one:
        publish(one, 3)
        succeeded(run("export", folder, archive))
    with daemon(other) as two:
        publish(two, 1)
        whole = archive.read_bytes()
        archive.write_bytes(whole[:-1])
        before = names(other)
        refusal = run("import", other, archive)
        failed(refusal, os.EX_DATAERR, "at byte", "truncated", "nothing was stored")
        assert (names(other), len(payloads(two))) == (before, 1)
        archive.write_bytes(whole)
        assert "imported 3 of 3 events of 1 streams" in succeeded(run("import", other, archive))
        assert sorted(payloads(two)) == [0, 0, 1, 2]
        assert "imported 0 of 3 events" in succeeded(run("import", other, archive))
        assert "4 events" in succeeded(run("verify", other))


def test_only_what_is_missing_is_exported(folder: Path, tmp_path: Path) -> None:
    archive, other, have = tmp_path / "archive", enrolled(tmp_path / "other"), tmp_path / "have"
    with daemon(folder) as one, daemon(other) as two:
        publish(one, 3)
        succeeded(run("export", folder, archive))
        succeeded(run("import", other, archive))
        have.write_text(two.ask("status", "--json").out)
        publish(one, 2)
        told = succeeded(run("export", folder, "--since", have, tmp_path / "news"))
        assert told.startswith("exported 2 events of 1 streams")
        third = enrolled(tmp_path / "third")
        refusal = run("import", third, tmp_path / "news")
        failed(refusal, os.EX_DATAERR, "is taken up at offset 3", "from 0 on", "nothing was stored")
        assert "imported 2 of 2 events" in succeeded(run("import", other, tmp_path / "news"))
        assert payloads(two) == [0, 1, 2, 0, 1]


def test_a_part_of_a_stream_is_named_by_its_offsets(filled: Path, tmp_path: Path) -> None:
    told = succeeded(run("export", filled, "--from", "1", "--to", "1", tmp_path / "part"))
    assert told.startswith("exported 1 events of 1 streams")
    for wrong in (("--from", "3"), ("--to", "3"), ("--from", "-1"), ("--from", "2", "--to", "1")):
        refusal = run("export", filled, *wrong, tmp_path / "wrong")
        failed(refusal, os.EX_DATAERR, "are not held here, but 0 to 2")
    with daemon(filled) as one, daemon(enrolled(tmp_path / "other")) as two:
        publish(two, 1)
        succeeded(run("export", two.folder, tmp_path / "archive"))
        succeeded(run("import", one.folder, tmp_path / "archive"))
    refusal = run("export", filled, "--from", "1", tmp_path / "wrong")
    failed(refusal, os.EX_DATAERR, "name it with --stream")
    have = tmp_path / "have"
    refusal = run("export", filled, "--since", have, tmp_path / "wrong")
    failed(refusal, os.EX_DATAERR, "there is no file")
    for text in ("[1]", "7", '{"x": 1}', "{"):
        have.write_text(text)
        refusal = run("export", filled, "--since", have, tmp_path / "wrong")
        failed(refusal, os.EX_DATAERR, "holds no offset map")


def test_streams_and_nodes_are_exported_by_name(filled: Path, tmp_path: Path) -> None:
    other = enrolled(tmp_path / "other")
    succeeded(run("export", filled, tmp_path / "archive"))
    succeeded(run("import", other, tmp_path / "archive"))
    with daemon(other) as one:
        publish(one, 2)
        [stream] = json.loads(one.ask("status", "--json").out)["offsets"].keys() - {
            json.loads(one.ask("status", "--json").out)["stream"]
        }
        node = one.node
    assert "exported 3 events of 1" in succeeded(
        run("export", other, "--stream", stream, tmp_path / "1")
    )
    assert "exported 2 events of 1" in succeeded(
        run("export", other, "--node", node, tmp_path / "2")
    )
    both = ("--node", node, "--stream", stream)
    assert "exported 5 events of 2" in succeeded(run("export", other, *both, tmp_path / "3"))
    unknown = stream.replace(stream[-16:], "7" * 16)
    refusal = run("export", other, "--stream", unknown, tmp_path / "4")
    failed(refusal, os.EX_DATAERR, f"nothing of {unknown} is held here")
    failed(run("export", other, "--node", "x", tmp_path / "4"), os.EX_DATAERR, "not a node id")
    assert not (tmp_path / "4").exists()


def test_a_damaged_stream_is_not_exported(filled: Path, tmp_path: Path) -> None:
    execute(filled / "log.sqlite", DAMAGE)
    failed(run("export", filled, tmp_path / "archive"), os.EX_IOERR, "damaged on this disk")
    assert not (tmp_path / "archive").exists()


def test_a_bad_archive_is_refused_with_its_position(filled: Path, tmp_path: Path) -> None:
    archive, other = tmp_path / "archive", enrolled(tmp_path / "other")
    succeeded(run("export", filled, archive))
    os.truncate(archive, archive.stat().st_size - 1)
    failed(
        run("import", other, archive), os.EX_DATAERR, "at byte", "truncated", "nothing was stored"
    )
    assert succeeded(run("verify", other)).startswith("0 events")
    failed(run("import", other, tmp_path / "absent"), os.EX_NOINPUT, "there is no file")
