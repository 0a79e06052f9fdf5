"""Swarms, data folders, the command line, and real daemon processes: what the tests of the edge act with.

A daemon is a `python -m shoal run` of its own on ports that the system chooses. It counts as started once its one line
has come, and whatever becomes of the test, it is gone at the end.
"""

import contextlib
import functools
import io
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shoal.cli import main
from shoal.folder import enrol_device
from transport.identity import make_swarm

LIMIT_S = 60.0
"""When to give a process up; no test waits for it unless something hangs."""

RANDOMNESS = random.Random(11)
SWARM_KEY, ADMIN_KEY = make_swarm(RANDOMNESS)

_READY = re.compile(r"node (\S+) listens at (\S+), control API at (\S+)\n")


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon: its process, and what its line said."""

    folder: Path
    process: subprocess.Popen[str]
    node: str
    listening: str
    api: str
    diary: Path

    def ask(self, command: str, *arguments: str) -> Ended:
        """Run a command of the command line against this daemon."""
        return shoal(command, "--data", str(self.folder), *arguments)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def stop(self, signal_number: int) -> int:
        """Send a signal; returns the exit status."""
        self.process.send_signal(signal_number)
        return self.process.wait(LIMIT_S)


def enrolled(folder: Path) -> Path:
    """A data folder of the tests' swarm."""
    enrol_device(folder, SWARM_KEY)
    return folder


def shoal(*arguments: str) -> Ended:
    """Run a command in this process: the same code as `shoal`, without a new interpreter. Not for threads."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Ended(status, out.getvalue(), err.getvalue())


def shoal_process(*arguments: str, given: str | bytes = "", **variables: str) -> Ended:
    """Run a command in a process of its own; `given` is its standard input."""
    ended = subprocess.run(
        command(*arguments),
        input=given.encode() if isinstance(given, str) else given,
        capture_output=True,
        check=False,
        timeout=LIMIT_S,
        env=environment() | variables,
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@contextmanager
def daemon(folder: Path, *options: str, mdns: bool = False) -> Iterator[Daemon]:
    """A daemon on an enrolled folder; it has been killed when the context ends, however that is."""
    diary = folder.with_name(f"{folder.name}.log")
    quiet = () if mdns else ("--no-mdns",)
    ports = ("--listen", "127.0.0.1:0", "--api", "127.0.0.1:0")
    started = command("run", "--data", str(folder), *ports, *quiet, *options)
    with started_process(started, diary) as process:
        found = _READY.fullmatch(first_line(process))
        assert found is not None, f"the daemon did not start:\n{diary.read_text()}"
        yield Daemon(folder, process, found[1], found[2], found[3], diary)


@contextmanager
def started_process(arguments: list[str], diary: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose standard error goes to the diary; killed at the end."""
    with (
        diary.open("ab") as errors,
        subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment()
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    """The next line that the process prints; nothing where it ends, or hangs, instead."""
    assert process.stdout is not None
    line: str = watched(process, process.stdout.readline)
    return line


def watched(process: subprocess.Popen[str], wait: Callable[[], Any]) -> Any:
    """Wait for something that the process must do; it is killed where that takes for ever."""
    watchdog = threading.Timer(LIMIT_S, process.kill)
    watchdog.start()
    try:
        return wait()
    finally:
        watchdog.cancel()
        watchdog.join()


def command(*arguments: str) -> list[str]:
    """The command line of a process."""
    return [sys.executable, "-m", "shoal", *arguments]


@functools.cache
def environment() -> dict[str, str]:
    """This process's environment, without settings that are meant for another daemon."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
