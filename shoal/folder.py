"""A device's data folder: its identity, its database, its lock.

    identity.json   the node's key and certificate (0600)
    request.json    the node's key, while its request waits for the admission (0600; gone after that)
    log.sqlite      the log
    log.token       tells whether the log is the one that was written here last; no part of a backup (0600)
    ballast         a megabyte for the day when the disk is full
    lock            held by the one process that works on the folder
    control.json    address and token of the running daemon's control API (0600; gone when it stops)
    shoal.toml      settings, if there are any

The folder is 0700, and looser modes are refused: who reads it can act as this node.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from random import SystemRandom

from lamport.routes import Route
from lamport.sqlite import DATABASE_NAME, TOKEN_NAME
from lamport.upcasters import NO_UPCASTERS, Upcasters
from shoal.errors import FolderError, FolderInUse, FolderOpen
from shoal.node import Node
from shoal.system import system_seams
from transport import identity
from transport.identity import AdminKey, Identity, SwarmKey
from transport.keyfiles import read_identity, write_identity
from transport.network import Address

IDENTITY_NAME = "identity.json"
REQUEST_NAME = "request.json"
LOCK_NAME = "lock"
CONTROL_NAME = "control.json"
SETTINGS_NAME = "shoal.toml"

FOLDER_MODE = 0o700

OTHERS = 0o077
"""What nobody but the owner may be allowed."""

PRIVATE_NAMES = (
    DATABASE_NAME,
    *(f"{DATABASE_NAME}{suffix}" for suffix in ("-wal", "-shm")),
    TOKEN_NAME,
    REQUEST_NAME,
)
"""Files besides the identity that must be closed: of the log, whose events are as secret as the key, and the
request that a power cut left beside the identity it became."""

_DRAFTS = {f".{name}.new" for name in (IDENTITY_NAME, REQUEST_NAME)}
"""What a power cut leaves of a file that was about to be made; the next one that is made takes its place."""

LOCK_ATTEMPTS, LOCK_PAUSE_S = 10, 0.03

DEFAULT_LISTEN = Address("0.0.0.0", 4001)  # noqa: S104 - peers must reach it; strangers end in the TLS handshake


def make_swarm() -> tuple[SwarmKey, AdminKey]:
    """Draw a new swarm's key, with which devices are enrolled, and its admin's key."""
    return identity.make_swarm(SystemRandom())


def enrol_device(folder: Path | str, swarm_key: SwarmKey) -> Identity:
    """Enrol this device: make its data folder with a fresh identity in it. The swarm key does not stay there.

    Raises:
        FolderError: the folder holds something else, cannot be made, or a device is enrolled there already.
        IdentityError: it cannot be written.
    """
    folder = Path(folder)
    prepare_folder(folder)
    enrolled = identity.enrol(swarm_key, SystemRandom())
    write_identity(folder / IDENTITY_NAME, enrolled)
    return enrolled


def prepare_folder(folder: Path) -> None:
    """Make the data folder of a device that is about to get a key, closed to others.

    Raises:
        FolderError: the folder holds something else, or cannot be made, or a device is enrolled there or has asked.
    """
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is no folder: name one that does not exist yet")
    if (folder / IDENTITY_NAME).exists():
        raise FolderError(
            f"a device is enrolled in {folder} already: use another folder for another node"
        )
    if (folder / REQUEST_NAME).exists():
        raise FolderError(
            f"a request was made in {folder}: `shoal accept --data {folder}` takes its admission;"
            " use another folder for another node"
        )
    if folder.exists() and any(entry.name not in _DRAFTS for entry in folder.iterdir()):
        raise FolderError(f"{folder} is not empty: name a new or empty folder")
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
    except OSError as error:
        raise FolderError(
            f"cannot make {folder} ({error.strerror}): name another folder"
        ) from error


def read_folder(folder: Path) -> Identity:
    """The identity of the device enrolled in a data folder.

    Raises:
        FolderError: there is no such folder, or nothing is enrolled in it.
        FolderOpen: its log is loosely protected, or another user's.
        IdentityError: the identity is loosely protected or damaged.
    """
    if not (folder / IDENTITY_NAME).exists():
        if (folder / REQUEST_NAME).exists():
            raise FolderError(
                f"the device in {folder} has asked to be enrolled, and waits for its admission:"
                f" `shoal request --data {folder}` shows the request again,"
                f" `shoal accept --data {folder}` takes the admission"
            )
        raise FolderError(
            f"no device is enrolled in {folder}: run `shoal init --data {folder} --swarm-key KEYFILE`,"
            f" or `shoal request --data {folder}` where the swarm key is elsewhere"
        )
    identity_here = read_identity(folder / IDENTITY_NAME)
    for name in PRIVATE_NAMES:
        _require_private(folder / name)
    return identity_here


def _require_private(path: Path) -> None:
    """Refuse a file that others may read or write, or this user may not; one that is not there is made rightly."""
    with suppress(FileNotFoundError):
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if mode & OTHERS:
            raise FolderOpen(f"{path} is open to others (mode {mode:04o}): run chmod 600 {path}")
        if not os.access(path, os.R_OK):
            raise FolderOpen(
                f"{path} is closed to this user: it belongs to user {status.st_uid}, this is"
                f" {os.geteuid()}; run this as that user, or chown it"
            )


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends.

    Raises:
        FolderInUse: another process works on this folder.
        FolderError: there is no writing in it.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(
            f"cannot open {path} ({error.strerror}): this user must be able to write there"
        ) from error
    try:
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            raise FolderInUse(
                f"another process (pid {holder or 'unknown'}) works on {folder}:"
                " stop it, or use another data folder"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take the lock, trying for a moment: whoever only asks whether it is held (`is_locked`) holds it that long."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if attempt == LOCK_ATTEMPTS - 1:
                raise
            time.sleep(LOCK_PAUSE_S)
        else:
            return


def is_locked(folder: Path) -> bool:
    """Whether some process works on the folder now; raises `PermissionError` where this user is not let know."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@asynccontextmanager
async def open_node(
    folder: Path | str,
    *,
    listen: Address = DEFAULT_LISTEN,
    peers: Iterable[Address] = (),
    mdns: bool = True,
    routes: Iterable[Route] = (),
    upcasters: Upcasters = NO_UPCASTERS,
) -> AsyncIterator[Node]:
    """Run the node of a data folder inside this process, on this device's own clock, disk and network.

    Raises:
        FolderError, FolderInUse, IdentityError: the folder cannot be used; the text says what to do.
        StoreMismatch, LocalFault: see `Node`.
    """
    path = Path(folder)
    device = read_folder(path)
    with locked_folder(path):
        seams = system_seams(path, device, listen=listen, mdns=mdns)
        async with Node(device, seams, peers=peers, routes=routes, upcasters=upcasters) as node:
            yield node
