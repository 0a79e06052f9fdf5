"""Small notes beside the log, under names: what other floors want to find again after a restart, and can do without."""

from lamport.seams import Statement
from lamport.sqlite_errors import translated_errors
from lamport.store import Store

_PREFIX = "note:"


async def save_note(store: Store, name: str, value: bytes) -> None:
    """Keep a note, in the place of the one before of that name.

    Raises:
        StoreRefused: the disk is full, or busy; the note before stays.
    """
    row = (_PREFIX + name, value)
    await store.write(Statement("INSERT OR REPLACE INTO facts VALUES (?, ?)", [row]))


async def load_note(store: Store, name: str) -> bytes:
    """The note of this name; empty where there is none."""
    with translated_errors():
        rows = await store.reader.fetch("SELECT value FROM facts WHERE name = ?", (_PREFIX + name,))
    return bytes(rows[0][0]) if rows else b""
