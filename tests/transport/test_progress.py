"""Rates and times of what is being fetched."""

import pytest

from lamport.ids import StreamId
from tests.lamport.keys import member
from transport.progress import AVERAGED_S, MAX_METERS, Meter, Meters, StreamProgress

NODE = member("ada").node


def test_a_steady_stream_shows_its_rate() -> None:
    meter = Meter()
    for step in range(200):
        meter.add(50, step / 10)
    assert meter.rate(19.9) == pytest.approx(500, rel=0.03)


def test_a_rate_dies_down_when_nothing_comes() -> None:
    meter = Meter()
    meter.add(1_000, 0.0)
    assert meter.rate(AVERAGED_S) < meter.rate(0.0)
    assert meter.rate(100.0) == 0.0


def test_the_rates_of_so_many_streams_are_kept() -> None:
    meters = Meters()
    streams = [StreamId(NODE, number) for number in range(MAX_METERS + 1)]
    for stream in streams:
        meters.add(stream, 10, 0.0)
    assert meters.rate(streams[0], 0.0) == 0.0
    assert meters.rate(streams[-1], 0.0) > 0
    assert meters.all.rate(0.0) == pytest.approx(10 * len(streams) / AVERAGED_S)


def test_of_what_does_not_come_nobody_says_when_it_is_here() -> None:
    assert StreamProgress(StreamId(NODE, 1), 9, 4, 5, 0.0).remaining_s is None
    assert StreamProgress(StreamId(NODE, 1), 9, 4, 5, 2.5).remaining_s == 2
