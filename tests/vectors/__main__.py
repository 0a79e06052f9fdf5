"""`python -m tests.vectors KIND FILE`: run a file of vectors of one kind through the public interfaces.

Prints one line for each vector that fails, and last how many passed and failed. The exit status is 0 only if none
failed and at least one passed. Each kind is a module of this package with a function `run`.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.vectors.verdict import Verdict

KINDS = ("pond", "machines")


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


if __name__ == "__main__":
    sys.exit(main())
