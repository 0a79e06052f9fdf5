"""The note that a running daemon leaves in its data folder: where its control API is, and the token it asks for."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from shoal.errors import DaemonUnreachable
from shoal.folder import CONTROL_NAME
from transport.errors import TransportError
from transport.network import Address

TOKEN_BYTES = 32


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


def read_control(folder: Path) -> Control:
    """How to reach the daemon of a data folder.

    Raises:
        DaemonUnreachable: there is no note, or not a whole one: no daemon runs.
    """
    try:
        note = json.loads((folder / CONTROL_NAME).read_text("utf-8"))
        return Control(Address.parse(note["address"]), str(note["token"]))
    except (OSError, ValueError, KeyError, TypeError, TransportError) as error:
        raise DaemonUnreachable(
            f"no daemon runs on {folder} (start it with `shoal run --data {folder}`)"
        ) from error
