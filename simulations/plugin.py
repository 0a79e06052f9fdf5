"""The pytest plugin: options, marker and reports of swarm tests.

pytest loads it in every project of an environment where Shoal is installed. It imports no simulator and looks at no
test that is none of `swarm_test`'s. Around each that is, it sets the `Session`: what the command line asks, where
pictures go (below pytest's cache folder, which stays between runs), and how a text is shown with the failure.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pytest

from simulations.session import SESSION, Session

MARKER = "swarm"

HASHED_ELSEWHERE_LIMIT_S = 600.0

_SHOWN = 2_000
"""Characters of another process's output that are shown when it fails."""


_TOLD = pytest.StashKey[Any]()
"""A list of titled texts that a test wants to be shown."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("swarm", "swarm tests (Shoal)")
    group.addoption(
        "--swarm-seed",
        type=int,
        metavar="N",
        help="play only this seed in each swarm test, as a failure told",
    )
    group.addoption(
        "--swarm-seeds",
        type=_count,
        metavar="COUNT",
        help="play the seeds 1 to COUNT in each swarm test, whatever it names itself",
    )
    group.addoption(
        "--swarm-hash-seeds",
        type=_count,
        default=0,
        metavar="COUNT",
        help="play the first seed of each swarm test in COUNT more processes that hash texts differently",
    )
    group.addoption("--swarm-digest", type=Path, metavar="FILE", help="write the run's digest here")


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError("a count is at least 1")
    return count


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that all swarm tests bear."""
    config.addinivalue_line("markers", f"{MARKER}: a test made by shoal's swarm_test")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what was asked for."""
    options = ("--swarm-seed", "--swarm-seeds", "--swarm-hash-seeds")
    asked = [f"{name[2:]} {config.getoption(name)}" for name in options if config.getoption(name)]
    return [", ".join(asked)] if asked else []


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark swarm tests, so that `-m swarm` and `-m "not swarm"` choose."""
    if _is_swarm_test(item):
        item.add_marker(MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Set the session around a swarm test."""
    __tracebackhide__ = True
    if not _is_swarm_test(item):
        return (yield)
    token = SESSION.set(_session(item))
    try:
        return (yield)
    finally:
        SESSION.reset(token)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the test told."""
    report = yield
    if report.when == "call":
        report.sections += item.stash.get(_TOLD, [])
    return report


def _is_swarm_test(item: pytest.Item) -> bool:
    return getattr(getattr(item, "obj", None), "is_swarm_test", False) is True


def _session(item: pytest.Item) -> Session:
    config = item.config
    replay = f"pytest {shlex.quote(_named(item))}"
    return Session(
        name=item.nodeid,
        seed=config.getoption("--swarm-seed"),
        seeds=config.getoption("--swarm-seeds"),
        hash_seeds=config.getoption("--swarm-hash-seeds"),
        replay=replay.replace("{", "{{").replace("}", "}}") + " --swarm-seed={seed}",
        pictures=partial(_pictures, config),
        tell=lambda title, text: item.stash.setdefault(_TOLD, []).append((title, text)),
        digest=config.getoption("--swarm-digest"),
        elsewhere=partial(_elsewhere, item),
        failures=(Exception, pytest.fail.Exception),
    )


def _named(item: pytest.Item) -> str:
    """How a test is named on the command line, in the folder where pytest was called."""
    _, colons, rest = item.nodeid.partition("::")
    return os.path.relpath(item.path, item.config.invocation_params.dir) + colons + rest


def _pictures(config: pytest.Config) -> Path:
    """The folder for pictures; a temporary one where pytest's cache is switched off."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    return Path(mkdtemp(prefix="swarm-")) if cache is None else cache.mkdir("swarm")


def _elsewhere(item: pytest.Item, seed: int, hash_seed: int) -> str:
    """Play one seed of a test in a process with another hash seed; returns its digest, or its output if it fails."""
    with TemporaryDirectory(prefix="swarm-") as folder:
        digest = Path(folder) / "digest"
        done = subprocess.run(  # noqa: S603 - this very interpreter
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
                *(f"--rootdir={item.config.rootpath}", f"--swarm-seed={seed}"),
                *(f"--swarm-digest={digest}", _named(item)),
            ],
            cwd=item.config.invocation_params.dir,
            env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            text=True,
            timeout=HASHED_ELSEWHERE_LIMIT_S,
            check=False,
        )
        return digest.read_text("utf-8") if done.returncode == 0 else done.stdout[-_SHOWN:]
