"""Until when a feed holds back for a catch-up."""

import asyncio

from fish.feed import Feed
from lamport.follower import Batch
from lamport.offsets import OffsetMap
from tests.fish.memory_log import NODE, event_of

FIRST, SECOND = event_of(1, 1, 0, None), event_of(1, 2, 1, None)
HALF, ALL = OffsetMap({FIRST.stream: 0}), OffsetMap({FIRST.stream: 1})


def test_a_catch_up_that_is_called_over_ends_when_all_of_it_was_spread() -> None:
    async def story() -> None:
        feed = Feed(NODE, OffsetMap())
        with feed.catching_up(lambda: ALL):
            feed.spread(Batch((FIRST,), HALF))
        assert (feed.is_holding, feed.is_catching_up) == (True, True)
        feed.spread(Batch((SECOND,), ALL))
        assert (feed.is_holding, feed.is_catching_up) == (False, False)

    asyncio.run(story())


def test_one_that_begins_while_another_is_past_its_bounds_holds_again() -> None:
    async def story() -> None:
        feed = Feed(NODE, OffsetMap())
        with feed.catching_up(lambda: ALL):
            feed._release()  # noqa: SLF001 - what the timers do
            assert not feed.is_holding
            with feed.catching_up(lambda: ALL):
                assert feed.is_holding

    asyncio.run(story())
