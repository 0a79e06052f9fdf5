"""Daemons that are stopped, killed and linked: processes of their own, and what is left of them."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest

from shoal.client import Client
from shoal.errors import DaemonUnreachable, RequestRefused
from shoal.folder import is_locked, locked_folder
from tests.shoal.daemons import (
    LIMIT_S,
    Daemon,
    command,
    daemon,
    enrolled,
    environment,
    first_line,
    shoal,
    started_process,
    watched,
)

KILLS = 10
PUBLISHES = 4

orderly = pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return enrolled(tmp_path / "data")


def asked(one: Daemon, *arguments: str) -> str:
    ended = one.ask(*arguments)
    assert ended.status == 0, ended
    return ended.out


def published(one: Daemon, payload: Any, tag: str = "a") -> str:
    return asked(one, "publish", "--tag", tag, json.dumps(payload)).strip()


def keys(one: Daemon) -> list[str]:
    return [json.loads(line)["key"] for line in asked(one, "query", "FROM allEvents").splitlines()]


def status(one: Daemon) -> Any:
    return json.loads(asked(one, "status", "--json"))


def until(condition: Callable[[], bool], *alive: Daemon) -> None:
    """Ask until it holds; each asking is a request. A daemon that died, or a hang, ends the waiting."""
    give_up = monotonic() + LIMIT_S
    while not condition():
        assert all(one.process.poll() is None for one in alive)
        assert monotonic() < give_up, "it never came to hold"


def assert_nothing_is_left(folder: Path) -> None:
    """An orderly end leaves identity, log, ballast and the free lock, and no token of the control API."""
    left = {"identity.json", "log.sqlite", "log.token", "lock", "ballast"}
    assert {entry.name for entry in folder.iterdir()} == left
    with locked_folder(folder):
        pass


@orderly
def test_a_signal_ends_a_daemon_in_order(folder: Path, signal_number: int) -> None:
    with daemon(folder) as one:
        assert (folder / "control.json").stat().st_mode & 0o777 == 0o600
        published(one, 1)
        assert one.stop(signal_number) == 0
        assert_nothing_is_left(folder)
        assert one.diary.read_text() == ""


@orderly
def test_a_signal_ends_a_daemon_that_somebody_listens_to(
    folder: Path, tmp_path: Path, signal_number: int
) -> None:
    with daemon(folder) as one, tailing(one, tmp_path / "tail.log") as line:
        key = published(one, 1)
        assert json.loads(line())["key"] == key
        assert one.stop(signal_number) == 0
        assert_nothing_is_left(folder)
        assert "Traceback" not in one.diary.read_text()


@contextmanager
def tailing(one: Daemon, diary: Path) -> Iterator[Callable[[], str]]:
    """`shoal tail --all` against a daemon; yields what reads its next line."""
    tail = command("tail", "--all", "--data", str(one.folder))
    with started_process(tail, diary) as process:
        yield lambda: first_line(process)


def test_a_second_signal_changes_nothing(folder: Path) -> None:
    with daemon(folder) as one:
        one.process.send_signal(signal.SIGINT)
        assert one.stop(signal.SIGTERM) == 0
        assert_nothing_is_left(folder)


def test_a_daemon_started_with_nohup_outlives_its_terminal(folder: Path) -> None:
    options = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-mdns")
    started = ["nohup", *command("run", "--data", str(folder), *options)]
    with started_process(started, folder.with_name("diary")) as process:
        assert "listens at" in first_line(process)
        process.send_signal(signal.SIGHUP)
        ended = shoal("publish", "--data", str(folder), "--tag", "a", "1")
        process.send_signal(signal.SIGTERM)
        assert (ended.status, watched(process, process.wait)) == (0, 0)


def test_a_daemon_whose_line_nobody_takes_runs_all_the_same(folder: Path) -> None:
    options = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-mdns")
    started = command("run", "--data", str(folder), *options)
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(
            started, stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        ) as process,
    ):
        assert process.stderr is not None
        said = watched(process, process.stderr.readline)
        assert "listens at" in said
        assert "it could not be printed" in said
        ended = shoal("publish", "--data", str(folder), "--tag", "a", "1")
        process.send_signal(signal.SIGTERM)
        assert (ended.status, watched(process, process.wait)) == (0, 0)


def test_a_daemon_is_stopped_while_peers_sync_and_these_live_on(tmp_path: Path) -> None:
    folders = [enrolled(tmp_path / name) for name in "ab"]
    with daemon(folders[0]) as a:
        stored = [published(a, "x" * 60_000) for _ in range(20)]
        with ThreadPoolExecutor(1) as pool, daemon(folders[1], "--peer", a.listening) as b:
            until(lambda: bool(status(b)["offsets"]), a, b)
            publishing = pool.submit(publish_until_it_ends, a)
            assert a.stop(signal.SIGTERM) == 0
            stored += publishing.result()
            assert_nothing_is_left(folders[0])
            assert "Traceback" not in a.diary.read_text()
            until(lambda: not status(b)["peers"][0]["connected"], b)
            assert published(b, "b lives on")
            assert b.stop(signal.SIGTERM) == 0
            assert "Traceback" not in b.diary.read_text()
    with daemon(folders[0]) as a:
        assert set(stored) <= set(keys(a))


def publish_until_it_ends(one: Daemon) -> list[str]:
    """The keys of all events that a daemon acknowledged before it ended."""
    found: list[str] = []

    async def publish() -> None:
        async with Client.of(one.folder) as client:
            while True:
                found.append(await client.publish(["a"], 1))

    with suppress(DaemonUnreachable, RequestRefused):
        asyncio.run(publish())
    return found


def test_killing_a_daemon_right_after_acknowledged_publishes_loses_nothing(folder: Path) -> None:
    acknowledged: list[str] = []
    for kill in range(KILLS):
        with daemon(folder) as one:
            assert keys(one) == acknowledged
            acknowledged += [published(one, [kill, number]) for number in range(PUBLISHES)]
            one.kill()
    with daemon(folder) as one:
        assert keys(one) == acknowledged
        assert len(set(acknowledged)) == KILLS * PUBLISHES
        assert status(one)["offsets"] == {status(one)["stream"]: KILLS * PUBLISHES - 1}


def test_killing_a_daemon_amid_publishes_loses_none_that_was_acknowledged(folder: Path) -> None:
    with ThreadPoolExecutor(2) as pool, daemon(folder) as one:
        running = [pool.submit(publish_until_it_ends, one) for _ in range(2)]
        until(lambda: status(one)["lamport"] >= 10, one)
        one.kill()
        acknowledged = [key for task in running for key in task.result()]
    with daemon(folder) as one:
        assert len(acknowledged) >= 8
        assert set(acknowledged) <= set(keys(one))


def test_two_daemons_come_to_equal_offset_maps(tmp_path: Path) -> None:
    folders = [enrolled(tmp_path / name) for name in "ab"]
    with daemon(folders[0]) as a, daemon(folders[1], "--peer", a.listening) as b:
        published(a, "from a")
        published(b, "from b")
        until(lambda: status(a)["offsets"] == status(b)["offsets"] != {}, a, b)
        until(lambda: len(status(a)["offsets"]) == 2, a, b)
        assert keys(a) == keys(b)
        assert status(a)["missing"] == status(b)["missing"] == {}
        assert_connected(a, b)
        assert_connected(b, a)


def assert_connected(one: Daemon, other: Daemon) -> None:
    """Check what one tells of its link to the other, for programs and for people."""
    [peer] = json.loads(asked(one, "peers", "--json"))
    assert (peer["node"], peer["connected"], peer["cut"]) == (other.node, True, False)
    assert f"peer     {other.node}  connected 127.0.0.1:" in asked(one, "peers")


def test_a_cut_peer_is_told_as_cut_until_it_heals(tmp_path: Path) -> None:
    folders = [enrolled(tmp_path / name) for name in "ab"]
    with daemon(folders[0]) as a, daemon(folders[1], "--peer", a.listening) as b:
        until(lambda: linked(a) and linked(b), a, b)
        asked(a, "peers", "cut", b.node[:6])
        assert f"peer     {b.node}  cut" in asked(a, "peers")
        until(lambda: not linked(b), a, b)
        key = published(a, "during the cut")
        assert key not in keys(b)
        asked(a, "peers", "heal")
        until(lambda: key in keys(b), a, b)
        asked(b, "peers", "cut", a.node)
        asked(b, "peers", "heal", a.node)
        until(lambda: linked(a) and linked(b), a, b)


def linked(one: Daemon) -> bool:
    return any(peer["connected"] for peer in status(one)["peers"])


def test_a_peer_that_cannot_be_reached_is_told(folder: Path) -> None:
    with daemon(folder, "--peer", "127.0.0.1:1") as one:
        until(lambda: status(one)["unreached"].get("127.0.0.1:1") not in {None, ""}, one)
        assert "peer     127.0.0.1:1  not reached: " in asked(one, "peers")
        assert one.stop(signal.SIGTERM) == 0


def test_settings_of_the_file_in_the_folder_count(tmp_path: Path) -> None:
    folders = [enrolled(tmp_path / name) for name in "ab"]
    with daemon(folders[0]) as a:
        (folders[1] / "shoal.toml").write_text(
            f'peers = ["{a.listening}"]\nfish = ["shoal.worker:workers"]\n'
        )
        with daemon(folders[1]) as b:
            until(lambda: linked(a) and linked(b), a, b)
            assert asked(b, "fish") == "workers\n"


def test_a_fish_of_the_users_own_is_found_in_the_working_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_fish.py").write_text(
        "from fish.definition import Fish\nfrom lamport.tags import Tag\n\n"
        "def count(state, event, metadata):\n    return state + event\n\n"
        "TOTAL = Fish('total', Tag('a'), 0, count)\n"
    )
    monkeypatch.chdir(tmp_path)
    with daemon(folder, "--fish", "my_fish:TOTAL") as one:
        published(one, 40)
        published(one, 2)
        assert json.loads(asked(one, "fish", "total"))["state"] == 42


def test_upcasters_of_the_users_own_bring_older_events_to_todays_version(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_versions.py").write_text(
        "from lamport.upcasters import Upcaster, Upcasters\n\n"
        "today = Upcasters(Upcaster('weight', 1, lambda old: {'grams': old['kg'] * 1000}))\n"
    )
    monkeypatch.chdir(tmp_path)
    with daemon(folder, "--upcasters", "my_versions:today") as one:
        asked(one, "publish", "--tag", "weight", '{"kg": 2}')
        told = json.loads(asked(one, "query", "FROM 'weight'"))
        assert told["payload"] == {"grams": 2000, "version": 2}


def test_a_fish_that_fails_stops_alone_and_the_daemons_log_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_fish.py").write_text(
        "from fish.definition import Fish\nfrom lamport.tags import Tag\n\n"
        "def fail(state, event, metadata):\n    return 1 / event\n\n"
        "BAD = Fish('bad', Tag('a'), 0, fail)\n"
    )
    monkeypatch.chdir(tmp_path)
    with daemon(folder, "--fish", "bad_fish:BAD", "--fish", "shoal.worker:workers") as one:
        key = published(one, 0)
        ended = one.ask("fish", "bad")
        assert (ended.status, ended.err.count("\n")) == (65, 1)
        assert "fish 'bad' stopped" in ended.err
        assert key in ended.err
        assert shoal("fish", "--data", str(folder), "workers").status == 0
        assert one.stop(signal.SIGTERM) == 0
        assert "ZeroDivisionError" in one.diary.read_text()


def test_the_lock_file_names_the_daemon(folder: Path) -> None:
    with daemon(folder) as one:
        assert (folder / "lock").read_text() == f"{one.process.pid}\n"
        one.kill()
        assert watched(one.process, one.process.wait) == -signal.SIGKILL
        with locked_folder(folder):
            pass


def test_a_reducer_that_never_returns_cannot_keep_a_daemon_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless.py").write_text(
        "from fish import Fish\n"
        "from lamport import Tag\n"
        "def on_event(state, event, metadata):\n"
        "    while True:\n"
        "        try:\n"
        "            while True:\n"
        "                pass\n"
        "        except BaseException:\n"  # nor does it let itself be interrupted
        "            pass\n"
        "ENDLESS = Fish('endless', Tag('a'), 0, on_event)\n"
    )
    monkeypatch.chdir(tmp_path)
    with daemon(enrolled(tmp_path / "data"), "--fish", "endless:ENDLESS") as one:
        assert one.ask("publish", "--tag", "a", "1").status in {0, os.EX_UNAVAILABLE}
        assert one.stop(signal.SIGTERM) == os.EX_SOFTWARE
        assert "cut short" in one.diary.read_text()


def test_asking_whether_a_daemon_runs_never_keeps_one_from_starting(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        asking = Event()
        asked_often = pool.submit(ask_until, folder, asking)
        stack.callback(asking.set)
        for _ in range(200):
            with locked_folder(folder):
                pass
        asking.set()
        assert asked_often.result() > 0


def ask_until(folder: Path, over: Event) -> int:
    count = 0
    while not over.is_set():
        is_locked(folder)
        count += 1
    return count
