"""A thread that sees to it that no reducer holds up the node for ever.

The way of a call. The event loop's thread makes it and leaves word of it in `_call`; the watchdog's thread comes by a
few times a second. A call that it meets again and again it reports; one that has used up its time it interrupts, by
asking the interpreter to raise `Overran` in the loop's thread at the next bytecode. The thread goes when nobody called
anything for a while, and comes back with the next call: a node at rest is not woken.

What counts is the time for which the loop's thread has computed (where the system tells that), not the time that went
by: a process that was not let run has done nothing wrong. One that waits instead of computing is given longer.

**What cannot be interrupted** is a call inside a C function (`time.sleep`, `sum` over a huge range, a regular
expression that backtracks): the exception is raised when it comes back to Python. One that holds the interpreter's
lock all the while keeps the watchdog from running, too, and is reported only afterwards. Nor can a reducer be
interrupted that catches `BaseException` and goes on; it is asked again every second. A fish that is `isolated` can be
stopped whatever it does.

No exception may come late, when the call is over and the loop is at something else. Each side says what it is about to
do before it looks at what the other has said: the watchdog `is_firing`, the caller `is_over`. So the caller waits for a
shot that was begun, and nobody shoots at a call that is over; what was fired before strikes where nobody minds.
"""

import ctypes
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from fish.errors import Overran
from fish.oversight import Cell, CellWork, Place, Told
from shoal.isolation import ProcessCell

TICK_S = 0.25
"""So often the watchdog comes by, at most; it counts how often it has met a call."""

IDLE_TICKS = 20
"""After so many ticks without any call its thread ends."""

REPORT_TICKS = 2
"""A call met so often has taken between half a second and three quarters: it is reported within the second."""

SHOT_TICKS = 4
"""Ticks between two shots at a call that goes on."""

_LOGGER = logging.getLogger("shoal.fish")

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_Result = TypeVar("_Result")


class _Call:
    """A call under way. Its own thread writes `is_over`, the watchdog's all the rest."""

    __slots__ = ("began", "clock", "is_firing", "is_over", "place", "shots", "thread", "ticks")

    def __init__(self, place: Place, thread: int, clock: int | None) -> None:
        self.place = place
        self.thread = thread
        self.clock = clock
        self.is_over = False
        self.is_firing = False
        self.shots = 0
        self.ticks = 0
        self.began = 0.0


class Watchdog:
    """Watches the calls of one event loop's thread, one at a time. See `fish.oversight.Oversight`."""

    def __init__(
        self, *, tick_s: float = TICK_S, computing_s: float = 1.0, waiting_s: float = 10.0
    ) -> None:
        """Interrupt a call that has computed, or that has done nothing else than wait, for so many seconds."""
        self._tick_s = tick_s
        self._computing_s = computing_s
        self._waiting_s = waiting_s
        self._call: _Call | None = None
        self._count = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_awake = False
        self._clock_of: tuple[int, int | None] = 0, None

    def watched(self, call: Callable[[], _Result], place: Place, told: Told) -> _Result:
        """See `Oversight.watched`."""
        watch = _Call(place, *self._own_clock())
        self._call = watch
        self._count += 1
        if not self._is_awake:
            self._wake()
        try:
            result = call()
        finally:
            self._leave(watch)
        if watch.ticks >= REPORT_TICKS:
            told(f"{place()} held up the node for more than {watch.ticks * self._tick_s:.1f} s")
        return result

    def isolated(self, work: CellWork[_Request, _Answer], name: str) -> Cell[_Request, _Answer]:
        """See `Oversight.isolated`: a process."""
        return ProcessCell(work, name, tick_s=self._tick_s)

    @property
    def has_reported(self) -> bool:
        """Whether the call under way was reported."""
        watch = self._call
        return watch is not None and watch.ticks >= REPORT_TICKS

    def join(self) -> None:
        """Wait until its thread has ended, because there was nothing to watch for a while."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _leave(self, watch: _Call) -> None:
        try:
            self._disarm(watch)
        except Overran:  # fired before; the next would be fired a good while later
            self._disarm(watch)

    def _disarm(self, watch: _Call) -> None:
        """See to it that nothing strikes any more."""
        watch.is_over = True
        while watch.is_firing:
            time.sleep(0)
        if watch.shots:
            _let_strike(watch.thread)
        self._call = None

    def _own_clock(self) -> tuple[int, int | None]:
        """This thread, and the clock that tells for how long it has computed."""
        thread = threading.get_ident()
        if self._clock_of[0] != thread:
            self._clock_of = thread, _clock_of(thread)
        return self._clock_of

    def _wake(self) -> None:
        with self._lock:
            if not self._is_awake:
                self._is_awake = True
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        """Come by until there was nothing to see for a while; the thread."""
        idle, count = 0, self._count
        while True:
            time.sleep(self._tick_s)
            watch = self._call
            if watch is not None and not watch.is_over:
                self._look(watch)
            idle = idle + 1 if count == self._count and watch is None else 0
            count = self._count
            if idle >= IDLE_TICKS and self._may_end():
                return

    def _may_end(self) -> bool:
        """End, unless there is a call by now: whoever makes one looks at `_is_awake` behind it."""
        with self._lock:
            self._is_awake = self._call is not None
            return not self._is_awake

    def _look(self, watch: _Call) -> None:
        """See how a call is getting on."""
        watch.ticks += 1
        if watch.ticks == 1:
            watch.began = _computed(watch)
        if watch.ticks == REPORT_TICKS:
            _LOGGER.error("%s holds up the node", watch.place())
        if self._is_overdue(watch) and watch.ticks % SHOT_TICKS == 0:
            self._fire(watch)

    def _is_overdue(self, watch: _Call) -> bool:
        waited = watch.ticks * self._tick_s
        if watch.clock is None:
            return waited > 2 * self._computing_s
        return waited > self._waiting_s or _computed(watch) - watch.began >= self._computing_s / 2

    def _fire(self, watch: _Call) -> None:
        watch.is_firing = True
        try:
            if not watch.is_over:
                watch.shots += 1
                _raise_in(watch.thread, Overran)
        finally:
            watch.is_firing = False


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Let an exception be raised in a thread at its next bytecode, in place of one that has not struck yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _let_strike(thread: int) -> None:
    """Let what was fired at this thread strike here, where it does no harm, so that none is left.

    It must not be taken back instead: Python 3.11 then goes on looking for it at every bytecode, and for ever where a
    profile function is set.
    """
    with suppress(Overran):
        _raise_in(thread, Overran)
        while True:
            pass


def _clock_of(thread: int) -> int | None:
    """The clock of a thread that is alive; None where the system has none."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    return None if clock_of is None else int(clock_of(thread))


def _computed(watch: _Call) -> float:
    """For how many seconds the caller's thread has computed since it began; 0 where nobody says."""
    return 0.0 if watch.clock is None else time.clock_gettime(watch.clock)
