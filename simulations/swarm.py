"""`swarm_test`: a test of fish under partitions and power cuts, played from many seeds.

    @swarm_test(nodes=3, seeds=200)
    async def test_parts(sim):
        a, b, c = sim.nodes
        with sim.partition({a, b}, {c}):
            await a.publish("part", {"pieces": 1})
            await c.publish("part", {"pieces": 2})
            await sim.run(minutes=10)
        await sim.converge()
        assert await sim.same(lambda device: device.pond.current_state(parts)) == 3

The decorator makes a plain function of the test, without its parameter `sim`, so that pytest's fixtures and parameters
work as usual. Calling it plays seed after seed, each in a world of its own, until one fails. The first seed is played
twice, since what does not come from the seed can be found by nothing else. A seed that fails is played once more for a
picture; then the test's own error is raised, with the seed and the command that plays it again.
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, overload

from simulations.drill import Run, SwarmTest, drilled
from simulations.errors import NotDeterministic, SimulationError
from simulations.picture import draw_svg
from simulations.session import SESSION, Session
from simulations.sim import Sim
from simulations.telling import draw_text
from simulations.trace import Kind, Note

__all__ = ["Sim", "swarm_test"]

NODES, SEEDS, MINUTES = 3, 50, 24 * 60.0
"""Devices, seeds, and the longest virtual time of a test, where it names no others."""

PARAMETER = "sim"

_AsyncTest = Callable[..., Awaitable[None]]


@overload
def swarm_test(test: _AsyncTest, /) -> Callable[..., None]: ...


@overload
def swarm_test(
    *, nodes: int = NODES, seeds: int = SEEDS, minutes: float = MINUTES
) -> Callable[[_AsyncTest], Callable[..., None]]: ...


def swarm_test(
    test: _AsyncTest | None = None,
    /,
    *,
    nodes: int = NODES,
    seeds: int = SEEDS,
    minutes: float = MINUTES,
) -> Callable[..., Any]:
    """Make a test of an async function that takes `sim`, a `Sim`.

    It is played with `nodes` devices from the seeds 1 to `seeds`; a run that takes longer than `minutes` of virtual
    time fails. Usable with arguments and without.

    Raises:
        TypeError: what is decorated is no async function, or has no parameter `sim`.
        ValueError: a number is below 1.
    """
    if min(nodes, seeds, minutes) < 1:
        raise ValueError("a swarm test has at least one node, one seed and one minute")
    plan = _Plan(nodes, seeds, minutes)
    return _decorated(plan, test) if test is not None else functools.partial(_decorated, plan)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the decorator was given."""

    nodes: int
    seeds: int
    minutes: float


@dataclass(frozen=True, slots=True)
class _Runner:
    """Plays the seeds of one test."""

    test: SwarmTest
    code: CodeType
    plan: _Plan
    session: Session

    def play(self, seed: int, *, keeps: bool = False) -> Run:
        return drilled(
            self.test,
            seed,
            self.plan.nodes,
            minutes=self.plan.minutes,
            keeps=keeps,
            failures=self.session.failures,
        )


