"""Work that is finished though whoever waits for it is cancelled.

A link that ends takes its tasks with it, wherever they stand. What has begun to change the disk must then still change
what this node goes by, and pass it on: else the two differ until the next start. The canceller waits for it meanwhile.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def finished(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of some work, which goes on to its end before a cancellation goes through, or several."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(
                asyncio.CancelledError
            ):  # a node that stops cancels what its links have cancelled before
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to be told
        raise
