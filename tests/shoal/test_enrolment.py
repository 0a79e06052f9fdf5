"""Enrolment by request: two texts are carried by hand, the swarm key stays where it is."""

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from shoal import open_node
from shoal.enrolment import accept_admission, request_enrolment
from shoal.errors import FolderError, FolderOpen
from shoal.folder import enrol_device, make_swarm, read_folder
from tests.shoal.daemons import (
    LIMIT_S,
    RANDOMNESS,
    SWARM_KEY,
    Ended,
    command,
    daemon,
    enrolled,
    environment,
    first_line,
    shoal,
    shoal_process,
    started_process,
)
from tests.shoal.swarm import LOOPBACK, PATIENCE_S, Device, WallClock, converged, linked
from transport.enrolment import MAX_ADMISSION, MAX_REQUEST, Request, admit
from transport.errors import IdentityError, InvalidText
from transport.identity import SwarmKey, rotate, swarm_hint
from transport.keyfiles import write_swarm_key
from transport.texts import packed

DOCS = Path(__file__).parent.parent.parent / "docs" / "membership.md"
OTHER_SWARM_KEY, _ = make_swarm()


def admission_for(request: Request, swarm_key: SwarmKey = SWARM_KEY) -> str:
    return str(admit(swarm_key, request, RANDOMNESS))


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def content(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def failed(ended: Ended, status: int, *parts: str) -> None:
    """Check that a command ended with this status and one line that says all of this."""
    assert (ended.status, ended.out) == (status, ""), ended
    assert ended.err.startswith("shoal: ")
    assert ended.err.count("\n") == 1
    for part in parts:
        assert part in ended.err


class Asked(NamedTuple):
    """A data folder that has asked, and its request."""

    folder: Path
    request: Request


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    folder = tmp_path / "tablet"
    return Asked(folder, request_enrolment(folder, "tablet"))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    write_swarm_key(tmp_path / "swarm.key", SWARM_KEY)
    return tmp_path / "swarm.key"


def test_a_device_is_enrolled_by_three_commands_and_joins_the_others(
    tmp_path: Path, key_file: Path
) -> None:
    tablet = str(tmp_path / "tablet")
    asking = shoal_process("request", "--data", tablet, "--name", "press 7")
    assert len(asking.out.strip()) <= MAX_REQUEST
    answered = shoal_process("enrol", "--swarm-key", str(key_file), given=asking.out)
    assert len(answered.out.strip()) <= MAX_ADMISSION
    done = shoal_process("accept", "--data", tablet, given=answered.out)
    assert (asking.status, answered.status, done.status, done.err) == (0, 0, 0, "")

    with (
        daemon(enrolled(tmp_path / "robot")) as robot,
        daemon(Path(tablet), "--peer", robot.listening) as one,
    ):
        hint = swarm_hint(SWARM_KEY.swarm)
        assert done.out == f"enrolled node {one.node} in {tablet}, in the swarm {hint}\n"
        assert f"node {one.node} asks" in asking.err
        assert f"node {one.node}, which calls itself 'press 7', is admitted" in answered.err
        assert f"swarm {hint}" in answered.err
        key = one.ask("publish", "--tag", "greeting", '"from the tablet"').out.strip()
        tail = command("tail", "--data", str(robot.folder), "--all", "FROM 'greeting'")
        with started_process(tail, tmp_path / "tail.log") as process:
            assert json.loads(first_line(process))["key"] == key


def test_a_device_enrolled_by_request_and_one_enrolled_at_once_talk_over_tls(
    asked: Asked, tmp_path: Path
) -> None:
    accept_admission(asked.folder, admission_for(asked.request))
    direct = enrolled(tmp_path / "robot")

    async def story() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            open_node(direct, listen=LOOPBACK, mdns=False) as robot,
            open_node(asked.folder, listen=LOOPBACK, peers=[robot.listening], mdns=False) as tablet,
        ):
            assert tablet.id == asked.request.node
            await linked(robot, tablet)
            for publishing, reading in ((robot, tablet), (tablet, robot)):
                event = await publishing.publish("greeting", str(publishing.id))
                await converged(Device(publishing, WallClock()), Device(reading, WallClock()))
                assert event.stream in reading.offsets

    asyncio.run(story())


