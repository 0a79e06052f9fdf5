"""The steps of a vector, played on a stage. Whatever is not as the vector says raises `Unexpected`."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from fish import Fish, FishError, FishStopped, Metadata, Observation
from fish.lookout import is_earlier, is_later, is_newer, is_older
from fish.standing import StandingEffect
from fish.states import encode_state
from lamport.event import Event, draft
from lamport.ids import EventKey
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.snapshots import StoredSnapshot
from lamport.tags import Tag
from tests.vectors.pond_effects import auto_cancel_of, effect_of
from tests.vectors.pond_reading import events_of, where_of
from tests.vectors.pond_stage import Stage, canonical, is_filler, quiescence

PATIENCE_S = 60.0
"""An effect that has no outcome after so much virtual time is stalled."""

_WORDS = {
    "on_event": "onEvent",
    "is_reset": "isReset",
    "deserialize_state": "deserializeState",
}

Step = Mapping[str, Any]


class Unexpected(Exception):
    """Something is not as the vector says."""


class Watcher:
    """An observer that keeps what it was called with, as it was then."""

    def __init__(self, reported: list[str]) -> None:
        self.calls: list[str] = []
        self.errors = 0
        self.end: Callable[[], object] = lambda: None
        self._reported = reported

    def called(self, state: Any) -> None:
        """A state was shown."""
        self.calls.append(canonical(list(state) if isinstance(state, tuple) else state))

    def stopped(self, error: FishStopped) -> None:
        """The fish stopped."""
        self.errors += 1
        self._reported.append(_WORDS[error.function])

    @property
    def distinct(self) -> list[str]:
        """All calls, consecutive equal ones merged."""
        pairs = zip(self.calls, [None, *self.calls], strict=False)
        return [call for call, before in pairs if call != before]


class Play:
    """Plays the steps of one vector."""

    def __init__(self, stage: Stage, fishes: Mapping[str, Mapping[str, Any]]) -> None:
        self._stage = stage
        self._fishes = fishes
        self._watchers: dict[str, Watcher] = {}
        self._standing: dict[str, StandingEffect[Any]] = {}
        self._bounds: dict[str, OffsetMap] = {}
        self._reported: list[str] = []

    async def step(self, step: Step) -> None:
        """Play one step, and wait until nothing is under way."""
        act = self._STEPS.get(step["op"])
        if act is None:
            raise NotImplementedError(f"no step {step['op']!r} is known")
        await act(self, step)
        if not step.get("nowait"):
            await asyncio.sleep(step.get("ms", 0) / 1000)
            await quiescence()

    async def _push(self, step: Step) -> None:
        await self._stage.push(events_of(step))

    async def _publish(self, step: Step) -> None:
        listed = step.get("events", [step])
        pairs = [
            (one["tags"], one["payload"]) if isinstance(one, Mapping) else one for one in listed
        ]
        await self._stage.node.publish_all([draft(tags, payload) for tags, payload in pairs])

    async def _wait(self, _step: Step) -> None:
        """What every step waits anyway."""

    async def _restart(self, step: Step) -> None:
        await self._stage.restart(keeps_snapshots=bool(step.get("keepSnapshots")))
        self._watchers.clear()
        self._standing.clear()

    async def _seed_snapshot(self, step: Step) -> None:
        places, key = self._stage.places, step["eventKey"]
        for label, offset in step["offsets"].items():
            if offset >= places.author(label).next:
                await self._stage.receive([places.filled_up(label, offset, key["lamport"])])
        fish = self._fish(step["fish"])
        horizon = step.get("horizon")
        seeded = StoredSnapshot(
            fish=fish.name,
            version=step["version"],
            definition=fish.definition,
            key=self._key(key),
            offsets=OffsetMap({places.stream(s): o for s, o in step["offsets"].items()}),
            horizon=None if horizon is None else self._key(horizon),
            count=1,
            state=encode_state(step["state"], ordered=True),
        )
        await self._stage.node.log.save_snapshots([seeded])

    async def _observe(self, step: Step) -> None:
        watcher = self._watcher(step)
        fish = self._fish(step["fish"])
        self._watch(watcher, self._stage.node.pond.observe(fish, watcher.called, watcher.stopped))

    async def _observe_all(self, step: Step) -> None:
        watcher, make = self._watcher(step), self._factory(step)
        pond, seed = self._stage.node.pond, where_of(step["seed"])
        expiry = step.get("expireAfterSeed")
        seconds = None if expiry is None else expiry / 1000
        self._watch(watcher, pond.observe_all(seed, make, watcher.called, expire_after_s=seconds))

    async def _observe_one(self, step: Step) -> None:
        watcher, make = self._watcher(step), self._factory(step)
        seed = where_of(step["seed"])
        self._watch(
            watcher,
            self._stage.node.pond.observe_one(seed, make, watcher.called, watcher.stopped),
        )

    async def _observe_latest(self, step: Step) -> None:
        self._observe_best_by(step, is_newer if step.get("by") == "timestamp" else is_later)

    async def _observe_earliest(self, step: Step) -> None:
        self._observe_best_by(step, is_older if step.get("by") == "timestamp" else is_earlier)

    async def _observe_best(self, step: Step) -> None:
        goal = next(
            one[1] for one in step.values() if isinstance(one, list) and one[0] == "closest"
        )

        def is_closer(new: Event, old: Event) -> bool:
            return bool(abs(new.payload - goal) < abs(old.payload - goal))

        self._observe_best_by(step, is_closer)

    def _observe_best_by(self, step: Step, is_better: Callable[[Event, Event], bool]) -> None:
        watcher, pond = self._watcher(step), self._stage.node.pond
        where = where_of(step["where"]) if "where" in step else Tag("a")

        def called(event: Event | None) -> None:
            watcher.called(None if event is None else event.payload)

        self._watch(watcher, pond.observe_best_match(where, is_better, called))

    async def _observe_reduce(self, step: Step) -> None:
        watcher, pond = self._watcher(step), self._stage.node.pond
        initial, on_event = self._stage.reducer(step)
        where = where_of(step["where"]) if "where" in step else Tag("a")
        self._watch(
            watcher, pond.observe_unordered_reduce(where, on_event, initial, watcher.called)
        )

    async def _subscribe(self, step: Step) -> None:
        watcher, node = self._watcher(step), self._stage.node

        async def listen() -> None:
            async for event in node.subscribe(Tag("a")):
                watcher.called(event.payload)

        task = asyncio.create_task(listen())
        watcher.end = task.cancel

    async def _cancel(self, step: Step) -> None:
        name = step["obs"]
        if name in self._standing:
            self._standing[name].cancel()
        else:
            self._watchers[name].end()

    async def _run(self, step: Step) -> None:
        wanted, outcome = (
            step.get("expect", "ok"),
            await self._outcome(step["fish"], step["effect"]),
        )
        _require(outcome == wanted, f"the effect is {outcome}, not {wanted}")

    async def _run_many(self, step: Step) -> None:
        text = json.dumps(step["effect"])
        effects = [
            json.loads(text.replace('"$i"', str(i))) for i in range(step["from"], step["to"] + 1)
        ]
        outcomes = await asyncio.gather(*(self._outcome(step["fish"], one) for one in effects))
        wanted = step.get("expect", "ok")
        _require(set(outcomes) == {wanted}, f"the effects are {set(outcomes)}, not all {wanted}")

    async def _keep_running(self, step: Step) -> None:
        self._standing[step["as"]] = self._stage.node.pond.keep_running(
            self._fish(step["fish"]),
            effect_of(step["effect"]),
            auto_cancel_of(step.get("autoCancel")),
            lambda _error: None,
        )

    async def _expect(self, step: Step) -> None:
        watcher = self._watchers[step["obs"]]
        calls = watcher.calls
        if step.get("none"):
            _require(not calls, f"states were delivered: {calls}")
        if "last" in step or "asSet" in step:
            _require(bool(calls), "no state was delivered")
        if "last" in step:
            _compare("the last state", calls[-1], canonical(step["last"]))
        if "asSet" in step:
            shown = [canonical(one) for one in json.loads(calls[-1])]
            wanted = [canonical(one) for one in step["asSet"]]
            _compare("the states", sorted(shown), sorted(wanted))
        if "distinct" in step:
            wanted = [canonical(one) for one in step["distinct"]]
            _compare("all states", watcher.distinct, wanted)
        if "errors" in step:
            _compare("the number of errors", watcher.errors, step["errors"])

    async def _expect_all(self, step: Step) -> None:
        wanted = [canonical(one) for one in step["states"]]
        _compare("all calls", self._watchers[step["obs"]].calls, wanted)

    async def _expect_current(self, step: Step) -> None:
        try:
            state = await self._stage.node.pond.current_state(self._fish(step["fish"]))
        except FishStopped as error:
            self._reported.append(_WORDS[error.function])
            _require(bool(step.get("rejected")), f"the state was refused: {error}")
            return
        _require(not step.get("rejected"), "the state was given, not refused")
        _compare("the current state", canonical(state), canonical(step["state"]))

    async def _expect_reported(self, step: Step) -> None:
        _require(bool(self._reported), "nothing was reported")
        _require(set(self._reported) <= set(step["in"]), f"reported was {self._reported}")

    async def _expect_calls(self, step: Step) -> None:
        bound = next(one for key, one in step.items() if isinstance(one, int) and key != "ms")
        name = self._fish(step["fish"]).name if "fish" in step else None
        calls = self._stage.calls[name] if name else self._stage.calls.total()
        _require(calls <= bound, f"there were {calls} calls of reducers, not at most {bound}")

    async def _present(self, step: Step) -> None:
        label = self._stage.places.label
        shown = {label(stream): offset for stream, offset in self._stage.node.offsets.items()}
        wanted = step["expect"] if "expect" in step else step["offsets"]
        _compare("the offsets", shown, wanted)

    async def _query(self, step: Step) -> None:
        lower = self._offsets(step.get("lower")) or self._bounds.get(step.get("lowerFrom", ""))
        is_range = step["fn"] == "queryKnownRange"
        upper = self._offsets(step.get("upper")) if is_range else self._stage.node.offsets
        found = self._stage.node.query(
            where_of(step.get("where")), order=_order(step), lower=lower, upper=upper
        )
        shown = [event.payload async for event in found if not is_filler(event.tags)]
        if "expect" in step:
            _compare("the events", canonical(shown), canonical(step["expect"]))
        if "saveUpper" in step:
            self._bounds[step["saveUpper"]] = upper or OffsetMap()
        if "expectUpper" in step:
            _compare("the upper bound", self._labelled(upper or OffsetMap()), step["expectUpper"])

    async def _chunked(self, step: Step) -> None:
        chunks = self._stage.node.pond.query_chunks(
            where_of(step.get("where")), step["size"], order=_order(step)
        )
        shown = [
            {
                "events": [event.payload for event in chunk.events],
                "lower": self._labelled(chunk.lower),
                "upper": self._labelled(chunk.upper),
            }
            async for chunk in chunks
        ]
        _compare("the chunks", canonical(shown), canonical(step["expect"]))

    async def _outcome(self, name: str, description: list[Any]) -> str:
        fish = self._fish(name)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._stage.node.pond.run(fish, effect_of(description))
        except TimeoutError:
            return "stalled"
        except (Exception, FishError):  # noqa: BLE001 - the effect's own errors are rejections, too
            return "rejected"
        return "ok"

    def _fish(self, name: str) -> Fish[Any]:
        return self._stage.fish(self._fishes[name])

    def _factory(self, step: Step) -> Callable[[Any, Metadata], Fish[Any] | None]:
        def make(payload: Any, _: Metadata) -> Fish[Any] | None:
            key = str(payload[step["keyField"]])
            if key in step.get("throwOn", ()):
                raise Unexpected("told to")
            if key in step.get("skip", ()):
                return None
            template = json.dumps(step["template"]).replace("$key", json.dumps(key)[1:-1])
            return self._stage.fish(json.loads(template))

        return make

    def _watcher(self, step: Step) -> Watcher:
        watcher = self._watchers[step["as"]] = Watcher(self._reported)
        return watcher

    def _watch(self, watcher: Watcher, observation: Observation[Any]) -> None:
        watcher.end = observation.cancel
        _require(not watcher.calls, "the observer was called before `observe` had returned")

    def _key(self, given: Mapping[str, Any]) -> EventKey:
        places = self._stage.places
        return EventKey(places.times.stamp(given["lamport"]), places.stream(given["stream"]))

    def _offsets(self, given: Mapping[str, int] | None) -> OffsetMap | None:
        if given is None:
            return None
        return OffsetMap({self._stage.places.stream(s): o for s, o in given.items() if o >= 0})

    def _labelled(self, offsets: OffsetMap) -> dict[str, int]:
        return {self._stage.places.label(stream): one for stream, one in offsets.items()}

    _STEPS: ClassVar[Mapping[str, Callable[[Any, Step], Awaitable[None]]]] = {
        "push": _push,
        "emit": _publish,
        "publish": _publish,
        "publishMany": _publish,
        "wait": _wait,
        "restart": _restart,
        "seedSnapshot": _seed_snapshot,
        "observe": _observe,
        "observeAll": _observe_all,
        "observeOne": _observe_one,
        "observeLatest": _observe_latest,
        "observeEarliest": _observe_earliest,
        "observeBest": _observe_best,
        "observeReduce": _observe_reduce,
        "subscribe": _subscribe,
        "cancel": _cancel,
        "run": _run,
        "runMany": _run_many,
        "keepRunning": _keep_running,
        "expect": _expect,
        "expectAll": _expect_all,
        "expectCurrent": _expect_current,
        "expectReported": _expect_reported,
        "expectCalls": _expect_calls,
        "present": _present,
        "query": _query,
        "chunked": _chunked,
    }


def _order(step: Step) -> Order:
    return Order(step.get("order") or "asc")


def _require(holds: bool, fault: str) -> None:  # noqa: FBT001 - it is the claim
    if not holds:
        raise Unexpected(fault)


def _compare(what: str, shown: Any, wanted: Any) -> None:
    _require(shown == wanted, f"{what}: {shown}, not {wanted}")
