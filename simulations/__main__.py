"""`python -m simulations`: run seeds, replay a failure.

    run --seeds 1..1000 [--nodes N] [--minutes M]     ends with `N seeds, M failed`
    replay FILE                                       plays a saved plan again
    planted [--seeds 1..1000]                         ends with `N planted, M found`

A seed that fails is made small and saved as `failing-SEED.json`. The exit status is 1 if one failed.
"""

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from simulations.errors import SimulationError
from simulations.plan import Plan, draw_plan, plan_value
from simulations.planted import BUGS, hunt
from simulations.play import Outcome, play, shrunk

SECONDS = 60.0


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
    failed, virtual_s, began = 0, 0.0, time.perf_counter()
    seeds = arguments.seeds
    for seed in seeds:
        plan = draw_plan(seed, nodes=arguments.nodes, seconds=arguments.minutes * SECONDS)
        outcome = play(plan)
        virtual_s += outcome.virtual_s
        if outcome.failure:
            failed += 1
            _report(outcome)
    rate = virtual_s / (time.perf_counter() - began)
    print(f"{virtual_s:.0f} s of virtual time at {rate:.0f} x real time")
    print(f"{len(seeds)} seeds, {failed} failed")
    return 1 if failed else 0


def _planted(arguments: Namespace) -> int:
    found = 0
    for bug in BUGS:
        outcome = hunt(bug, arguments.seeds)
        found += outcome is not None
        how = (
            "NOT FOUND" if outcome is None else f"seed {outcome.plan.seed}: {outcome.failure[:90]}"
        )
        print(f"{bug.name:40} {how}", flush=True)
    print(f"{len(BUGS)} planted, {found} found")
    return 0 if found == len(BUGS) else 1


def _replay(arguments: Namespace) -> int:
    outcome = play(Plan.read(arguments.file))
    for note in outcome.notes:
        if note.kind != "bytes":
            print(f"{note.at:10.3f}  {note.node:4} {note.kind:10} {note.text}")
    print(outcome.failure or f"kept all laws; digest {outcome.digest}")
    return 1 if outcome.failure else 0


def _report(outcome: Outcome) -> None:
    """Tell of a failure, make it small, and save it."""
    seed = outcome.plan.seed
    print(f"seed {seed}: {outcome.failure[:500]}\n  {plan_value(outcome.plan)}", flush=True)
    kind = outcome.failure.partition(":")[0]
    small = shrunk(outcome.plan, lambda plan: play(plan).failure.startswith(kind))
    path = Path(f"failing-{seed}.json")
    path.write_text(small.to_json(), "utf-8")
    print(f"  {len(small.operations)} operations are enough: replay {path}", flush=True)


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        return range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise ArgumentTypeError(f"seeds are given as 7 or 1..1000, not {text!r}") from None


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m simulations", description="Hardship from a seed.")
    sub = parser.add_subparsers(required=True, metavar="COMMAND")
    run = sub.add_parser("run", help="run seeds with all laws on")
    run.add_argument("--seeds", type=_seeds, default=_seeds("1..100"), metavar="A..B")
    run.add_argument("--nodes", type=int, metavar="N", help="drawn from the seed if not given")
    run.add_argument("--minutes", type=float, default=1.0, metavar="M", help="of hardship, virtual")
    run.set_defaults(command=_run)
    hunting = sub.add_parser("planted", help="plant bugs, and see the laws find them")
    hunting.add_argument("--seeds", type=_seeds, default=_seeds("1..1000"), metavar="A..B")
    hunting.set_defaults(command=_planted)
    replay = sub.add_parser("replay", help="play a saved plan again")
    replay.add_argument("file", type=Path, metavar="FILE")
    replay.set_defaults(command=_replay)
    return parser


sys.exit(main())
