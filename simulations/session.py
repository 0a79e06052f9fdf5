"""What the command line asks of swarm tests, and where they tell what they found.

The plugin knows pytest, `simulations.swarm` knows the simulator, and this module knows neither: pytest loads the plugin
in every project of an environment, and pays for the simulator only where a test imports it. The plugin sets `SESSION`
around each swarm test; a swarm test that is called without it plays its own seeds and raises what it found.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

HashedElsewhere = Callable[[int, int], str]
"""Plays a seed (first) in a process with another hash seed (second); returns the digest of that run."""


def _nothing(_title: str, _text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Session:
    """How one test is to be played. `replay` is the command that plays a seed again, with `{seed}` in it.

    `seed` is the only seed to play, `seeds` how many; None leaves both to the test. `pictures` is the folder for
    pictures of failures, `tell` shows a titled text with the test's failure, `digest` is the file that takes the
    digest of the last run.
    """

    name: str = "test"
    seed: int | None = None
    seeds: int | None = None
    hash_seeds: int = 0
    replay: str = ""
    pictures: Callable[[], Path] | None = None
    tell: Callable[[str, str], None] = _nothing
    digest: Path | None = None
    elsewhere: HashedElsewhere | None = None
    failures: tuple[type[BaseException], ...] = (Exception,)
    """What a test raises when it fails; anything else (a skip, an interrupt) passes through untouched."""


SESSION: ContextVar[Session] = ContextVar("swarm session", default=Session())  # noqa: B039 - it is frozen
