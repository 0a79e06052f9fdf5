"""The daemon: a node, its fish and its control API, from the lock on the data folder to an orderly stop.

SIGTERM and SIGINT stop it, and SIGHUP unless it was started with `nohup`; so does a failing disk. A stop that is not
through within its limit is cut short: whatever was acknowledged is on the disk already.
"""

import asyncio
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack

from lamport.errors import LogClosed, StoreError
from shoal.api import ControlApi
from shoal.control import Control, draw_token, written_control
from shoal.folder import locked_folder, read_folder
from shoal.hosting import load_fish, load_upcasters
from shoal.node import Node
from shoal.settings import Settings
from shoal.system import relax_collector, system_seams

STOP_LIMIT_S = 4.5
"""A stop takes less than 5 s, whatever hangs."""

_log = logging.getLogger("shoal.daemon")


async def run_daemon(settings: Settings, announce: Callable[[str], None]) -> None:
    """Run until told to stop. `announce` gets one line once everything listens.

    Raises:
        FolderError, FolderInUse, IdentityError, StoreMismatch, LocalFault, FishNotLoaded: it cannot start; the text
            says what to do.
        StoreError: the disk failed while it ran.
    """
    relax_collector()
    fish, upcasters = load_fish(settings.fish), load_upcasters(settings.upcasters)
    identity = read_folder(settings.data)
    async with AsyncExitStack() as stack:
        stack.enter_context(locked_folder(settings.data))
        stopped = _stop_signal()
        seams = system_seams(settings.data, identity, listen=settings.listen, mdns=settings.mdns)
        node = await stack.enter_async_context(
            Node(
                identity,
                seams,
                peers=settings.peers,
                announced=settings.announce,
                routes=settings.routes,
                upcasters=upcasters,
            )
        )
        for one in fish.values():
            stack.enter_context(node.pond.observe(one))
        token = draw_token(random.SystemRandom())
        api = ControlApi(node, fish, token, settings.data)
        address = await stack.enter_async_context(api.served(settings.api))
        stack.enter_context(written_control(settings.data, Control(address, token)))
        announce(f"node {node.id} listens at {node.listening}, control API at {address}")
        await stopped.wait()


def _stop_signal() -> asyncio.Event:
    """An event that the signals which stop a daemon set; from then on the clock for stopping runs.

    The handlers are the interpreter's and the clock is a thread's: a reducer that never returns blocks the event loop.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: object) -> None:
        cutting = threading.Timer(STOP_LIMIT_S, _cut_short)
        cutting.daemon = True
        cutting.start()
        loop.call_soon_threadsafe(stopped.set)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    return stopped


def _cut_short() -> None:
    _log.error("the stop took longer than %.1f s and is cut short", STOP_LIMIT_S)
    logging.shutdown()
    if sys.stdout is not None:
        sys.stdout.flush()
    os._exit(os.EX_SOFTWARE)


def unwrapped(error: BaseException) -> BaseException:
    """The most telling error of a group: one of the disk before others, those before what merely followed from it."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [unwrapped(inner) for inner in error.exceptions]
    return min(leaves, key=_telling)


def _telling(error: BaseException) -> int:
    return 0 if isinstance(error, StoreError) else 2 if isinstance(error, LogClosed) else 1
