"""The command line against real daemons: what it prints, and what bad input is told."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from shoal.cli import main
from shoal.version import VERSION
from tests.shoal.daemons import (
    Daemon,
    Ended,
    command,
    daemon,
    enrolled,
    first_line,
    shoal,
    shoal_process,
    started_process,
    watched,
)
from transport.keyfiles import read_admin_key, read_swarm_key

MAX_PAYLOAD_BYTES = 64 * 1024
TEXT_HEADER_BYTES = 3
"""What msgpack puts before a text of more than 255 bytes."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all questions; each test keeps to tags of its own."""
    folder = enrolled(tmp_path_factory.mktemp("running") / "data")
    with daemon(folder, "--fish", "shoal.worker:ALL") as one:
        yield one


def succeeded(ended: Ended) -> str:
    """Check that a command did what it was asked; returns what it printed."""
    assert (ended.status, ended.err) == (0, "")
    return ended.out


def failed(ended: Ended, status: int, *parts: str) -> None:
    """Check that a command ended with this status and one line that says all of this."""
    assert ended.status == status, ended
    assert ended.out == ""
    assert ended.err.startswith("shoal: ")
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1
    for part in parts:
        assert part in ended.err


def offsets(running: Daemon) -> Any:
    return json.loads(succeeded(running.ask("status", "--json")))["offsets"]


def publish(running: Daemon, tag: str, payload: str) -> str:
    return succeeded(running.ask("publish", "--tag", tag, payload)).strip()


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_version_is_printed() -> None:
    assert shoal_process("--version") == Ended(0, f"shoal {VERSION}\n", "")


def test_publish_prints_the_key_of_an_event_that_is_on_the_disk(running: Daemon) -> None:
    key = publish(running, "durable", '{"n": 1}')
    with sqlite3.connect(f"{(running.folder / 'log.sqlite').as_uri()}?mode=ro", uri=True) as reader:
        rows = reader.execute("SELECT count(*) FROM events WHERE key >> 20 = ?", [int(key[:16])])
        assert rows.fetchone() == (1,)
    reader.close()
    [event] = lines(succeeded(running.ask("query", "FROM 'durable'")))
    assert (event["key"], event["payload"], event["tags"]) == (key, {"n": 1}, ["durable"])


def test_an_event_bears_all_tags_given(running: Daemon) -> None:
    succeeded(running.ask("publish", "--tag", "several:b", "--tag", "several:a", "1"))
    [event] = lines(succeeded(running.ask("query", "FROM 'several:a' & 'several:b'")))
    assert event["tags"] == ["several:a", "several:b"]


@pytest.mark.parametrize("payload", ["null", '"häm 🐟"', "-1.5", "[]", '{"a": {"b": [true]}}'])
def test_any_json_value_is_a_payload(running: Daemon, payload: str) -> None:
    key = publish(running, "any", payload)
    events = lines(succeeded(running.ask("query", "FROM 'any'")))
    assert [json.loads(payload)] == [one["payload"] for one in events if one["key"] == key]


def test_publish_reads_the_payload_from_standard_input(running: Daemon) -> None:
    arguments = ("publish", "--data", str(running.folder), "--tag", "stdin", "-")
    key = succeeded(shoal_process(*arguments, given='{"from": "häm"}\n')).strip()
    [event] = lines(succeeded(running.ask("query", "FROM 'stdin'")))
    assert (event["key"], event["payload"]) == (key, {"from": "häm"})


def test_query_prints_matching_events_in_the_order_asked_for(running: Daemon) -> None:
    keys = [publish(running, "ordered", str(number)) for number in range(3)]
    publish(running, "not ordered", "3")
    for order, expected in (("asc", keys), ("desc", keys[::-1]), ("stream-asc", keys)):
        events = lines(succeeded(running.ask("query", "FROM 'ordered'", "--order", order)))
        assert [event["key"] for event in events] == expected
    assert succeeded(running.ask("query", "FROM 'nothing bears this'")) == ""


def test_a_reader_that_has_enough_is_no_error(running: Daemon) -> None:
    for _ in range(3):
        publish(running, "plenty", json.dumps("x" * 60_000))
    query = command("query", "--data", str(running.folder), "FROM 'plenty'")
    with started_process(query, running.diary.with_name("query.log")) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == '{"type": "'
        process.stdout.close()
        assert watched(process, process.wait) == 0
    assert running.diary.with_name("query.log").read_text() == ""


