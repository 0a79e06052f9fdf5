"""The drill of the stolen tablet, on the command line: `shoal revoke`, `shoal rotate`, and what they refuse."""

import json
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.shoal.daemons import ADMIN_KEY, SWARM_KEY, Daemon, daemon, enrolled, shoal, watched
from transport.identity import make_swarm
from transport.keyfiles import read_swarm_key, write_admin_key, write_swarm_key


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, str]:
    """The files of the admin key and the swarm key."""
    write_admin_key(tmp_path / "admin", ADMIN_KEY)
    write_swarm_key(tmp_path / "swarm", SWARM_KEY)
    return str(tmp_path / "admin"), str(tmp_path / "swarm")


def holds(daemon: Daemon, events: int) -> None:
    """Wait until a daemon holds so many events."""
    _wait(daemon, lambda status: sum(n + 1 for n in status["offsets"].values()) == events)


def _wait(daemon: Daemon, condition: Callable[[dict[str, Any]], bool]) -> None:
    def wait() -> None:
        while not condition(json.loads(daemon.ask("status", "--json").out)):
            pass

    watched(daemon.process, wait)


def test_the_drill_of_the_stolen_tablet(tmp_path: Path, keys: tuple[str, str]) -> None:
    admin, swarm = keys
    with (
        daemon(enrolled(tmp_path / "gateway")) as gateway,
        daemon(enrolled(tmp_path / "robot"), "--peer", gateway.listening) as robot,
    ):
        with daemon(enrolled(tmp_path / "tablet"), "--peer", gateway.listening) as tablet:
            tablet.ask("publish", "--tag", "x", "1")
            tablet.ask("publish", "--tag", "x", "2")
            holds(gateway, 2)
            holds(robot, 2)
            [stream] = json.loads(gateway.ask("status", "--json").out)["offsets"]
            cut = f"{stream}=0"
            done = gateway.ask("revoke", tablet.node[:9], "--admin", admin, "--cut", cut)
            assert (done.status, done.err) == (0, "")
            assert f"revoked {tablet.node}" in done.out
            assert f"{stream} counts up to offset 0" in done.out
            assert f"{stream} loses 1 events" in done.out
            holds(robot, 1)
            status = robot.ask("status").out
            assert f"revoked  {tablet.node}" in status
            assert f"{stream}  counts up to 0" in status
            assert f"{tablet.node}  revoked" in gateway.ask("peers").out
            assert len(robot.ask("query", "FROM 'x'").out.splitlines()) == 1
        out = str(tmp_path / "swarm-2")
        done = gateway.ask("rotate", "--admin", admin, "--swarm-key", swarm, "--out", out)
        assert (done.status, done.err) == (0, "")
        assert "renewed    2 members" in done.out
        assert tablet.node not in done.out
        assert read_swarm_key(Path(out)).epoch == 1
        _wait(robot, lambda status: status["epoch"] == 1)
        again = gateway.ask("rotate", "--admin", admin, "--swarm-key", swarm, "--out", out)
        assert again.status == 0, "a rotation may be told again, with the same key"
        for one in (gateway, robot):
            assert len(one.ask("query", "FROM 'x'").out.splitlines()) == 1
    for folder in ("gateway", "robot"):
        verified = shoal("verify", "--data", str(tmp_path / folder))
        assert verified.status == 0, verified.out


def test_a_stream_that_leaps_is_shown_and_released(tmp_path: Path, keys: tuple[str, str]) -> None:
    admin, _ = keys
    broken = enrolled(tmp_path / "broken")
    with daemon(broken) as before:
        stream = before.ask("publish", "--tag", "x", "1").out.split("/", 1)[1].strip()
    with (
        daemon(enrolled(tmp_path / "gateway")) as gateway,
        daemon(enrolled(tmp_path / "robot"), "--peer", gateway.listening) as robot,
    ):
        robot.ask("publish", "--tag", "x", "2")
        holds(gateway, 1)
        _wait(gateway, lambda status: bool(status["sync"]["level"]))
        with closing(sqlite3.connect(broken / "log.sqlite")) as database, database:
            database.execute("UPDATE facts SET value = 9000000000 WHERE name = 'clock'")
        none = gateway.ask("release", stream, "--admin", admin)
        assert none.status == 65
        assert "no linked peer holds a stream" in none.err
        with daemon(broken, "--peer", gateway.listening) as leaping:
            leaping.ask("publish", "--tag", "x", "3")
            _wait(gateway, lambda status: status["quarantined"] == {stream: 9000000001})
            assert f"aside    {stream}  quarantined" in gateway.ask("status").out
            done = gateway.ask("release", stream[:9], "--admin", admin)
            assert (done.status, done.err) == (0, "")
            assert f"released {stream}: timestamps up to 9000000001" in done.out
            holds(robot, 3)
            _wait(gateway, lambda status: not status["quarantined"])


def test_what_cannot_be_revoked_or_rotated_is_refused(
    tmp_path: Path, keys: tuple[str, str]
) -> None:
    admin, swarm = keys
    _, other_admin = make_swarm(random.Random(3))
    write_admin_key(tmp_path / "other", other_admin)
    other = str(tmp_path / "other")
    with daemon(enrolled(tmp_path / "one")) as one:
        stranger = "." * 43
        for arguments, status, why in (
            (["revoke", one.node, "--admin", admin], os.EX_DATAERR, "revoke it from another one"),
            (["revoke", "nobody", "--admin", admin], os.EX_DATAERR, "not a node id"),
            (["revoke", stranger, "--admin", other], os.EX_DATAERR, "not signed by this swarm's"),
            (["revoke", stranger, "--admin", swarm], os.EX_NOPERM, "not what is needed here"),
            (
                ["revoke", stranger, "--admin", admin, "--cut", "x"],
                os.EX_DATAERR,
                "STREAM=OFFSET",
            ),
            (
                ["revoke", stranger, "--admin", admin, "--cut", f"{stranger}-7=3"],
                os.EX_DATAERR,
                "is held here up to -1",
            ),
            (
                ["rotate", "--admin", other, "--swarm-key", swarm, "--out", str(tmp_path / "n")],
                os.EX_NOPERM,
                "not all of one swarm",
            ),
            (
                ["rotate", "--admin", admin, "--swarm-key", swarm, "--out", swarm],
                os.EX_NOPERM,
                "not the key that follows",
            ),
        ):
            ended = one.ask(arguments[0], *arguments[1:])
            assert why in ended.err, arguments
            assert ended.status == status, (arguments, ended)
        assert json.loads(one.ask("status", "--json").out)["revoked"] == {}
        assert not (tmp_path / "n").exists()
