"""The README's blocks do what they say: a stranger's first five minutes, played by a shell."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"<!-- (run|file|expect)(?: ([^\n]*?))? -->\n```\w*\n(.*?)```", re.DOTALL)
END = "__end__"
LIMIT_S = 60


def blocks() -> list[tuple[str, str, str]]:
    return [(kind, what, text) for kind, what, text in BLOCK.findall(README.read_text("utf-8"))]


def commands(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


class Shell:
    """A shell that a person types into, patiently: a command that fails is typed again."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input: IO[str] = process.stdin
        self._output: IO[str] = process.stdout

    def type(self, command: str) -> tuple[int, str]:
        """Run a command; returns its exit status and what it printed."""
        self._input.write(f"{command}\necho {END} $?\n")
        self._input.flush()
        lines: list[str] = []
        while not (line := self._output.readline()).startswith(END):
            assert line, f"the shell ended at {command!r}: {lines}"
            lines.append(line)
        return int(line.split()[1]), "".join(lines)

    def insist(self, command: str, expected: str = "") -> None:
        """Type a command until it succeeds and prints what is expected."""
        seen = (1, "")
        for _ in range(40):
            seen = self.type(command)
            if seen[0] == 0 and expected in seen[1]:
                return
        raise AssertionError(f"{command!r} never printed {expected!r}: {seen}")


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """A shell in a folder that has the environment under `.venv`, as in a clone."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    with subprocess.Popen(
        [shutil.which("bash") or "bash"],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield Shell(process)
        finally:
            assert process.stdin is not None
            process.stdin.write("kill $(jobs -p); wait\n")
            process.stdin.close()
            process.wait(LIMIT_S)


def environment() -> dict[str, str]:
    """Ports of our own, so that the README's default ones may be in use; and no need for multicast."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = {"SHOAL_LISTEN": listen, "SHOAL_PEERS": listen, "SHOAL_API": "127.0.0.1:0"}
    return os.environ | settings


def test_the_readme_leads_from_a_clone_to_an_own_fish_that_sees_the_other_machine(
    tmp_path: Path,
) -> None:
    with shell(tmp_path) as person:
        last = ""
        for kind, what, text in blocks():
            if kind == "file":
                (tmp_path / what).write_text(text)
            elif kind == "expect":
                person.insist(last, what)
                assert what in text, "the README shows what it expects"
            else:
                for last in commands(text):
                    person.insist(last)


def test_the_readme_has_blocks_of_every_kind() -> None:
    assert {kind for kind, _, _ in blocks()} == {"run", "file", "expect"}
    assert sum(len(commands(text)) for kind, _, text in blocks() if kind == "run") >= 10