def test_the_drill_in_the_docs_enrols_a_device(tmp_path: Path) -> None:
    drill = re.search(r"<!-- run -->\n```sh\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert drill is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [shutil.which("bash") or "bash", "-ec", drill[1]],
        cwd=tmp_path,
        env=environment() | {"PATH": path},
        check=True,
        timeout=LIMIT_S,
    )
    assert (
        read_folder(tmp_path / "tablet").node
        == Request.parse((tmp_path / "request.txt").read_text()).node
    )


def test_what_the_device_keeps_holds_nothing_of_the_swarm_key(asked: Asked) -> None:
    accept_admission(asked.folder, admission_for(asked.request))
    key = SWARM_KEY.key
    kept = content(asked.folder)
    assert set(kept) == {"identity.json"}
    for form in (key, key.hex().encode(), base64.b64encode(key), base64.b85encode(key)):
        assert form not in kept["identity.json"]


def test_a_request_is_the_same_however_often_it_is_shown(asked: Asked) -> None:
    before = content(asked.folder)
    assert request_enrolment(asked.folder, "tablet") == asked.request
    assert request_enrolment(asked.folder).node == asked.request.node
    assert content(asked.folder) == before


def test_the_key_of_a_request_is_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        request_enrolment(tmp_path / "data")
    finally:
        os.umask(before)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    path = tmp_path / "data" / "request.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path / "data") == {"request.json"}
    path.chmod(0o640)
    with pytest.raises(IdentityError, match=f"run chmod 600 {path}"):
        request_enrolment(tmp_path / "data")


def test_a_key_in_a_folder_that_others_may_enter_is_not_used(asked: Asked) -> None:
    asked.folder.chmod(0o750)
    for attempt in (("request",), ("accept", admission_for(asked.request))):
        ended = shoal(*attempt, "--data", str(asked.folder))
        failed(ended, os.EX_NOPERM, f"run chmod 700 {asked.folder}")


def test_a_request_that_was_left_open_to_others_is_as_bad_as_an_open_identity(
    tmp_path: Path,
) -> None:
    path = enrolled(tmp_path / "data") / "request.json"
    path.touch(0o600)
    read_folder(path.parent)
    path.chmod(0o640)
    with pytest.raises(FolderOpen, match=f"run chmod 600 {path}"):
        read_folder(path.parent)


def test_a_device_that_waits_does_not_start_and_says_what_for(asked: Asked) -> None:
    ended = shoal("run", "--data", str(asked.folder))
    failed(ended, os.EX_NOINPUT, "waits for its admission", f"`shoal accept --data {asked.folder}`")
    assert names(asked.folder) == {"request.json"}


def test_a_folder_that_asked_is_not_enrolled_in_another_way(asked: Asked) -> None:
    with pytest.raises(FolderError, match="a request was made in"):
        enrol_device(asked.folder, SWARM_KEY)
    assert names(asked.folder) == {"request.json"}


def test_a_folder_that_is_enrolled_or_holds_something_else_does_not_ask(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    before = content(folder)
    failed(shoal("request", "--data", str(folder)), os.EX_NOINPUT, "is enrolled in", "already")
    assert content(folder) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "sea.jpg").write_text("sea")
    failed(shoal("request", "--data", str(tmp_path / "photos")), os.EX_NOINPUT, "is not empty")
    assert names(tmp_path / "photos") == {"sea.jpg"}


def test_a_name_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    ended = shoal("request", "--data", str(tmp_path / "data"), "--name", "a" * 41)
    failed(ended, os.EX_DATAERR, "at most 40 bytes")
    assert not (tmp_path / "data").exists()


def test_an_admission_where_nobody_asked_is_refused(asked: Asked, tmp_path: Path) -> None:
    text = admission_for(asked.request)
    for folder in (tmp_path / "absent", tmp_path):
        ended = shoal("accept", "--data", str(folder), text)
        failed(ended, os.EX_NOINPUT, "no device has asked", f"`shoal request --data {folder}`")
    assert not (tmp_path / "absent").exists()


def test_an_admission_that_does_not_fit_changes_nothing_and_the_right_one_still_does(
    asked: Asked, tmp_path: Path
) -> None:
    text = admission_for(asked.request)
    elsewhere = request_enrolment(tmp_path / "elsewhere")
    before = content(asked.folder)
    for wrong, why in (
        (admission_for(elsewhere), f"for the device {elsewhere.node.short}"),
        (str(asked.request), "this is no admission but a text that calls itself 'request'"),
        (packed("admission", 2, bytes(427)), "has version 2"),
        (text[:-1], "truncated"),
        (text[:300] + ("A" if text[300] != "A" else "B") + text[301:], "altered"),
        ("", "is empty"),
    ):
        failed(shoal("accept", "--data", str(asked.folder), wrong), os.EX_DATAERR, why)
        assert content(asked.folder) == before
    accept_admission(asked.folder, text)
    assert read_folder(asked.folder).node == asked.request.node


