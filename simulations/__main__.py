"""`python -m simulations`: run seeds, replay a failure.

    run --seeds 1..1000 [--nodes N] [--minutes M]     ends with `N seeds, M failed`
    replay FILE [--svg FILE]                          plays a saved plan again
    planted [--seeds 1..1000]                         ends with `N planted, M found`
    gossip [--nodes N] [--events N] [--seed N]        how news spread through a large swarm, in virtual time
    story [NAME] [--seed N] [--svg FILE]              tells a story as text, and draws it; lists them without a name

A seed that fails is made small, saved as `failing-SEED.json` and drawn as `failing-SEED.svg`. The exit status is 1 if
one failed, or if a thousand seeds never came to one of the interesting states (`run --markers` counts them).
"""

import logging
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from simulations.campaign import Scope, Summary, hunted, keep_failure, played
from simulations.errors import SimulationError
from simulations.gossip import measure
from simulations.markers import MARKERS
from simulations.picture import draw_svg
from simulations.plan import Plan, plan_value
from simulations.planted import BUGS
from simulations.play import Outcome, play
from simulations.stories import STORIES, tell
from simulations.telling import draw_text

SECONDS = 60.0

MAX_MINUTES = 1_440
"""A day; a plan of it is as long as a plan should be."""

MAX_SHRUNK = 5
"""Failures of one campaign that are made small; who has so many knows where to look."""


def main() -> int:
    """Run one command."""
    arguments = _parser().parse_args()
    try:
        status: int = arguments.command(arguments)
    except SimulationError as error:
        print(f"simulations: {error}", file=sys.stderr)
        return 1
    return status


def _run(arguments: Namespace) -> int:
    summary, began = Summary(), time.perf_counter()
    scope = Scope(arguments.nodes, arguments.minutes * SECONDS, every_kind=arguments.every_kind)
    for outcome in played(arguments.seeds, scope, arguments.jobs):
        summary.add(outcome)
        if outcome.failure:
            _report(outcome, shrink=summary.failed <= MAX_SHRUNK)
    rate = summary.virtual_s / (time.perf_counter() - began)
    if arguments.markers:
        for marker in MARKERS:
            print(f"{summary.markers[marker.name]:6} {marker.name}")
    for name in summary.missed:
        print(f"never reached: {name}")
    print(f"{summary.virtual_s:.0f} s of virtual time at {rate:.0f} x real time")
    print(f"{summary.seeds} seeds, {summary.failed} failed")
    return 1 if summary.failed or summary.missed else 0


def _planted(arguments: Namespace) -> int:
    found = 0
    for name, outcome in hunted(arguments.seeds, arguments.jobs):
        found += outcome is not None
        how = (
            "NOT FOUND" if outcome is None else f"seed {outcome.plan.seed}: {outcome.failure[:90]}"
        )
        print(f"{name:44} {how}", flush=True)
    print(f"{len(BUGS)} planted, {found} found")
    return 0 if found == len(BUGS) else 1


def _replay(arguments: Namespace) -> int:
    outcome = play(Plan.read(arguments.file), keeps=True)
    print(draw_text(outcome.notes, title=str(arguments.file)), end="")
    if arguments.svg:
        arguments.svg.write_text(draw_svg(outcome.notes, title=str(arguments.file)), "utf-8")
    print(outcome.failure or f"kept all laws; digest {outcome.digest}")
    return 1 if outcome.failure else 0


def _gossip(arguments: Namespace) -> int:
    logging.getLogger("shoal").setLevel(logging.CRITICAL)  # links end here on purpose
    print(measure(arguments.seed, arguments.nodes, arguments.events).to_text())
    return 0


def _report(outcome: Outcome, *, shrink: bool) -> None:
    """Tell of a failure; make it small, save it and draw it, unless there are enough of them."""
    seed = outcome.plan.seed
    print(f"seed {seed}: {outcome.failure[:500]}\n  {plan_value(outcome.plan)}", flush=True)
    if not shrink:
        return
    small, saved, drawn = keep_failure(outcome, Path())
    print(f"  {len(small.operations)} operations are enough: replay {saved}, see {drawn}")


def _story(arguments: Namespace) -> int:
    """Tell one story, named by the beginning of its name, or list all."""
    named = [name for name in STORIES if arguments.name and name.startswith(arguments.name)]
    if not arguments.name:
        for name, story in STORIES.items():
            print(f"{name:30} {story.shows}")
        return 0
    if len(named) != 1:
        print(f"simulations: {arguments.name} names {len(named)} stories", file=sys.stderr)
        return 2
    story = STORIES[named[0]]
    logging.getLogger("shoal").setLevel(logging.CRITICAL)  # links end here on purpose
    notes = tell(story, arguments.seed).notes
    print(draw_text(notes, title=story.shows), end="")
    if arguments.svg:
        arguments.svg.write_text(draw_svg(notes, title=story.shows), "utf-8")
    return 0


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise ArgumentTypeError(f"seeds are given as 7 or 1..1000, not {text!r}")
    return seeds


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"a number from {least} on is due, not {text!r}")
        return int(text)

    return number


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= MAX_MINUTES:
        raise ArgumentTypeError(f"minutes are above 0 and up to {MAX_MINUTES}, not {text!r}")
    return minutes


def _add_jobs(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        type=_at_least(1),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes at once",
    )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m simulations", description="Hardship from a seed.")
    sub = parser.add_subparsers(required=True, metavar="COMMAND")
    run = sub.add_parser("run", help="run seeds with all laws on")
    run.add_argument("--seeds", type=_seeds, default=_seeds("1..100"), metavar="A..B")
    run.add_argument(
        "--nodes", type=_at_least(2), metavar="N", help="drawn from the seed if not given"
    )
    run.add_argument(
        "--minutes", type=_minutes, default=1.0, metavar="M", help="of hardship, virtual"
    )
    run.add_argument(
        "--every-kind", action="store_true", help="of hardship, not what the seed draws"
    )
    run.add_argument("--markers", action="store_true", help="count the interesting states")
    _add_jobs(run)
    run.set_defaults(command=_run)
    hunting = sub.add_parser("planted", help="plant bugs, and see the laws find them")
    hunting.add_argument("--seeds", type=_seeds, default=_seeds("1..1000"), metavar="A..B")
    _add_jobs(hunting)
    hunting.set_defaults(command=_planted)
    replay = sub.add_parser("replay", help="play a saved plan again")
    replay.add_argument("file", type=Path, metavar="FILE")
    replay.add_argument("--svg", type=Path, metavar="FILE", help="where to draw it")
    replay.set_defaults(command=_replay)
    gossip = sub.add_parser("gossip", help="how news spread through a large swarm")
    gossip.add_argument("--nodes", type=_at_least(8), default=100, metavar="N")
    gossip.add_argument("--events", type=_at_least(10), default=200, metavar="N")
    gossip.add_argument("--seed", type=int, default=1, metavar="N")
    gossip.set_defaults(command=_gossip)
    story = sub.add_parser("story", help="tell a story as text, and draw it")
    story.add_argument("name", nargs="?", default="", metavar="NAME", help="listed if not given")
    story.add_argument("--seed", type=int, default=1, metavar="N")
    story.add_argument("--svg", type=Path, metavar="FILE", help="where to draw it")
    story.set_defaults(command=_story)
    return parser


if __name__ == "__main__":  # the worker processes import this file, too
    sys.exit(main())
