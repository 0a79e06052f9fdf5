"""New files for an operator: complete or not there at all, readable by their owner only, never over another one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal.errors import FileTaken

_PRIVATE_FILE = 0o600

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems say that know no second name for a file: FAT and exFAT the first, some of networks the others."""


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """An empty file to fill, which gets the name `path` when the block ends well.

    Raises:
        FileTaken: the name is taken, or there is no writing at that place.
    """
    if not path.name:
        raise FileTaken(f"{str(path)!r} names no file: give the new file a name")
    if path.exists():
        raise _taken(path)
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)  # left behind by a crash; it never had the name
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE))
    except OSError as error:
        raise FileTaken(f"cannot make {path} ({error.strerror}): name another place") from error
    try:
        yield draft
        _sync(draft, os.O_RDONLY)
        _name(draft, path)
    except FileExistsError as error:
        raise _taken(path) from error
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _name(draft: Path, path: Path) -> None:
    """Give a finished draft its name; raise `FileExistsError` where that was taken meanwhile, as a rename would not."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A stick knows no links. There the name is taken first, and what is replaced is our own empty file.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE))
        try:
            draft.replace(path)
        except OSError:
            path.unlink()
            raise


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _taken(path: Path) -> FileTaken:
    return FileTaken(f"{path} exists, and nothing is overwritten: name another file")
