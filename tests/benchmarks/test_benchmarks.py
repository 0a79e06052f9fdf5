"""The benchmarks yield the rows they promise, with figures that hang together. How fast anything is, no test says."""

import json
import math
import statistics
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from benchmarks import events, idle, publishing
from benchmarks.__main__ import main
from benchmarks.events import generate
from benchmarks.goals import GOALS, Side
from benchmarks.raw import encode
from benchmarks.report import Better, Pair, Report, Row
from benchmarks.rounds import p999, percentiles
from lamport.codec import encode_draft, encode_event
from lamport.event import draft

ROWS = {
    "append": {
        "append, batch 1, p50": "lower",
        "append, batch 1, p99": "lower",
        "append, batch 100": "higher",
        "append, batch 1,000": "higher",
        "append, 64 publishers": "higher",
        "append while merging and pruning, p99.9": "lower",
    },
    "query": {
        "query, tag of 1 % of the events, fresh": "lower",
        "query, tag of 1 % of the events": "lower",
        "query, rare tag": "lower",
        "query, rare tag, first page": "lower",
    },
    "scan": {"scan, all events": "higher"},
    "disk": {
        "disk per event, payload's own bytes": "lower",
        "disk per event, plain table": "lower",
    },
    "coldopen": {"cold open, page cache cold": "lower", "cold open, page cache warm": "lower"},
    "fold": {"fold, all events": "higher"},
    "reduce": {"reduce, all events": "higher", "reduce, calls": "lower"},
    "timetravel": {
        "time travel, 100 late": "lower",
        "time travel, 10 late": "lower",
        "calls, 100 late": "lower",
        "calls, 10 late": "lower",
    },
    "catchup-replay": {"catch-up replay": "lower", "catch-up replay, calls": "lower"},
    "coldstart": {"cold start of a fish": "lower"},
    "fishes": {"memory of a live fish": "lower", "dispatch of one event": "lower"},
    "replicate": {
        "replicate, catch-up": "higher",
        "replicate, delivery of one event, p50": "lower",
        "replicate, delivery of one event, p99": "lower",
    },
    "latency": {
        "replicate, delivery of one event, p50": "lower",
        "replicate, delivery of one event, p99": "lower",
        "latency, delivery of one event beside a flood, p50": "lower",
        "latency, delivery of one event beside a flood, p99": "lower",
        "latency, append at the receiver beside a flood, p50": "lower",
        "latency, append at the receiver beside a flood, p99": "lower",
    },
    "stalled": {
        "stalled, append beside a stalled peer, p50": "lower",
        "stalled, append beside a stalled peer, p99": "lower",
        "stalled, delivery to others beside a stalled peer, p50": "lower",
        "stalled, delivery to others beside a stalled peer, p99": "lower",
    },
    "catchup": {"catchup, all events": "higher", "catchup, resident memory": "lower"},
    "idle": {
        "idle, bytes sent per node and second": "lower",
        "idle, reconnecting with nothing new": "lower",
    },
    "publish-under-peers": {
        "publish under peers, p50": "lower",
        "publish under peers, p99": "lower",
    },
    "machines": {
        "machines, fold of 20 states": "higher",
        "machines, memory of an instance": "lower",
        "machines, an event for each instance": "higher",
        "machines, send that settles at once, p50": "lower",
        "machines, send that settles at once, p99": "lower",
        "machines, send among many instances, p50": "lower",
        "machines, send among many instances, p99": "lower",
    },
}
EVENTS = 250  # enough that all tags that are asked for occur
DOCS = Path(__file__).parents[2] / "docs/benchmarks.md"
UNITS = {"higher": "events/s", "lower": "ms"}


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(events, "SETTLING_EVENTS", 100)
    monkeypatch.setattr(idle, "SETTLING_S", 1.0)
    monkeypatch.setattr(idle, "SECONDS", 5.0)
    monkeypatch.setattr(publishing, "PAUSE_S", 0.01)
    for module in (idle, publishing):
        monkeypatch.setattr(module, "NODES", 3)
    events.settling.cache_clear()
    yield
    events.settling.cache_clear()


