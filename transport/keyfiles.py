"""Keys on disk: small text files that a person recognises and nobody else can read.

Each file is a JSON object: `what` says what it is, `format` its version, the rest are values (bytes
in base64). Four kinds: the swarm key and the admin key on the admin's machine; in a device's data
folder the node key while its request waits for the admission, and the identity from then on.

A value goes out through one path: it is written to a new file that only its owner may read, forced
to the disk, and then linked to its name, which fails where that name is taken: no key is ever
overwritten. It comes back through one path too: ownership and modes first, then the content, and
whatever is wrong is an `IdentityError` that says what to do.
"""

import base64
import binascii
import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transport.errors import IdentityError
from transport.identity import AdminKey, Identity, NodeKey, SwarmKey

FORMAT = 1
"""Version of the files' layout."""

MAX_KEY_FILE_BYTES = 16_384
"""Longest file that is read; ours have about 2 KiB."""

_PRIVATE_FILE = 0o600
_OTHERS = 0o077
_ROOT = 0


class _Kind(NamedTuple):
    """A kind of key file: its `what`, which of its values are bytes and which are counts."""

    what: str
    binary: tuple[str, ...]
    counts: tuple[str, ...] = ()


_SWARM = _Kind(
    "shoal swarm key, keep it secret: whoever has it can make members",
    ("key", "swarm", "admin"),
    ("epoch",),
)
_ADMIN = _Kind("shoal admin key, keep it secret and offline: whoever has it can revoke", ("seed",))
_NODE = _Kind(
    "shoal node key, keep it secret: whoever has it can take the admission of this device",
    ("seed",),
)
_IDENTITY = _Kind(
    "shoal node identity, keep it secret: whoever has it can act as this device",
    ("seed", "certificate", "authority", "swarm", "admin", "hello_server", "hello_client"),
    ("epoch",),
)


def write_swarm_key(path: Path, swarm_key: SwarmKey) -> None:
    """Store a swarm key; raise `IdentityError` where the file exists or cannot be written."""
    _write(path, _SWARM, swarm_key)


def read_swarm_key(path: Path) -> SwarmKey:
    """Read a swarm key; raise `IdentityError` where it is missing, loosely kept or malformed."""
    with _naming(path):
        return SwarmKey(**_read(path, _SWARM))


def write_admin_key(path: Path, admin_key: AdminKey) -> None:
    """Store an admin key; raise `IdentityError` where the file exists or cannot be written."""
    _write(path, _ADMIN, admin_key)


def read_admin_key(path: Path) -> AdminKey:
    """Read an admin key; raise `IdentityError` where it is missing, loosely kept or malformed."""
    with _naming(path):
        return AdminKey(**_read(path, _ADMIN))


def write_node_key(path: Path, node_key: NodeKey) -> None:
    """Store a device's key; raise `IdentityError` where the file exists or cannot be written."""
    _write(path, _NODE, node_key)


def read_node_key(path: Path) -> NodeKey:
    """Read a device's key; raise `IdentityError` where it is missing, loosely kept or malformed.

    The folder it lies in must be closed to others as well (0700).
    """
    _require_private(path.parent, "chmod 700")
    with _naming(path):
        return NodeKey(**_read(path, _NODE))


def write_identity(path: Path, identity: Identity) -> None:
    """Store a device's identity; raise `IdentityError` where the file exists or cannot be written."""
    _write(path, _IDENTITY, identity)


def read_identity(path: Path) -> Identity:
    """Read a device's identity; raise `IdentityError` where it is missing, loosely kept or malformed.

    The folder it lies in is the data folder, and must be closed to others as well (0700).
    """
    _require_private(path.parent, "chmod 700")
    with _naming(path):
        return Identity(**_read(path, _IDENTITY))


def _write(path: Path, kind: _Kind, value: object) -> None:
    fields: dict[str, Any] = {"what": kind.what, "format": FORMAT}
    fields |= {name: getattr(value, name) for name in kind.counts}
    fields |= {name: base64.b64encode(getattr(value, name)).decode() for name in kind.binary}
    try:
        _write_new(path, f"{json.dumps(fields, indent=2)}\n".encode())
    except FileExistsError as error:
        raise IdentityError(
            f"{path} exists, and a key is never overwritten: move it away, or choose another name"
        ) from error
    except OSError as error:
        raise IdentityError(f"cannot write {path}: {error.strerror}") from error


def _write_new(path: Path, content: bytes) -> None:
    # A link, not a rename: it fails where the name is taken, and the name never shows half a file.
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # left behind by a crash; it never had the name
    try:
        _write_durably(fresh, content)
        os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write_durably(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, _PRIVATE_FILE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, kind: _Kind) -> dict[str, Any]:
    fields = _fields(_read_private(path), kind)
    return {name: _binary(fields, name) for name in kind.binary} | {
        name: _count(fields, name) for name in kind.counts
    }


def _read_private(path: Path) -> bytes:
    _require_private(path, "chmod 600")
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}") from error


def _require_private(path: Path, remedy: str) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise IdentityError(
            f"there is no {path}: `shoal swarm init` makes swarm keys, `shoal init` identities"
        ) from error
    except OSError as error:
        raise IdentityError(f"cannot look at {path}: {error.strerror}") from error
    if status.st_uid not in (os.geteuid(), _ROOT):
        raise IdentityError(f"{path} belongs to another user ({status.st_uid}): chown it")
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise IdentityError(f"{path} is open to others (mode {mode:04o}): run {remedy} {path}")


def _fields(content: bytes, kind: _Kind) -> Mapping[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IdentityError(
            "it is damaged (no JSON): restore it, or enrol in another folder"
        ) from error
    if not isinstance(fields, dict) or fields.get("what") != kind.what:
        raise IdentityError(f"it is not what is needed here ({kind.what.partition(',')[0]})")
    if fields.get("format") != FORMAT:
        raise IdentityError(f"its format is not {FORMAT}: use the version that wrote it")
    return fields


def _binary(fields: Mapping[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(fields[name], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise IdentityError(f"its {name!r} is missing or not base64") from error


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or value < 0:
        raise IdentityError(f"its {name!r} is missing or no count")
    return value


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of an error that does not name it yet."""
    try:
        yield
    except IdentityError as error:
        if str(path) in str(error):
            raise
        raise IdentityError(f"{path}: {error}") from error
