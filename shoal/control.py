"""The note that a running daemon leaves in its data folder: where its control API is, and the token it asks for."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from shoal.errors import DaemonUnreachable
from shoal.folder import CONTROL_NAME, is_locked
from transport.errors import TransportError
from transport.network import Address

TOKEN_BYTES = 32

ARCHIVE_TYPE = "application/x-shoal-archive"
"""How an archive is declared that is handed to the daemon; no web page can send this unasked."""

START_LIMIT_S = 5.0
"""How long a command waits for a daemon that holds the lock and does not listen yet."""

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Control:
    """How to reach a daemon."""

    address: Address
    token: str


def draw_token(randomness: Random) -> str:
    """A fresh token, 256 bits as 64 hexadecimal digits."""
    return randomness.randbytes(TOKEN_BYTES).hex()


@contextmanager
def written_control(folder: Path, control: Control) -> Iterator[None]:
    """Leave the note while the context is open. Readable by the owner only; replaces a dead daemon's."""
    path, draft = folder / CONTROL_NAME, folder / f"{CONTROL_NAME}.new"
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"address": str(control.address), "token": control.token}, file)
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def awaited_control(folder: Path) -> Control:
    """How to reach the daemon of a data folder, waiting for one that is just starting.

    Raises:
        DaemonUnreachable: none runs, or it does not get to the point of listening.
    """
    deadline = asyncio.get_running_loop().time() + START_LIMIT_S
    while True:
        try:
            return read_control(folder)
        except DaemonUnreachable:
            if not is_locked(folder) or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(POLL_S)


def read_control(folder: Path) -> Control:
    """How to reach the daemon of a data folder.

    Raises:
        DaemonUnreachable: no daemon runs, whatever a dead one may have left behind.
        PermissionError: the folder is another user's, whose daemon may well run.
    """
    try:
        if not is_locked(folder):
            raise FileNotFoundError("nobody holds the lock")
        note = json.loads((folder / CONTROL_NAME).read_text("utf-8"))
        return Control(Address.parse(note["address"]), str(note["token"]))
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, TransportError) as error:
        raise DaemonUnreachable(
            f"no daemon runs on {folder} (start it with `shoal run --data {folder}`)"
        ) from error