def _decorated(plan: _Plan, test: _AsyncTest) -> Callable[..., None]:
    signature = _without_sim(test)

    @functools.wraps(test)
    def play_seeds(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True

        async def told(sim: Sim) -> None:
            __tracebackhide__ = True
            await test(*args, **kwargs, **{PARAMETER: sim})

        code = inspect.unwrap(test).__code__
        _play_all(_Runner(told, code, plan, SESSION.get()))

    play_seeds.__signature__ = signature  # type: ignore[attr-defined]
    play_seeds.is_swarm_test = True  # type: ignore[attr-defined]
    return play_seeds


def _without_sim(test: _AsyncTest) -> inspect.Signature:
    """The signature that pytest is shown, and fills with fixtures."""
    if not inspect.iscoroutinefunction(test):
        raise TypeError(f"a swarm test is an async function, not {test!r}")
    signature = inspect.signature(test)
    if PARAMETER not in signature.parameters:
        raise TypeError(
            f"a swarm test takes a parameter {PARAMETER!r}: {test.__qualname__} does not"
        )
    parameters = [one for name, one in signature.parameters.items() if name != PARAMETER]
    return signature.replace(parameters=parameters, return_annotation=None)


def _play_all(runner: _Runner) -> None:
    __tracebackhide__ = True
    session = runner.session
    with _quiet_logs(is_quiet=session.seed is None):
        for number, seed in enumerate(_seeds(runner), 1):
            run = runner.play(seed)
            if run.error is not None:
                raise _told_of(runner, run, run.error)
            if number == 1:
                _see_determined(runner, run)


def _seeds(runner: _Runner) -> range:
    session = runner.session
    if session.seed is not None:
        return range(session.seed, session.seed + 1)
    return range(1, (session.seeds or runner.plan.seeds) + 1)


@contextmanager
def _quiet_logs(*, is_quiet: bool) -> Iterator[None]:
    """Keep the nodes' warnings of hundreds of runs out of the report; one run that is replayed may speak."""
    logger = logging.getLogger("shoal")
    before = logger.level
    if is_quiet:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _see_determined(runner: _Runner, run: Run) -> None:
    """See that another run of this seed goes the same way, and others in processes that hash otherwise.

    Raises:
        NotDeterministic: one does not.
    """
    __tracebackhide__ = True
    session = runner.session
    if session.digest is not None:
        session.digest.write_text(run.digest, "utf-8")
        return
    again = runner.play(run.seed)
    if again.outcome != run.outcome:
        raise _told_of(runner, run, _difference(runner, run, again))
    if session.elsewhere is None:
        return
    for hash_seed in range(1, session.hash_seeds + 1):
        digest = session.elsewhere(run.seed, hash_seed)
        if digest != run.digest:
            what = "goes otherwise" if len(digest) == len(run.digest) else f"fails:\n{digest}\n"
            raise NotDeterministic(
                f"seed {run.seed} {what} in a process with PYTHONHASHSEED={hash_seed}: something in the"
                " test or its fish depends on the order of a set of texts"
            )


def _difference(runner: _Runner, first: Run, second: Run) -> NotDeterministic:
    if _ended(first) != _ended(second):
        where = f"in how they end: {_ended(first)} against {_ended(second)}"
    else:
        where = _where_they_differ(runner, first.seed)
    return NotDeterministic(
        f"two runs of seed {first.seed} differ {where}: something in the test or its fish does not come from the"
        " seed (time, random, uuid, or something that outlives a run, as a fixture does)"
    )


def _where_they_differ(runner: _Runner, seed: int) -> str:
    """Look for the first difference in two more runs, which keep notes."""
    first, second = (runner.play(seed, keeps=True) for _ in range(2))
    for one, other in zip_longest(_happened(first), _happened(second)):
        if one != other:
            note = one or other
            assert note is not None
            place = note.node or "in the test"
            return f"at {note.at:.3f} s, {place}: {_noted(one)} against {_noted(other)}"
    return "in the bytes of events, messages or states"


def _happened(run: Run) -> list[Note]:
    """The notes without those of failures, whose text may name addresses in memory."""
    return [note for note in run.notes if note.kind is not Kind.FAILURE]


def _noted(note: Note | None) -> str:
    return "nothing" if note is None else f"{note.kind} {note.text} {note.peer}".strip()


def _ended(run: Run) -> str:
    return "no error" if run.error is None else type(run.error).__name__


def _told_of(runner: _Runner, run: Run, error: BaseException) -> BaseException:
    """The error of a run, with all that helps to understand it."""
    again = runner.play(run.seed, keeps=True)
    session = runner.session
    seeds = _seeds(runner)
    among = f" of {seeds[0]}..{seeds[-1]}" if len(seeds) > 1 else ""
    error.add_note(f"swarm: seed {run.seed}{among} failed")
    if session.replay:
        error.add_note(f"swarm: replay it with: {session.replay.format(seed=run.seed)}")
    if again.outcome != run.outcome and not isinstance(error, NotDeterministic):
        error.add_note(
            "swarm: THE TEST IS NOT DETERMINISTIC: run again, this seed went otherwise and ended with"
            f" {_ended(again)}; something in the test or its fish does not come from the seed"
        )
    if session.pictures is not None:
        error.add_note(
            f"swarm: picture of the run: {_pictured(session, session.pictures(), again)}"
        )
        session.tell(f"swarm: seed {run.seed}", _drawn(draw_text, session, again))
    return error.with_traceback(_of_the_test(error, runner.code))


def _pictured(session: Session, folder: Path, run: Run) -> Path:
    name = "".join(one if one.isalnum() or one in "-_." else "-" for one in session.name)
    path = folder / f"{name[-150:]}-seed-{run.seed}.svg"
    path.write_text(_drawn(draw_svg, session, run), "utf-8")
    return path


def _drawn(draw: Callable[..., str], session: Session, run: Run) -> str:
    try:
        return draw(run.notes, title=_title(session, run), devices=run.devices)
    except Exception as error:  # noqa: BLE001 - a picture that fails must not hide what the test failed with
        return f"no picture could be drawn: {error!r}"


def _title(session: Session, run: Run) -> str:
    return f"{session.name}, seed {run.seed}"


def _of_the_test(error: BaseException, code: CodeType) -> TracebackType | None:
    """The traceback from the test's own frame on, without what is inside the simulator; None where it is all there."""
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code is not code:
        first = first.tb_next
    last = first
    while last is not None and isinstance(error, SimulationError):
        if last.tb_next is not None and _is_inside(last.tb_next):
            last.tb_next = None
        last = last.tb_next
    return first


def _is_inside(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).startswith(("simulations.", "asyncio."))
