"""Random histories of several streams, and ways in which they can arrive."""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st

from lamport.event import Event
from tests.fish.memory_log import event_of

patient = settings(deadline=None)
"""For every law: how long an example takes is the machine's affair."""


@st.composite
def histories(draw: st.DrawFn, *, resets: bool = True, most: int = 12) -> list[list[Event]]:
    """Per stream its events: offsets without gaps, timestamps that rise, here and there one that does not match."""
    streams = []
    for number in range(draw(st.integers(1, 4))):
        events, lamport = [], 0
        for offset in range(draw(st.integers(0, most))):
            lamport += draw(st.integers(1, 4))
            payload = (draw(st.integers(0, 99)), resets and draw(st.integers(0, 7)) == 0)
            tag = "other" if draw(st.integers(0, 4)) == 0 else "a"
            events.append(event_of(number, lamport, offset, payload, tag))
        streams.append(events)
    return streams


@st.composite
def arrivals(draw: st.DrawFn, streams: Sequence[Sequence[Event]]) -> list[list[Event]]:
    """The events of these streams as batches: each stream in its order, the streams mixed in any way."""
    turns = draw(st.permutations([n for n, stream in enumerate(streams) for _ in stream]))
    waiting = [list(stream) for stream in streams]
    order = [waiting[turn].pop(0) for turn in turns]
    ends = draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    batches: list[list[Event]] = [[]]
    for event, is_end in zip(order, ends, strict=True):
        batches[-1].append(event)
        if is_end:
            batches.append([])
    return [sorted(batch, key=lambda event: event.key) for batch in batches if batch]


@st.composite
def arriving_histories(draw: st.DrawFn, *, resets: bool = True) -> list[list[Event]]:
    """Batches of a random history."""
    return draw(arrivals(draw(histories(resets=resets))))
