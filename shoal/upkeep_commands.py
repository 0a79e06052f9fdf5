"""The commands that look after a log (`shoal verify`, `backup`, `restore`, `export`, `import`): what they print."""

import asyncio
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from lamport.errors import InvalidInput
from lamport.offsets import OffsetMap
from lamport.stream_check import Finding
from lamport.verification import Progress
from shoal import upkeep
from shoal.strictjson import parse_json
from shoal.upkeep import Chosen, Healed, Verdict

TOLD_EVERY_S = 1.0
"""How often progress is told."""


def verify(arguments: Namespace) -> int:
    """Look at everything in the log; the status is 0 only where all of it holds."""
    folder = Path(arguments.data)
    if arguments.heal:
        done = asyncio.run(upkeep.heal_folder(folder, _progress()))
    else:
        done = Healed((), asyncio.run(upkeep.verify_folder(folder, _progress())))
        if asyncio.run(upkeep.report_damage(folder, done.verdict.findings)):
            print("shoal: the running daemon asks its peers for what is damaged", file=sys.stderr)
    print(json.dumps(_verdict_to_json(done), indent=2) if arguments.as_json else _text(done))
    return os.EX_DATAERR if done.verdict.count else os.EX_OK


def backup(arguments: Namespace) -> int:
    """Copy the log into a new file."""
    target = Path(arguments.file)
    findings = asyncio.run(upkeep.back_up(Path(arguments.data), target))
    for finding in findings:
        print(f"shoal: {finding}", file=sys.stderr)
    print(f"backed up to {target}{' as it is, which is damaged' if findings else ''}")
    return os.EX_DATAERR if findings else os.EX_OK


def restore(arguments: Namespace) -> int:
    """Put a backup in the log's place."""
    aside = asyncio.run(upkeep.restore(Path(arguments.data), Path(arguments.file)))
    print(f"restored {arguments.file}")
    if aside is not None:
        print(f"the log that stood there is now {aside}; remove it when you do not need it")
    return os.EX_OK


def export(arguments: Namespace) -> int:
    """Write streams into a new archive."""
    chosen = Chosen(
        arguments.stream or (),
        arguments.node or (),
        arguments.first,
        arguments.last,
        OffsetMap() if arguments.since is None else _offsets(Path(arguments.since)),
    )
    target = Path(arguments.file)
    done = asyncio.run(upkeep.export(Path(arguments.data), chosen, target))
    print(f"exported {done.events} events of {done.streams} streams to {target}")
    if done.left_out:
        print(
            f"left out {done.left_out} events behind forks (`shoal forks` names them): an archive holds of a forked"
            " stream what its histories have in common"
        )
    return os.EX_OK


def import_(arguments: Namespace) -> int:
    """Take an archive in."""
    done = asyncio.run(upkeep.import_(Path(arguments.data), Path(arguments.file)))
    print(
        f"imported {done.added} of {done.events} events of {done.streams} streams; others were known"
    )
    return os.EX_OK


def _offsets(path: Path) -> OffsetMap:
    """The offset map in a file: by itself, or in a whole status."""
    try:
        value = parse_json(path.read_bytes())
        inner = value.get("offsets", value) if isinstance(value, dict) else value
        return OffsetMap.from_json(inner)
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}") from None
    except InvalidInput as error:
        raise InvalidInput(
            f"{path} holds no offset map ({error}): use what `shoal status --json` prints"
        ) from error


def _progress() -> Callable[[Progress], None]:
    """Tells progress on standard error, now and then: a small log is through before there is anything to tell."""
    started = told = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= TOLD_EVERY_S:
            told = now
            rate = progress.done / (now - started)
            line = f"{progress.done} of {progress.total} events, {rate:.0f} a second"
            print(line, file=sys.stderr, flush=True)

    return tell


def _text(done: Healed) -> str:
    verdict = done.verdict
    looked = f"{verdict.events} events, {verdict.seals} seals, {verdict.streams} streams"
    lines = [*map(str, done.cuts), *map(str, verdict.findings)]
    if verdict.count > len(verdict.findings):
        lines.append(f"... and {verdict.count - len(verdict.findings)} more")
    lines.append(f"{looked}: {_words(verdict)}")
    return "\n".join(lines)


def _words(verdict: Verdict) -> str:
    return f"{verdict.count} findings" if verdict.count else "all is well"


def _verdict_to_json(done: Healed) -> dict[str, object]:
    verdict = done.verdict
    return {
        "events": verdict.events,
        "seals": verdict.seals,
        "streams": verdict.streams,
        "cut": [{"stream": str(cut.stream), "from": cut.told, "to": cut.kept} for cut in done.cuts],
        "count": verdict.count,
        "findings": [_finding_to_json(one) for one in verdict.findings],
    }


def _finding_to_json(finding: Finding) -> dict[str, object]:
    stream = None if finding.stream is None else str(finding.stream)
    return {
        "stream": stream,
        "first": finding.first,
        "last": finding.last,
        "fault": finding.fault,
    }
