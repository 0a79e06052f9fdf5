"""Enrolling a data folder by request: the device's half of `transport.enrolment`.

    nothing   --ask-->   request.json   --accept-->   identity.json

The key is drawn once and kept in `request.json`, which only its owner may read; however often the
request is shown, it is the same one. The identity is made whole in memory, forced to the disk and
given its name in one step; only then the request goes. So at every moment, power cuts included, the
folder has asked or is enrolled, and accepting again finishes what was interrupted.
"""

from pathlib import Path
from random import SystemRandom

from shoal.errors import FolderError
from shoal.folder import IDENTITY_NAME, REQUEST_NAME, prepare_folder
from shoal.newfile import sync_folder
from transport.enrolment import Admission, Request, require_name
from transport.errors import InvalidText
from transport.identity import KEY_BYTES, Identity, NodeKey, swarm_hint
from transport.keyfiles import (
    read_identity,
    read_node_key,
    write_identity,
    write_node_key,
)


def request_enrolment(folder: Path | str, name: str = "") -> Request:
    """Ask for this device to be enrolled; draws its key, or takes the one of the request that waits.

    Raises:
        FolderError: the folder holds something else, cannot be made, or a device is enrolled there already.
        IdentityError: the key cannot be written, or is loosely protected or damaged.
        InvalidInput: the name is too long or cannot be printed.
    """
    folder = Path(folder)
    require_name(name)  # before anything is made
    path = folder / REQUEST_NAME
    if not path.exists() or (folder / IDENTITY_NAME).exists():
        prepare_folder(folder)
        write_node_key(path, NodeKey(SystemRandom().randbytes(KEY_BYTES)))
    return Request(read_node_key(path).node, name)


def accept_admission(folder: Path | str, text: str) -> Identity:
    """Complete the identity of a device that has asked. Where that is done already, nothing changes.

    Raises:
        InvalidText: the text is no admission, damaged, or for another device or swarm.
        FolderError: nothing was asked for here.
        IdentityError: a key is loosely protected or damaged, or the identity cannot be written.
    """
    folder = Path(folder)
    admission = Admission.parse(text)
    if (folder / IDENTITY_NAME).exists():
        enrolled = _confirmed(folder, admission)
    elif (folder / REQUEST_NAME).exists():
        enrolled = admission.identity(read_node_key(folder / REQUEST_NAME))
        write_identity(folder / IDENTITY_NAME, enrolled)
    else:
        raise FolderError(
            f"no device has asked to be enrolled in {folder}: run `shoal request --data {folder}`"
        )
    _forget_request(folder)
    return enrolled


def _confirmed(folder: Path, admission: Admission) -> Identity:
    """The identity that is there, where the admission says the same."""
    present = read_identity(folder / IDENTITY_NAME)
    offered = admission.identity(NodeKey(present.seed))
    if offered.swarm != present.swarm:
        raise InvalidText(
            f"this admission is to the swarm {swarm_hint(offered.swarm)}, and the device in {folder}"
            f" belongs to the swarm {swarm_hint(present.swarm)}: use another folder for another swarm"
        )
    if (offered.authority, offered.admin) != (present.authority, present.admin):
        raise InvalidText(
            f"this admission is by another authority (epoch {offered.epoch}) than the one that"
            f" the device in {folder} was enrolled by (epoch {present.epoch}); nothing was changed"
        )
    return present


def _forget_request(folder: Path) -> None:
    (folder / REQUEST_NAME).unlink(missing_ok=True)
    sync_folder(folder)
