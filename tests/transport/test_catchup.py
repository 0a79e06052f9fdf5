"""What counts as one catch-up, and when it is over."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from lamport.chain import Head, genesis
from lamport.ids import StreamId
from tests.lamport.keys import Author, member
from transport.catchup import ROUND_EVENTS, ROUND_S, WORTH_EVENTS, CatchUp

ONE, OTHER = Author(member("ada")).stream, Author(member("bob")).stream
PEER, SECOND = object(), object()
FAR = WORTH_EVENTS + 8


@dataclass
class Layer:
    """Whoever folds events: hears what is announced."""

    heard: list[str] = field(default_factory=list)
    held: dict[StreamId, int] = field(default_factory=dict)

    def head(self, stream: StreamId) -> Head:
        start = genesis(bytes(32), stream)
        return Head(stream, self.held.get(stream, -1), start.hash)

    @contextmanager
    def announced(self) -> Iterator[None]:
        self.heard.append("begins")
        yield
        self.heard.append("ends")


def begun(told: Mapping[StreamId, int]) -> tuple[Layer, CatchUp]:
    layer = Layer()
    catch_up = CatchUp(layer.head, layer.announced)
    catch_up.hear(PEER, told, 0.0)
    return layer, catch_up


def take(layer: Layer, catch_up: CatchUp, stream: StreamId, offset: int) -> None:
    before = layer.held.get(stream, -1)
    layer.held[stream] = offset
    catch_up.took(stream, offset - before)


def test_a_few_events_are_no_catch_up() -> None:
    layer, catch_up = begun({ONE: WORTH_EVENTS - 2})
    take(layer, catch_up, ONE, WORTH_EVENTS - 2)
    assert layer.heard == []


def test_a_few_of_each_of_many_streams_are_one() -> None:
    layer, catch_up = begun({ONE: WORTH_EVENTS // 2, OTHER: WORTH_EVENTS // 2})
    take(layer, catch_up, ONE, WORTH_EVENTS // 2)
    assert layer.heard == ["begins"]
    take(layer, catch_up, OTHER, WORTH_EVENTS // 2)
    assert layer.heard == ["begins", "ends"]
    assert not catch_up.is_open


def test_what_several_peers_tell_is_one_catch_up() -> None:
    layer, catch_up = begun({ONE: FAR})
    catch_up.hear(SECOND, {ONE: FAR + 1, OTHER: FAR}, 0.0)
    take(layer, catch_up, ONE, FAR)
    take(layer, catch_up, OTHER, FAR)
    assert layer.heard == ["begins"]
    take(layer, catch_up, ONE, FAR + 1)
    assert layer.heard == ["begins", "ends"]


def test_a_peer_that_leaves_takes_along_what_only_it_had() -> None:
    layer, catch_up = begun({ONE: FAR})
    catch_up.hear(SECOND, {OTHER: 3}, 0.0)
    catch_up.gone(PEER)
    assert layer.heard == ["begins"]
    take(layer, catch_up, OTHER, 3)
    assert layer.heard == ["begins", "ends"]


def test_what_can_no_longer_be_had_is_not_waited_for() -> None:
    layer, catch_up = begun({ONE: FAR, OTHER: FAR})
    catch_up.review(PEER, lambda stream: stream == ONE, 1.0)
    take(layer, catch_up, ONE, FAR)
    assert layer.heard == ["begins", "ends"]


def test_a_long_catch_up_goes_on_in_rounds_and_one_that_trickles_does_not() -> None:
    layer, catch_up = begun({ONE: 10 * ROUND_EVENTS})
    take(layer, catch_up, ONE, ROUND_EVENTS)
    catch_up.review(PEER, lambda _: True, ROUND_S)
    assert layer.heard == ["begins", "begins", "ends"]
    take(layer, catch_up, ONE, ROUND_EVENTS + 1)
    catch_up.review(PEER, lambda _: True, 2 * ROUND_S)
    assert layer.heard == ["begins", "begins", "ends"]
    catch_up.gone(PEER)
    assert layer.heard == ["begins", "begins", "ends", "ends"]
