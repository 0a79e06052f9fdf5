"""The writer's bell: a ring is never lost, and a pause is measured from the last wait on."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from lamport.doorbell import Doorbell
from simulations.loop import run_simulated

Story = Callable[[Doorbell, asyncio.AbstractEventLoop], Awaitable[None]]


def play(story: Story) -> None:
    async def with_bell() -> None:
        bell = Doorbell()
        try:
            await story(bell, asyncio.get_running_loop())
        finally:
            bell.close()

    run_simulated(with_bell(), Random(1))


def test_a_ring_before_the_wait_ends_the_next_one_and_only_that() -> None:
    async def story(bell: Doorbell, _: asyncio.AbstractEventLoop) -> None:
        bell.ring()
        bell.ring()
        assert await bell.rings_within(1.0)
        assert not await bell.rings_within(1.0)

    play(story)


def test_a_pause_lasts_as_long_as_asked_for_whatever_timer_stands() -> None:
    async def story(bell: Doorbell, loop: asyncio.AbstractEventLoop) -> None:
        for pause_s in (5.0, 1.0, 3.0):
            bell.ring()
            await bell.rings_within(7.0)
            loop.call_later(0.5, bell.ring)
            assert await bell.rings_within(4.0)
            start = loop.time()
            assert not await bell.rings_within(pause_s)
            assert loop.time() - start == pytest.approx(pause_s)

    play(story)


def test_a_wait_without_a_pause_goes_on_past_a_timer_that_stands() -> None:
    async def story(bell: Doorbell, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, bell.ring)
        assert await bell.rings_within(1.0)
        loop.call_later(60.0, bell.ring)
        assert await bell.rings_within(None)
        assert loop.time() == pytest.approx(60.5)

    play(story)


def test_a_ring_during_a_cancelled_wait_is_kept_for_the_next_one() -> None:
    async def story(bell: Doorbell, _: asyncio.AbstractEventLoop) -> None:
        wait = asyncio.ensure_future(bell.rings_within(1.0))
        await asyncio.sleep(0)
        bell.ring()
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert await bell.rings_within(1.0)

    play(story)
