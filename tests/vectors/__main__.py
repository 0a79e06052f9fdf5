"""`python -m tests.vectors KIND FILE`: run a file of vectors of one kind through the public interfaces.

Prints one line for each vector that fails, and last how many passed and failed. The exit status is 0 only if none
failed and at least one passed. Each kind is a module of this package with a function `run`.

What the nodes log beside goes to standard error, but for what vectors bring about on purpose.
"""

import argparse
import importlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.vectors.verdict import Verdict

KINDS = ("pond", "machines")

_ON_PURPOSE = re.compile(
    "none of them is cyclic"  # machines of which the vectors show what is wrong with them
    "|stands without a cause"  # effects whose cause time travel takes away, and that have no undo
    "|^the link to .* ended: "  # partitions
)


def main(arguments: list[str] | None = None) -> int:
    """Run the vectors of a file; returns the exit status."""
    parser = argparse.ArgumentParser("python -m tests.vectors", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("file", type=Path)
    chosen = parser.parse_args(arguments)
    run: Callable[[Path], Iterator[Verdict]]
    run = importlib.import_module(f"tests.vectors.{chosen.kind}").run
    passed = failed = 0
    for verdict in run(chosen.file):
        if verdict.fault is None:
            passed += 1
        else:
            failed += 1
            print(f"FAILED {verdict.name}: {verdict.fault}")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


def _log_the_unexpected() -> None:
    logging.basicConfig(format="%(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_unexpected)


def _is_unexpected(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING or not _ON_PURPOSE.search(record.getMessage())


if __name__ == "__main__":
    _log_the_unexpected()
    sys.exit(main())
