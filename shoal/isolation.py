"""Processes for isolated fish: what they are at can be ended, whatever it is.

The way of a request. The process is forked from this one when the first request comes, and so it has the fish's code as
it is here, closures included. A thread of the cell sends the request through a pipe and waits for the answer; a word of
shared memory says at which event the process is. One that does not move on is killed. What is forked keeps none of our
sockets and files, takes no signals meant for us, and ends when we do.

Isolation needs a system that can fork; where there is none, an isolated fish stops with an error that says so.
"""

import asyncio
import ctypes
import gc
import logging
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, NamedTuple, TypeVar

from fish.errors import IsolationError, Lost
from fish.oversight import CellWork

TICK_S = 0.25
"""So often it is looked at how far a process has come."""

REPORT_TICKS = 3
"""A process that has not moved on for so many ticks is reported: within the second."""

STANDSTILL_TICKS = 40
"""One that has not for so many, ten seconds, is killed: it holds nobody up, and may yet come to an end."""

_PARENT_DEATH_SIGNAL = 1
"""`PR_SET_PDEATHSIG` of Linux: a process that loops for ever does not notice that its pipe was closed."""

_MARK_BYTES = 8

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")

_LOGGER = logging.getLogger("shoal.fish")


class _Process(NamedTuple):
    """A process at work, our end of its pipe, and how far it has come."""

    process: BaseProcess
    pipe: "Connection[Any, Any]"
    mark: mmap.mmap


class ProcessCell(Generic[_Request, _Answer]):
    """A cell that is a process. See `fish.oversight.Cell`."""

    def __init__(
        self,
        work: CellWork[_Request, _Answer],
        name: str,
        *,
        tick_s: float = TICK_S,
        standstill_ticks: int = STANDSTILL_TICKS,
    ) -> None:
        self.life = 0
        self._work = work
        self._name = name
        self._tick_s = tick_s
        self._standstill_ticks = standstill_ticks
        self._process: _Process | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def ask(self, request: _Request, place: Callable[[int], str]) -> _Answer:
        """See `Cell.ask`."""
        if self._process is None:
            # Here and not in the thread: it is to end with the thread that forked it.
            self._process = _forked(self._work, self._name)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, f"isolated {self._name}")
        loop = asyncio.get_running_loop()
        try:
            answer: _Answer = await loop.run_in_executor(
                self._thread, self._exchange, self._process, request, place
            )
        except Lost:
            self._end()
            raise
        return answer

    def close(self) -> None:
        """See `Cell.close`."""
        self._end()
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _end(self) -> None:
        process, self._process = self._process, None
        self.life += 1
        if process is not None:
            process.process.kill()
            assert self._thread is not None, "it was asked something"
            self._thread.submit(_bury, process)

    def _exchange(
        self, process: _Process, request: _Request, place: Callable[[int], str]
    ) -> _Answer:
        """Send a request and wait for its answer; in the cell's thread."""
        _set_mark(process.mark, 0)
        try:
            process.pipe.send_bytes(_packed(request))
            self._wait(process, place)
            answer: _Answer = _unpacked(process.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            process.process.join(self._tick_s)
            text = f"its process died (exit code {process.process.exitcode})"
            raise Lost(_mark_of(process.mark), text, stood_still=False) from error
        return answer

    def _wait(self, process: _Process, place: Callable[[int], str]) -> None:
        """Wait for an answer, as long as the process moves on."""
        mark, ticks = -1, 0
        while not process.pipe.poll(self._tick_s):
            now = _mark_of(process.mark)
            mark, ticks = now, ticks + 1 if now == mark else 1
            if ticks == REPORT_TICKS:
                _LOGGER.error("%s takes long, in a process of its own", place(mark))
            if ticks > self._standstill_ticks:
                text = f"no answer for {ticks * self._tick_s:.1f} s: its process was killed"
                raise Lost(mark, text, stood_still=True)


def _forked(work: CellWork[Any, Any], name: str) -> _Process:
    if "fork" not in multiprocessing.get_all_start_methods():
        raise IsolationError("this system cannot fork: give up `isolated` on it")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    mark = mmap.mmap(-1, _MARK_BYTES)
    process = context.Process(target=_serve, args=(theirs, work, mark), name=name, daemon=True)
    with warnings.catch_warnings():
        # It warns of locks that other threads hold: what is forked takes none of them, it folds.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return _Process(process, ours, mark)


def _bury(process: _Process) -> None:
    """Take note that a process has ended, and close what led to it."""
    process.process.join()
    process.process.close()
    process.pipe.close()
    process.mark.close()


def _serve(pipe: "Connection[Any, Any]", work: CellWork[Any, Any], mark: mmap.mmap) -> None:
    """Answer requests until nobody asks any more; the forked process."""
    _let_go(pipe.fileno())
    with suppress(EOFError, OSError):
        while True:
            request = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the process that forked this one
            answer = work(request, lambda number: _set_mark(mark, number))
            pipe.send_bytes(_answer_bytes(answer))


def _let_go(pipe: int) -> None:
    """Keep nothing of what belongs to the process that this one was forked from."""
    gc.freeze()  # sockets and files that are collected here would close what is opened under their numbers
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))


def _packed(request: object) -> bytes:
    try:
        return pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise IsolationError(f"the state cannot be sent to its process: {error}") from error


def _answer_bytes(answer: object) -> bytes:
    try:
        return _packed(answer)
    except IsolationError as error:
        return _packed(_Unsendable(str(error)))


class _Unsendable(NamedTuple):
    """What comes in the place of an answer that cannot be sent."""

    text: str


def _unpacked(data: bytes) -> Any:
    try:
        answer = pickle.loads(data)  # noqa: S301 - from a process that runs the code of this one
    except Exception as error:
        raise IsolationError(f"the state cannot be taken from its process: {error}") from error
    if isinstance(answer, _Unsendable):
        raise IsolationError(answer.text)
    return answer


def _set_mark(mark: mmap.mmap, number: int) -> None:
    mark[:_MARK_BYTES] = number.to_bytes(_MARK_BYTES, "little")


def _mark_of(mark: mmap.mmap) -> int:
    return int.from_bytes(mark[:_MARK_BYTES], "little")