def unit_of(benchmark: str, row: dict[str, Any]) -> str:
    if "calls" in row["name"]:
        return "calls"
    if "per node and second" in row["name"]:
        return "bytes/s"
    is_size = benchmark in ("disk", "idle") or "memory" in row["name"]
    return "bytes" if is_size else UNITS[row["better"]]


@pytest.mark.parametrize("benchmark", ["reduce", "timetravel", "catchup-replay"])
def test_reducer_calls_stay_within_their_exact_figures(
    benchmark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(run(capsys, benchmark, "--json"))["rows"]
    counted = [row for row in rows if row["unit"] == "calls"]
    assert counted
    assert all(row["met"] for row in counted)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--events", str(EVENTS), "--runs", "1"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("benchmark", ROWS)
def test_json_gives_each_row_with_its_bound_and_ratio(
    benchmark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report: dict[str, Any] = json.loads(run(capsys, benchmark, "--json"))

    assert report["benchmark"] == benchmark
    assert report["events"] == EVENTS
    assert set(report["machine"]) == {"python", "sqlite", "platform", "cpus"}
    assert report["measured"]
    assert report["left_out"]
    assert {row["name"]: row["better"] for row in report["rows"]} == ROWS[benchmark]
    for row in report["rows"]:
        assert row["unit"] == unit_of(benchmark, row)
        assert row["ours"] > 0
        assert row["bound"] > 0
        assert math.isclose(row["ratio"], row["ours"] / row["bound"])
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
        assert row["runs"] == 1
        assert row["samples"] == [[row["ours"], row["bound"]]]


def test_the_table_names_every_row_and_what_was_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = run(capsys, "fold")

    assert all(name in text for name in ROWS["fold"])
    assert "Measured: " in text
    assert "Left out: " in text
    assert "Machine: " in text


@pytest.mark.parametrize("arguments", [["--events", "0"], ["--runs", "-1"], ["--events", "many"]])
def test_sizes_are_numbers_from_one_on(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fold", *arguments])


def test_a_row_divides_medians_and_the_spread_is_of_the_single_runs() -> None:
    row = Row("some", "events/s", Better.HIGHER, (Pair(10, 20), Pair(30, 40), Pair(20, 80)))

    assert (row.ours, row.bound, row.ratio) == (20, 40, 0.5)
    assert (min(row.ratios), max(row.ratios)) == (0.25, 0.75)


def test_the_table_is_aligned() -> None:
    rows = (
        Row("a", "ms", Better.LOWER, (Pair(0.25, 0.125),)),
        Row("a long name", "events/s", Better.HIGHER, (Pair(12_345, 123_456),)),
    )
    head, first, second = Report("some", 1, rows, "this", "that").to_text().splitlines()[1:4]

    assert first.split() == ["a", "0.25", "0.125", "2.00", "2.00..2.00", "ms", "lower"]
    assert second.split()[3:] == ["12,345", "123,456", "0.10", "0.10..0.10", "events/s", "higher"]
    assert head.index("unit") == first.index("ms") == second.index("events/s")


def test_p99_is_exceeded_by_one_in_a_hundred() -> None:
    latencies = [float(n) for n in range(1, 201)]

    assert percentiles("x", latencies) == {"x, p50": 100.5, "x, p99": 198.0}
    assert percentiles("x", [3.0]) == {"x, p50": 3.0, "x, p99": 3.0}


def test_p999_is_exceeded_by_one_in_a_thousand() -> None:
    assert p999("x", [float(n) for n in range(1, 2_001)]) == {"x, p99.9": 1_998.0}
    assert p999("x", [3.0]) == {"x, p99.9": 3.0}


@pytest.mark.parametrize(
    ("name", "unit", "pair", "goal", "verdict"),
    [
        ("append, batch 1,000", "events/s", Pair(60, 100), ">= 0.6 x", "met"),
        ("append, batch 1,000", "events/s", Pair(59, 100), ">= 0.6 x", "missed"),
        ("append, batch 1, p50", "ms", Pair(5, 2), "<= 2.5 x", "met"),
        ("append, batch 1, p50", "ms", Pair(5.1, 2), "<= 2.5 x", "missed"),
        ("append while merging and pruning, p99.9", "ms", Pair(50, 1), "<= 50 ms", "met"),
        ("append while merging and pruning, p99.9", "ms", Pair(51, 99), "<= 50 ms", "missed"),
        ("time travel, 10 late", "ms", Pair(7, 2), "<= 3 x + 1 ms", "met"),
        ("time travel, 10 late", "ms", Pair(7.1, 2), "<= 3 x + 1 ms", "missed"),
        ("catchup, all events", "events/s", Pair(16_600, 1), ">= 16,667 events/s", "missed"),
        ("append, batch 100", "events/s", Pair(1, 100), "", ""),
    ],
)
def test_the_table_says_whether_a_row_reaches_its_goal(
    name: str, unit: str, pair: Pair, goal: str, verdict: str
) -> None:
    report = Report("some", 1, (Row(name, unit, Better.LOWER, (pair,)),), "this", "that")
    line = report.to_text().splitlines()[2]

    assert line.removeprefix(name).split()[3:-3] == [*goal.split(), *verdict.split()]


def test_json_carries_the_goal_with_its_side_and_limit_and_whether_it_is_met() -> None:
    rows = (
        Row("time travel, 10 late", "ms", Better.LOWER, (Pair(8, 2),)),
        Row("append, batch 100", "events/s", Better.HIGHER, (Pair(1, 2),)),
    )
    judged, other = json.loads(Report("some", 1, rows, "this", "that").to_json())["rows"]

    assert judged["goal"] == {"side": "<=", "factor": 3, "plus": 1, "limit": 7}
    assert judged["met"] is False
    assert other["goal"] is None
    assert other["met"] is None


def test_the_docs_set_their_figures_beside_the_goals_of_the_table() -> None:
    _, _, figures = DOCS.read_text("utf-8").partition("| row | ours | bound | unit | ratio |")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in figures.splitlines()[2:]]
    assert lines
    for name, ours, bound, unit, _ratio, goal, verdict, _spread, better in lines:
        pair = Pair(float(ours.replace(",", "")), float(bound.replace(",", "")))
        row = Row(name, unit, Better(better), (pair,))
        line = Report("some", 1, (row,), "this", "that").to_text().splitlines()[2]
        assert line.removeprefix(name).split()[3:-3] == [*goal.split(), *verdict.split()]


def test_every_goal_is_of_a_row_and_on_the_side_where_it_is_better() -> None:
    better = {name: side for rows in ROWS.values() for name, side in rows.items()}
    for late in ("1,000", "10,000"):  # beyond the short logs of these tests
        better |= {f"time travel, {late} late": "lower", f"calls, {late} late": "lower"}

    sides = {Side.AT_LEAST: "higher", Side.AT_MOST: "lower"}
    assert {name: sides[goal.side] for name, goal in GOALS.items()} == {
        name: better[name] for name in GOALS
    }


def test_the_same_seed_gives_the_same_events() -> None:
    assert generate(500, seed=7) == generate(500, seed=7)
    assert generate(500, seed=7)[:100] == generate(100, seed=7)
    assert generate(500, seed=7) != generate(500, seed=8)


def test_payloads_have_about_200_bytes_and_three_tags() -> None:
    samples = generate(5_000)
    sizes = [len(msgpack.packb(payload)) for _, payload in samples]

    assert 190 <= statistics.mean(sizes) <= 210
    assert min(sizes) >= 150
    assert max(sizes) <= 250
    assert all(len(tags) == 3 for tags, _ in samples)
    assert all(draft(tags, payload).tags == tags for tags, payload in samples[:200])


def test_ids_are_fresh_and_payloads_compress_as_real_ones_do() -> None:
    samples = generate(5_000)
    together = b"".join(msgpack.packb(payload) for _, payload in samples)
    factor = len(together) / len(zlib.compress(together, 9))

    assert len({payload["id"] for _, payload in samples}) == len(samples)
    assert 2 <= factor <= 4


def test_clocks_jitter() -> None:
    times = [payload["at"] for _, payload in generate(500)]

    assert times != sorted(times)


def test_the_bound_writes_the_bytes_that_the_log_writes() -> None:
    [sample] = generate(1)

    assert encode([sample], 5, 17) == [encode_event(5, 17, encode_draft(draft(*sample)))]