def test_a_device_of_one_swarm_is_not_admitted_to_another(asked: Asked) -> None:
    accept_admission(asked.folder, admission_for(asked.request))
    before = content(asked.folder)
    other = admission_for(asked.request, OTHER_SWARM_KEY)
    why = f"to the swarm {swarm_hint(OTHER_SWARM_KEY.swarm)}"
    belongs = f"belongs to the swarm {swarm_hint(SWARM_KEY.swarm)}"
    failed(shoal("accept", "--data", str(asked.folder), other), os.EX_DATAERR, why, belongs)
    later = admission_for(asked.request, rotate(SWARM_KEY, RANDOMNESS))
    with pytest.raises(InvalidText, match=r"by another authority \(epoch 1\) than .* \(epoch 0\)"):
        accept_admission(asked.folder, later)
    assert content(asked.folder) == before


def test_an_acceptance_that_a_power_cut_interrupted_is_finished_by_another(asked: Asked) -> None:
    text = admission_for(asked.request)
    left_behind = asked.folder / ".identity.json.new"
    left_behind.write_text("half an iden")
    accept_admission(asked.folder, text)
    assert names(asked.folder) == {"identity.json"}


def test_between_identity_and_forgotten_request_the_device_is_enrolled(asked: Asked) -> None:
    text = admission_for(asked.request)
    request_key = (asked.folder / "request.json").read_bytes()
    accepted = accept_admission(asked.folder, text)
    (asked.folder / "request.json").write_bytes(request_key)
    (asked.folder / "request.json").chmod(0o600)
    assert read_folder(asked.folder) == accepted
    with pytest.raises(FolderError, match=r"is enrolled in .* already"):
        request_enrolment(asked.folder)
    assert accept_admission(asked.folder, text) == accepted
    assert names(asked.folder) == {"identity.json"}
    assert accept_admission(asked.folder, text) == accepted


def test_a_request_that_a_power_cut_interrupted_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / ".request.json.new").write_text("half a k")
    request_enrolment(folder)
    assert names(folder) == {"request.json"}


def test_an_identity_that_cannot_be_written_leaves_the_request_usable(asked: Asked) -> None:
    text = admission_for(asked.request)
    before = content(asked.folder)
    obstacle = asked.folder / ".identity.json.new"
    obstacle.mkdir()
    failed(shoal("accept", "--data", str(asked.folder), text), os.EX_NOPERM, "cannot write")
    obstacle.rmdir()
    assert content(asked.folder) == before
    accept_admission(asked.folder, text)


def test_the_admin_is_told_what_is_wrong_with_a_request(key_file: Path, asked: Asked) -> None:
    text = str(asked.request)
    for wrong, why in (
        (text[:-2], "the request is truncated"),
        (admission_for(asked.request), "this is no request"),
        (packed("request", 1, bytes(32)), "not made by Shoal"),
        ("a" * 5000, "longer than 4096 characters"),
    ):
        failed(shoal("enrol", "--swarm-key", str(key_file), wrong), os.EX_DATAERR, why)
    absent = shoal("enrol", "--swarm-key", f"{key_file}.absent", text)
    failed(absent, os.EX_NOPERM, f"there is no {key_file}.absent")


def test_texts_are_read_from_standard_input_broken_into_lines(key_file: Path, asked: Asked) -> None:
    text = str(asked.request)
    given = f"  {text[:50]}\r\n{text[50:]}\n\n"
    ended = shoal_process("enrol", "--swarm-key", str(key_file), "-", given=given)
    assert ended.status == 0
    assert accept_admission(asked.folder, ended.out).node == asked.request.node
    for odd in (b"", b"\xff" * 9000):
        ended = shoal_process("enrol", "--swarm-key", str(key_file), given=odd)
        failed(ended, os.EX_DATAERR, "this is no request")


def test_an_endless_text_is_not_read_to_its_end(key_file: Path) -> None:
    with Path("/dev/zero").open("rb") as zeros:
        ended = subprocess.run(
            command("enrol", "--swarm-key", str(key_file)),
            stdin=zeros,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
            env=environment(),
        )
    assert ended.returncode == os.EX_DATAERR
    assert b"longer than 4096 characters" in ended.stderr
