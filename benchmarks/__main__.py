"""The command line of the benchmarks: `python -m benchmarks NAME`."""

import argparse
import sys
from collections.abc import Sequence

from benchmarks import (
    append,
    catchup,
    catchup_peer,
    coldopen,
    coldstart,
    disk,
    fishes,
    fold,
    idle,
    latency,
    library,
    machines,
    publishing,
    query,
    reduce,
    replicate,
    scan,
    stalled,
    timetravel,
)
from shoal.system import relax_collector

RUNS = 7
"""Runs of ours and of the bound; fewer say little."""

_BENCHMARKS = {
    "append": (append.measure, append.EVENTS),
    "query": (query.measure, library.EVENTS),
    "scan": (scan.measure, library.EVENTS),
    "disk": (disk.measure, library.EVENTS),
    "coldopen": (coldopen.measure, library.EVENTS),
    "fold": (fold.measure, library.EVENTS),
    "reduce": (reduce.measure, fold.EVENTS),
    "timetravel": (timetravel.measure, fold.EVENTS),
    "catchup-replay": (catchup.measure, fold.EVENTS),
    "coldstart": (coldstart.measure, library.EVENTS),
    "fishes": (fishes.measure, fishes.FISH),
    "latency": (latency.measure, latency.EVENTS),
    "catchup": (catchup_peer.measure, catchup_peer.EVENTS),
    "idle": (idle.measure, idle.EVENTS),
    "publish-under-peers": (publishing.measure, publishing.EVENTS),
    "stalled": (stalled.measure, stalled.EVENTS),
    "replicate": (replicate.measure, replicate.EVENTS),
    "machines": (machines.measure, machines.EVENTS),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark and print what it found."""
    asked = _parser().parse_args(arguments)
    relax_collector()  # as the daemon does; the bounds gain by it, too
    measure, usual_events = _BENCHMARKS[asked.benchmark]
    report = measure(asked.events or usual_events, asked.runs)
    print(report.to_json() if asked.json else report.to_text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Our figures, the raw bounds from the same run, and their ratios.",
    )
    parser.add_argument("benchmark", choices=_BENCHMARKS)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--events", type=_positive, help="events of a run")
    parser.add_argument("--runs", type=_positive, default=RUNS, help=f"runs (default: {RUNS})")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a number from 1 on, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
