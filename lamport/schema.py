"""The database's schema: made and brought up to date by ordered files, and claimed by one node of one swarm.

The scripts in `lamport/migrations` are run in their order, each in one transaction with the version it leads to. A
database that is newer than the program, or nobody's or another's, is refused untouched.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from lamport.chain import Keys
from lamport.errors import StoreMismatch
from lamport.retraction_table import MARK
from lamport.seams import Connection, Statement
from lamport.sqlite_errors import translated_errors

APPLICATION_ID = 0x53484F4C
"""`PRAGMA application_id` of our databases: "SHOL"."""


def migrations() -> tuple[str, ...]:
    """The SQL scripts that make the schema, version 1 first."""
    folder = files("lamport") / "migrations"
    scripts = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple((folder / name).read_text("utf-8") for name in scripts)


async def check_ours(writer: Connection) -> None:
    """Refuse a database that is not Shoal's, or of a newer Shoal, before anything is written to it."""
    [(application,)] = await writer.fetch("PRAGMA application_id")
    [(version,)] = await writer.fetch("PRAGMA user_version")
    ours = application == APPLICATION_ID and version > 0
    if not ours and await writer.fetch("SELECT 1 FROM sqlite_schema LIMIT 1"):
        raise StoreMismatch(
            "the file is an SQLite database, but none of Shoal's: use another data folder"
        )
    known = len(migrations())
    if version > known:
        raise StoreMismatch(
            f"the database has schema version {version}, this program knows up to {known}:"
            " upgrade Shoal, or use another data folder"
        )


async def require_readable(connection: Connection) -> None:
    """Raise `StoreMismatch` unless this is a Shoal database of exactly the schema that this program reads."""
    with translated_errors():
        await check_ours(connection)
        [(version,)] = await connection.fetch("PRAGMA user_version")
    if version != len(migrations()):
        raise StoreMismatch(
            f"the database has schema version {version}, this program reads {len(migrations())}:"
            " start the daemon once, it brings the database up to date"
        )


async def migrate(writer: Connection) -> None:
    """Bring a database to this program's schema; an empty one is made."""
    scripts = migrations()
    [(version,)] = await writer.fetch("PRAGMA user_version")
    for number, script in enumerate(scripts[version:], version + 1):
        statements = [Statement(sql) for sql in _split(script)]
        await writer.transact([*statements, Statement(f"PRAGMA user_version = {number}")])


def _split(script: str) -> list[str]:
    """The single statements of a migration, which must not hide a semicolon in a text or comment."""
    code = "\n".join(line.partition("--")[0] for line in script.splitlines())
    return [statement.strip() for statement in code.split(";") if statement.strip()]


async def facts_of(connection: Connection) -> dict[str, Any]:
    """What the database says of itself."""
    return dict(await connection.fetch("SELECT name, value FROM facts"))


async def claim(writer: Connection, keys: Keys, draw_number: Callable[[], int]) -> bool:
    """Write into a new database whose it is, or check it in one that exists; returns whether it is new."""
    facts = await facts_of(writer)
    if not facts:
        new = {
            "node": bytes(keys.node),
            "swarm": keys.swarm,
            "stream": draw_number(),
            "clock": 0,
            MARK: 1,
        }
        author = Statement(
            "INSERT INTO authors VALUES (?, ?)", [(bytes(keys.node), keys.certificate)]
        )
        await writer.transact(
            [Statement("INSERT INTO facts VALUES (?, ?)", list(new.items())), author]
        )
    elif facts["node"] != keys.node or facts["swarm"] != keys.swarm:
        raise StoreMismatch(
            "the database belongs to another node or swarm than this identity:"
            " use the data folder it was made in"
        )
    return not facts
