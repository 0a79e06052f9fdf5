"""Work that a cancellation has to wait for."""

import asyncio

import pytest

from transport.finishing import finished


@pytest.mark.parametrize("cancellations", [1, 2, 3])
def test_work_goes_on_to_its_end_however_often_its_caller_is_cancelled(cancellations: int) -> None:
    async def story() -> None:
        may_end, done = asyncio.Event(), []

        async def work() -> None:
            await may_end.wait()
            done.append(1)

        caller = asyncio.create_task(finished(work()))
        for _ in range(cancellations):
            await asyncio.sleep(0)
            caller.cancel()
            await asyncio.sleep(0)
        assert not caller.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert done == [1]

    asyncio.run(story())


def test_a_cancelled_caller_is_not_told_that_the_work_failed() -> None:
    async def story() -> None:
        may_end = asyncio.Event()

        async def work() -> None:
            await may_end.wait()
            raise ValueError("nobody is left to be told")

        caller = asyncio.create_task(finished(work()))
        await asyncio.sleep(0)
        caller.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(story())
