"""Keys on disk: private, whole, never overwritten; and what is wrong is said."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transport.errors import IdentityError
from transport.identity import enrol, make_swarm
from transport.keyfiles import (
    read_admin_key,
    read_identity,
    read_swarm_key,
    write_admin_key,
    write_identity,
    write_swarm_key,
)

RANDOMNESS = random.Random(6)
SWARM_KEY, ADMIN_KEY = make_swarm(RANDOMNESS)
MEMBER = enrol(SWARM_KEY, RANDOMNESS)

Kind = tuple[Any, Callable[[Path, Any], None], Callable[[Path], Any]]
KINDS: list[Kind] = [
    (SWARM_KEY, write_swarm_key, read_swarm_key),
    (ADMIN_KEY, write_admin_key, read_admin_key),
    (MEMBER, write_identity, read_identity),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["swarm key", "admin key", "identity"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder / "key.json"


def edit(path: Path, **changes: object) -> None:
    """Change fields of a key file; None takes one away."""
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))


@every_kind
def test_what_was_written_is_read_back(kind: Kind, path: Path) -> None:
    value, write, read = kind
    write(path, value)
    assert read(path) == value


@every_kind
def test_a_key_file_says_what_it_is_and_only_its_owner_may_read_it(kind: Kind, path: Path) -> None:
    value, write, _ = kind
    before = os.umask(0)
    try:
        write(path, value)
    finally:
        os.umask(before)
    assert "keep it secret" in json.loads(path.read_text())["what"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@every_kind
def test_an_existing_file_is_never_overwritten(kind: Kind, path: Path) -> None:
    value, write, _ = kind
    path.write_text("precious")
    with pytest.raises(IdentityError, match="exists, and a key is never overwritten"):
        write(path, value)
    assert path.read_text() == "precious"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_link_that_leads_nowhere_is_not_followed_when_writing(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(IdentityError, match="exists"):
        write_admin_key(path, ADMIN_KEY)
    assert not (path.parent / "elsewhere").exists()


def test_what_a_crash_left_behind_does_not_hinder(path: Path) -> None:
    path.with_name(".key.json.new").write_text("half")
    write_admin_key(path, ADMIN_KEY)
    assert read_admin_key(path) == ADMIN_KEY


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"cannot write .*nowhere/key: No such file"):
        write_admin_key(tmp_path / "nowhere" / "key", ADMIN_KEY)


@every_kind
def test_a_missing_file_is_named_with_what_to_do(kind: Kind, path: Path) -> None:
    with pytest.raises(IdentityError, match=rf"there is no {path}: `shoal swarm init` makes"):
        kind[2](path)


@every_kind
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_is_open_to_others_is_refused(kind: Kind, mode: int, path: Path) -> None:
    value, write, read = kind
    write(path, value)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=rf"mode {mode:04o}\): run chmod 600 {path}"):
        read(path)


def test_a_data_folder_that_is_open_to_others_is_refused(path: Path) -> None:
    write_identity(path, MEMBER)
    path.parent.chmod(0o750)
    with pytest.raises(IdentityError, match=rf"run chmod 700 {path.parent}"):
        read_identity(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    write_admin_key(path, ADMIN_KEY)
    os.chown(path, 12345, -1)
    with pytest.raises(IdentityError, match=r"belongs to another user \(12345\)"):
        read_admin_key(path)


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    write_admin_key(path, ADMIN_KEY)
    with pytest.raises(IdentityError, match=rf"{path}: it is not what is needed .*swarm key"):
        read_swarm_key(path)


@pytest.mark.parametrize("content", ["", "key", "[]", "{}", "[" * 9000, "\x00", "{" * 99999])
def test_a_damaged_file_is_named(content: str, path: Path) -> None:
    write_admin_key(path, ADMIN_KEY)
    path.write_text(content)
    with pytest.raises(IdentityError, match=str(path)):
        read_admin_key(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 2}, "its format is not 1"),
        ({"format": None}, "its format is not 1"),
        ({"seed": None}, "its 'seed' is missing"),
        ({"seed": 5}, "its 'seed' is missing or not base64"),
        ({"seed": "*"}, "its 'seed' is missing or not base64"),
        ({"seed": "ä"}, "its 'seed' is missing or not base64"),
        ({"seed": "YWJj"}, "seed has 32 bytes, not 3"),
        ({"epoch": "one"}, "its 'epoch' is missing or no count"),
        ({"epoch": -1}, "its 'epoch' is missing or no count"),
        ({"epoch": True}, "its 'epoch' is missing or no count"),
        ({"certificate": "YWJj"}, "the certificate does not hold"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes: dict[str, Any], why: str, path: Path) -> None:
    write_identity(path, MEMBER)
    edit(path, **changes)
    with pytest.raises(IdentityError, match=f"{path}: .*{why}"):
        read_identity(path)
