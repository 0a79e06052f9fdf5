"""What can go wrong around a node, and the exit status it ends a command with.

Each error says whose fault it is and what to do. The exit statuses are those of `sysexits.h`.
"""

import os

from fish.protocols.errors import InvalidProtocol
from lamport.errors import CorruptArchive, DamagedRange, InvalidInput, StoreError, StoreMismatch
from transport.errors import IdentityError, InvalidText, LocalFault


class ShoalError(Exception):
    """Root of all errors of the node and its surroundings."""


class ConfigurationError(ShoalError):
    """A setting does not make sense; the text names it and where it was made."""


class FolderInUse(ShoalError):
    """Another daemon works on this data folder."""


class FolderError(ShoalError):
    """A data folder is missing, not enrolled, loosely protected or not empty."""


class FolderOpen(FolderError):
    """Something in a data folder is open to others than its owner, or not to its user."""


class FileTaken(ShoalError):
    """A file that is to be made exists already, or cannot be made."""


class FileUnreadable(ShoalError):
    """A file that is to be read is not there, or not for us."""


class DaemonUnreachable(ShoalError):
    """No daemon answers for this data folder."""


class RequestRefused(ShoalError):
    """The daemon refused a request; the text is its reason."""


class ServiceOverloaded(RequestRefused):
    """The daemon has as much to do as it takes on; the same request may pass in a moment."""


class DiskRefused(RequestRefused):
    """The daemon's disk is full, or has damaged what was asked for; nothing is wrong with the request."""


class NotInSync(ShoalError, TimeoutError):
    """The time is over, and this node is not in sync with as many peers as were asked for; the text says with whom."""


class FishNotLoaded(ShoalError):
    """A fish named on the command line cannot be imported."""


_EXIT_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (StoreMismatch, os.EX_CONFIG),
    (FolderInUse, os.EX_CANTCREAT),
    (FileTaken, os.EX_CANTCREAT),
    (IdentityError, os.EX_NOPERM),
    (InvalidText, os.EX_DATAERR),
    (LocalFault, os.EX_UNAVAILABLE),
    (DaemonUnreachable, os.EX_UNAVAILABLE),
    (FolderOpen, os.EX_NOPERM),
    (FolderError, os.EX_NOINPUT),
    (ConfigurationError, os.EX_CONFIG),
    (FishNotLoaded, os.EX_CONFIG),
    (FileUnreadable, os.EX_NOINPUT),
    (InvalidProtocol, os.EX_DATAERR),
    (InvalidInput, os.EX_DATAERR),
    (CorruptArchive, os.EX_DATAERR),
    (ServiceOverloaded, os.EX_TEMPFAIL),
    (DiskRefused, os.EX_IOERR),
    (RequestRefused, os.EX_DATAERR),
    (StoreError, os.EX_IOERR),
    (DamagedRange, os.EX_IOERR),
    (PermissionError, os.EX_NOPERM),
    (OSError, os.EX_IOERR),
)


def exit_status(error: BaseException) -> int:
    """The exit status a command ends with after this error."""
    return next(
        (status for kind, status in _EXIT_STATUSES if isinstance(error, kind)), os.EX_SOFTWARE
    )