def test_tail_prints_the_events_that_come_and_none_that_were_there(
    running: Daemon, tmp_path: Path
) -> None:
    publish(running, "tail", '"old"')
    tail = command("tail", "--data", str(running.folder), "FROM 'tail'")
    with started_process(tail, tmp_path / "tail.log") as process:
        first = heard(running, process, "tail")
        publish(running, "not tail", '"unseen"')
        last = publish(running, "tail", '"last"')
        found = [first]
        while found[-1]["key"] != last:
            found.append(json.loads(first_line(process)))
    assert {one["payload"] for one in found} == {"tick", "last"}
    held = lines(succeeded(running.ask("query", "FROM 'tail'")))
    assert found == held[-len(found) :]


def heard(running: Daemon, process: subprocess.Popen[str], tag: str) -> Any:
    """Publish until a process that follows has printed a line, and return that."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        line = pool.submit(first_line, process)
        while not line.done():
            publish(running, tag, '"tick"')
            wait([line], timeout=0.1)
        return json.loads(line.result())


def test_tail_begins_with_what_is_known_where_all_is_asked_for(
    running: Daemon, tmp_path: Path
) -> None:
    old = publish(running, "tail all", "1")
    tail = command("tail", "--data", str(running.folder), "FROM 'tail all'", "--all")
    with started_process(tail, tmp_path / "tail.log") as process:
        assert json.loads(first_line(process))["key"] == old
        new = publish(running, "tail all", "2")
        assert json.loads(first_line(process))["key"] == new


def test_an_interrupted_tail_ends_quietly(running: Daemon, tmp_path: Path) -> None:
    publish(running, "interrupted", "1")
    tail = command("tail", "--data", str(running.folder), "FROM 'interrupted'", "--all")
    with started_process(tail, tmp_path / "tail.log") as process:
        assert first_line(process)
        process.send_signal(signal.SIGINT)
        assert watched(process, process.wait) == 130
    assert (tmp_path / "tail.log").read_text() == ""
    assert publish(running, "interrupted", "2")


def test_fish_prints_the_state_and_what_it_covers(running: Daemon) -> None:
    tags = ("--tag", "worker", "--tag", "worker:w1", "--tag", "workStatusChanged")
    payload = '{"type": "started", "worker": "w1", "activity": "FOO"}'
    key = succeeded(running.ask("publish", *tags, payload)).strip()
    shown = json.loads(succeeded(running.ask("fish", "workers")))
    assert (shown["fish"], shown["state"], shown["key"]) == ("workers", {"w1": [key]}, key)
    assert shown["offsets"] == offsets(running)
    assert key in succeeded(running.ask("explain", "workers"))
    explained = json.loads(succeeded(running.ask("explain", "workers", "--at", key, "--json")))
    assert explained["key"] == key
    before = running.ask("explain", "workers", "--before", key)
    failed(before, os.EX_DATAERR, "no time travel of 'workers'", key)
    naive = json.loads(succeeded(running.ask("fish", "naive-workers")))
    assert naive["state"] == {"w1": "working"}


def test_fish_without_a_name_lists_them(running: Daemon) -> None:
    assert succeeded(running.ask("fish")) == "naive-workers\nworkers\n"


def test_status_tells_node_offsets_peers_and_what_is_missing(running: Daemon) -> None:
    publish(running, "counted", "1")
    status = json.loads(succeeded(running.ask("status", "--json")))
    assert status["node"] == running.node
    assert status["listening"] == running.listening
    assert list(status["offsets"]) == [status["stream"]]
    assert (status["missing"], status["peers"], status["unreached"]) == ({}, [], {})
    assert status["fish"] == ["naive-workers", "workers"]
    text = succeeded(running.ask("status"))
    for part in (running.node, running.listening, status["stream"], "peer     none met yet"):
        assert part in text
    assert f"holds    {status['lamport']} events of 1 streams" in text
    assert "missing  0 events known to exist elsewhere" in text


def test_peers_are_none_before_any_is_met(running: Daemon) -> None:
    assert succeeded(running.ask("peers")) == "peer     none met yet\n"
    assert json.loads(succeeded(running.ask("peers", "--json"))) == []


def test_a_cut_needs_a_node(running: Daemon) -> None:
    failed(running.ask("peers", "cut"), os.EX_DATAERR, "`shoal peers cut` needs the node to cut")
    failed(running.ask("peers", "cut", "robot"), os.EX_DATAERR, "not a node id", "'robot'")


def nested(depth: int) -> str:
    return "[" * depth + "0" + "]" * depth


def text_of(size: int) -> str:
    return json.dumps("x" * (size - TEXT_HEADER_BYTES))


BAD_PAYLOADS = {
    "one byte over the limit": (text_of(MAX_PAYLOAD_BYTES + 1), "at most 65536 bytes", "65537"),
    "nesting 33": (nested(33), "nested at most 32 deep"),
    "nesting without end": ("[" * 60_000, "no JSON"),
    "not a number": ("NaN", "NaN is not a JSON number"),
    "infinity": ('{"a": [-Infinity]}', "-Infinity is not a JSON number"),
    "beyond all floats": ("1e999", "1e999 is beyond the largest number"),
    "above 64 bits": (str(2**63), "at most 64 bits signed"),
    "below 64 bits": (str(-(2**63) - 1), "at most 64 bits signed"),
    "thousands of digits": ("7" * 5_000, "no JSON"),
    "a bare word": ("hello", "a text needs quotes: '\"like this\"'"),
    "nothing": ("", "no JSON"),
    "half a character": (r'"\ud800"', "valid Unicode"),
}


@pytest.mark.parametrize("name", BAD_PAYLOADS)
def test_a_bad_payload_is_refused_and_nothing_stored(running: Daemon, name: str) -> None:
    payload, *reasons = BAD_PAYLOADS[name]
    before = offsets(running)
    failed(running.ask("publish", "--tag", "bad", payload), os.EX_DATAERR, *reasons)
    assert offsets(running) == before


@pytest.mark.parametrize("payload", [text_of(MAX_PAYLOAD_BYTES), nested(32), str(2**63 - 1)])
def test_a_payload_at_its_limit_is_stored(running: Daemon, payload: str) -> None:
    assert publish(running, "limit", payload)


BAD_TAGS: dict[str, tuple[list[str], str]] = {
    "empty": ([""], "a tag may not be empty"),
    "129 bytes": (["ä" * 64 + "x"], "has at most 128 bytes of UTF-8"),
    "33 of them": ([str(number) for number in range(33)], "at most 32 tags, not 33"),
    "reserved": (["shoal:x"], "begin with 'shoal:' are the engine's own"),
    "one bad among good": (["fine", ""], "a tag may not be empty"),
    "no text": (["\udcff"], "valid Unicode"),
}


@pytest.mark.parametrize("name", BAD_TAGS)
def test_a_bad_tag_is_refused_and_nothing_stored(running: Daemon, name: str) -> None:
    tags, reason = BAD_TAGS[name]
    before = offsets(running)
    options = [part for tag in tags for part in ("--tag", tag)]
    failed(running.ask("publish", *options, "1"), os.EX_DATAERR, reason)
    assert offsets(running) == before


def test_tags_at_their_limits_are_borne(running: Daemon) -> None:
    tags = ["ä" * 64, *(f"limit{number}" for number in range(31))]
    succeeded(running.ask("publish", *(part for tag in tags for part in ("--tag", tag)), "1"))
    [event] = lines(succeeded(running.ask("query", f"FROM '{tags[0]}'")))
    assert event["tags"] == sorted(tags)


def test_bad_input_ends_a_real_process_with_a_status_and_a_line(running: Daemon) -> None:
    before = offsets(running)
    data = ("--data", str(running.folder))
    for arguments in (("publish", *data, "--tag", "", "1"), ("query", *data, "FROM tag")):
        failed(shoal_process(*arguments), os.EX_DATAERR)
    nobody = shoal_process("publish", *data, "--tag", "a", "-", given=b'"\xff"')
    failed(nobody, os.EX_DATAERR, "no JSON", "utf-8")
    assert offsets(running) == before


@pytest.mark.parametrize("asking", ["query", "tail"])
def test_a_malformed_query_is_shown_its_place(running: Daemon, asking: str) -> None:
    ended = running.ask(asking, "FROM 'a' & b")
    failed(ended, os.EX_DATAERR, "query, character 12", "expected a quoted tag", "found 'b'")


def test_an_unknown_fish_is_told_those_there_are(running: Daemon) -> None:
    ended = running.ask("fish", "whale")
    failed(ended, os.EX_DATAERR, "no fish 'whale'", "naive-workers, workers")


def test_a_second_daemon_on_the_same_folder_is_refused(running: Daemon) -> None:
    publish(running, "before", "1")
    before = offsets(running)
    ended = run_refused(running.folder)
    pid = f"another process (pid {running.process.pid})"
    failed(ended, os.EX_CANTCREAT, pid, "stop it, or use another data folder")
    assert offsets(running) == before
    assert publish(running, "after", "2")


def run_refused(folder: Path, *options: str, **variables: str) -> Ended:
    """A daemon that is expected not to start. Without its ready line it has printed nothing."""
    ports = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0")
    return shoal_process("run", "--data", str(folder), "--no-mdns", *ports, *options, **variables)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return enrolled(tmp_path / "data")


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_port_in_use_for_peers_is_an_error(folder: Path, taken: str) -> None:
    ended = run_refused(folder, "--listen", taken)
    failed(ended, os.EX_UNAVAILABLE, f"cannot listen on {taken}", "in use", "--listen HOST:PORT")
    assert "control.json" not in names(folder)


def test_a_port_in_use_for_the_api_is_an_error(folder: Path, taken: str) -> None:
    ended = run_refused(folder, "--api", taken)
    failed(ended, os.EX_UNAVAILABLE, f"cannot listen at {taken}", "in use", "--api HOST:PORT")
    assert "control.json" not in names(folder)


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_of_another_version_is_refused_untouched(folder: Path, journal: str) -> None:
    with daemon(folder) as one:
        publish(one, "a", "1")
        assert one.stop(signal.SIGTERM) == 0
    database = folder / "log.sqlite"
    writer = sqlite3.connect(database)
    writer.execute("PRAGMA user_version = 99")
    writer.execute(f"PRAGMA journal_mode = {journal}")
    writer.close()
    before = database.read_bytes()
    failed(run_refused(folder), os.EX_CONFIG, "schema version 99", "upgrade Shoal, or use another")
    assert database.read_bytes() == before
    assert not {"control.json", "log.sqlite-wal", "log.sqlite-shm"} & names(folder)


def test_a_file_that_is_no_database_is_refused_untouched(folder: Path) -> None:
    content = b"no database at all, but long" * 99
    (folder / "log.sqlite").write_bytes(content)
    (folder / "log.sqlite").chmod(0o600)
    failed(run_refused(folder), os.EX_CONFIG, "damaged or no database")
    assert (folder / "log.sqlite").read_bytes() == content


def test_a_database_of_another_node_is_refused(folder: Path, tmp_path: Path) -> None:
    with daemon(folder) as one:
        assert one.stop(signal.SIGTERM) == 0
    other = enrolled(tmp_path / "other")
    (folder / "log.sqlite").rename(other / "log.sqlite")
    failed(run_refused(other), os.EX_CONFIG, "another node or swarm")


def test_an_unknown_fish_keeps_the_daemon_from_starting(folder: Path) -> None:
    for reference, reason in (
        ("nowhere:FISH", "No module named 'nowhere'"),
        ("shoal.worker:WHALE", "has no attribute 'WHALE'"),
        ("shoal.worker", "fish are named MODULE:NAME"),
    ):
        failed(run_refused(folder, "--fish", reference), os.EX_CONFIG, reference, reason)
    assert names(folder) == {"identity.json"}


def test_wrong_settings_keep_the_daemon_from_starting(folder: Path) -> None:
    failed(run_refused(folder, "--peer", "robot"), os.EX_CONFIG, "--peer: not an address")
    failed(run_refused(folder, "--api", "0.0.0.0:0"), os.EX_CONFIG, "--api: ", "loopback only")
    failed(run_refused(folder, SHOAL_PEERS="robot"), os.EX_CONFIG, "SHOAL_PEERS: not an address")
    (folder / "shoal.toml").write_text("color = 1")
    failed(run_refused(folder), os.EX_CONFIG, "shoal.toml: unknown settings ['color']", "'listen'")
    assert names(folder) == {"identity.json", "shoal.toml"}


def test_a_folder_that_nothing_is_enrolled_in_cannot_run(tmp_path: Path) -> None:
    hint = f"run `shoal init --data {tmp_path} --swarm-key KEYFILE`"
    failed(run_refused(tmp_path), os.EX_NOINPUT, "no device is enrolled", hint)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(("name", "mode"), [("identity.json", "600"), (".", "700")])
def test_a_loosely_protected_folder_cannot_run(folder: Path, name: str, mode: str) -> None:
    path = folder / name
    path.chmod(0o755)
    failed(run_refused(folder), os.EX_NOPERM, "open to others", f"run chmod {mode} {path}")
    assert names(folder) == {"identity.json"}


def test_without_a_daemon_the_way_to_one_is_told(folder: Path) -> None:
    for asking in (("publish", "--tag", "a", "1"), ("query", "FROM 'a'"), ("tail",), ("status",)):
        ended = shoal(asking[0], "--data", str(folder), *asking[1:])
        hint = f"start it with `shoal run --data {folder}`"
        failed(ended, os.EX_UNAVAILABLE, "no daemon runs", hint)
    for asking in (("fish",), ("peers",), ("peers", "heal")):
        failed(shoal(*asking, "--data", str(folder)), os.EX_UNAVAILABLE, "no daemon runs")


def test_what_a_killed_daemon_left_behind_is_not_taken_for_one(folder: Path) -> None:
    with daemon(folder) as one:
        one.kill()
        assert "control.json" in names(folder)
        failed(one.ask("status"), os.EX_UNAVAILABLE, "no daemon runs", "`shoal run --data")


def test_a_tail_whose_daemon_stops_says_so(folder: Path, tmp_path: Path) -> None:
    with daemon(folder) as one:
        key = publish(one, "a", "1")
        tail = command("tail", "--data", str(folder), "--all")
        with started_process(tail, tmp_path / "tail.log") as process:
            assert json.loads(first_line(process))["key"] == key
            assert one.stop(signal.SIGTERM) == 0
            assert watched(process, process.wait) == os.EX_UNAVAILABLE
    assert "it was stopped or killed" in (tmp_path / "tail.log").read_text()


def test_the_data_folder_may_come_from_the_environment(
    running: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_DATA", str(running.folder))
    assert json.loads(succeeded(shoal("status", "--json")))["node"] == running.node


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("swim",),
        ("swarm",),
        ("swarm", "init"),
        ("init", "--data", "d"),
        ("run",),
        ("status",),
        ("publish", "--data", "d", "1"),
        ("peers", "--data", "d", "sever"),
    ],
)
def test_a_wrong_command_line_is_told_how_it_goes(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOAL_DATA", raising=False)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: shoal" in capsys.readouterr().err


def test_an_empty_text_is_no_data_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(("status", "--data", ""))
    assert "an empty text names no folder" in capsys.readouterr().err


def test_swarm_init_makes_two_keys_that_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    out = succeeded(shoal("swarm", "init", "--out", str(path)))
    assert str(path) in out
    assert f"{path}.admin" in out
    assert read_swarm_key(path).admin == read_admin_key(tmp_path / "swarm.key.admin").public
    assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["swarm.key", "swarm.key.admin"])
def test_swarm_init_overwrites_nothing_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    ended = shoal("swarm", "init", "--out", str(tmp_path / "swarm.key"))
    failed(ended, os.EX_NOPERM, f"{tmp_path / name} exists", "never overwritten")
    assert names(tmp_path) == {name}
    assert (tmp_path / name).read_text() == "precious"


def test_swarm_init_into_nowhere_is_refused(tmp_path: Path) -> None:
    ended = shoal("swarm", "init", "--out", str(tmp_path / "absent" / "swarm.key"))
    failed(ended, os.EX_NOPERM, "cannot write", "No such file or directory")


def test_init_enrols_the_node_that_it_names(tmp_path: Path) -> None:
    key = tmp_path / "swarm.key"
    succeeded(shoal("swarm", "init", "--out", str(key)))
    data = tmp_path / "data"
    out = succeeded(shoal("init", "--data", str(data), "--swarm-key", str(key)))
    with daemon(data) as one:
        assert out == f"enrolled node {one.node} in {data}\n"
    again = shoal("init", "--data", str(data), "--swarm-key", str(key))
    failed(again, os.EX_NOINPUT, "enrolled", "already: use another folder")


def test_init_needs_a_well_kept_swarm_key(tmp_path: Path) -> None:
    key, data = tmp_path / "swarm.key", tmp_path / "data"
    arguments = ("init", "--data", str(data), "--swarm-key", str(key))
    failed(shoal(*arguments), os.EX_NOPERM, f"there is no {key}")
    succeeded(shoal("swarm", "init", "--out", str(key)))
    key.chmod(0o644)
    failed(shoal(*arguments), os.EX_NOPERM, "open to others", f"run chmod 600 {key}")
    admin = (*arguments[:-1], f"{key}.admin")
    failed(shoal(*admin), os.EX_NOPERM, f"{key}.admin: it is not what is needed", "swarm key")
    key.chmod(0o600)
    key.write_text("a shopping list")
    failed(shoal(*arguments), os.EX_NOPERM, f"{key}: it is damaged")
    failed(shoal(*arguments[:-1], str(tmp_path)), os.EX_NOPERM, str(tmp_path))
    assert not data.exists()
