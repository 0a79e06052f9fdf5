"""A fish's state at an event key, and its way to the log and back.

`Snapshot` is what the pond hands out. `SnapshotShelf` keeps snapshots of one fish in the log, so that a restart folds
only what is new: it encodes and saves, and it finds the newest one that still tells the truth. A snapshot does so if
every matching event it does not cover sorts behind it, or before its reset, where nothing matters, and no event in it
was retracted since. Whatever is wrong with a snapshot is never an error: the fish replays more, and ends in the same
state.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Any, Generic, cast

from fish.ahead import Ahead
from fish.definition import Fish, State, State_co
from fish.errors import RAISED_WHILE_WATCHED, FishStopped, StateCodecError
from fish.log import Log, first_of
from fish.oversight import Oversight
from fish.states import decode_state, encode_in_steps
from fish.timeline import Checkpoint
from lamport.errors import StoreRefused
from lamport.ids import EventKey
from lamport.offsets import OffsetMap
from lamport.snapshots import StoredSnapshot

RECENT = 4
"""Newest snapshots that stay, however close they are: a late event may spoil the last."""

NEAREST = 512
"""Behind them one stays in each span of distances, from here on; a restart forgets the checkpoints in memory, and a
late event then costs at most four times its distance and what lies between two snapshots."""

_NONE: Mapping[EventKey, int] = {}
"""No snapshots are kept of most fish; one for all."""

_LOGGER = logging.getLogger("shoal.fish")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[State_co]):
    """A state, the key of the newest event in it (None: no event yet), and the offsets it covers.

    Covered means considered: every matching event up to these offsets is in the state. `horizon` is the key of the
    newest reset event, `count` says how many events the state is made of since then. `provisional` says that a catch-up
    is under way: more is known to come.
    """

    state: State_co
    key: EventKey | None
    offsets: OffsetMap
    horizon: EventKey | None
    count: int
    provisional: bool = False


@dataclass(slots=True)
class Chosen(Generic[State]):
    """What is to be kept of a fish: states that are still to be encoded, oldest first, and the keys of what goes.

    The log keeps the encoded ones in its own time (`lamport.snapshot_table.Writing`), and knows nothing of events. From
    `spoilt_from` on they do not hold any more: an event came late meanwhile, or was retracted.
    """

    new: Sequence[Snapshot[State]]
    thinned: Sequence[EventKey]
    over: asyncio.Future[None]
    spoilt_from: EventKey | None = None

    def holds(self, key: EventKey) -> bool:
        """Whether what stands at this key still holds."""
        return self.spoilt_from is None or key < self.spoilt_from


class SnapshotShelf(Generic[State]):
    """The stored snapshots of one fish. One task may write (`begin`, `write`, `end`) while another one folds on."""

    __slots__ = (
        "_ahead",
        "_definition",
        "_fish",
        "_is_encodable",
        "_is_foreign",
        "_kept",
        "_log",
        "_oversight",
        "_spoilt",
        "_writing",
        "encoded_bytes",
        "was_redefined",
    )

    def __init__(
        self,
        fish: Fish[State],
        log: Log,
        oversight: Oversight,
        ahead: Ahead,
    ) -> None:
        """`ahead` is shared by all fish of a pond."""
        self._ahead = ahead
        self._fish = fish
        self._log = log
        self._oversight = oversight
        self._definition = fish.definition_with(log.upcasters)
        self.was_redefined = False
        """Whether snapshots of this name and version were kept by another definition."""
        self._is_foreign = False
        self._is_encodable = True
        self._kept: Mapping[EventKey, int] = _NONE
        """Keys of what is kept, and how many events each is made of. It is replaced, never changed."""
        self._spoilt: tuple[EventKey, ...] = ()
        """Keys of what is stored and does not hold any more."""
        self._writing: Chosen[State] | None = None
        self.encoded_bytes = 0
        """The size of the state that was encoded last: what that costs, the next time will cost."""

    @property
    def is_encodable(self) -> bool:
        """Whether states of this fish have bytes, as far as is known."""
        return self._is_encodable

    @property
    def is_writing(self) -> bool:
        """Whether something is being saved."""
        return self._writing is not None

    async def written(self) -> None:
        """Wait until nothing is being saved."""
        while self._writing is not None:
            await asyncio.wait((self._writing.over,))

    async def newest(self, target: OffsetMap) -> Snapshot[State] | None:
        """The newest snapshot that holds for a log with these offsets; those that do not go with the next that is kept.

        Raises:
            FishStopped: the fish's own `deserialize_state` raised.
            LogError: the log cannot be read.
        """
        await self.written()
        fish = self._fish
        stored = await self._log.load_snapshots(fish.name, fish.version, self._definition)
        self._is_foreign = not stored
        kept = await self._log.snapshot_definitions(fish.name, fish.version) if not stored else ()
        self.was_redefined = bool(kept)
        self._kept = {one.key: one.count for one in stored} or _NONE
        for one in stored:
            spoilt_from = await self._spoilt_from(one, target)
            if spoilt_from is None:
                snapshot = self._opened(one)
                if snapshot is not None:
                    return snapshot
                spoilt_from = one.key
            self.spoil(spoilt_from)
        return None

    def begin(
        self, snapshot: Snapshot[State], behind: Sequence[Checkpoint[State]] = ()
    ) -> Chosen[State]:
        """Choose what to keep: a snapshot, and of the checkpoints behind it, oldest first, those that are worth it.

        Until `end` no other writing begins. Who waits for the state is kept waiting by this: it makes no more than it
        chooses.
        """
        assert self._writing is None, "one after the other"
        over = asyncio.get_running_loop().create_future()
        self._writing = Chosen(*self._choice(snapshot, behind), over)
        return self._writing

    async def write(self, chosen: Chosen[State]) -> bool:
        """Keep what was chosen, if the states can be encoded and the disk has room; returns whether it is stored.

        Where there is no room to encode the rest ahead, what is encoded is stored first.

        Raises:
            LogError: the log failed otherwise.
        """
        portion: list[StoredSnapshot] = []
        try:
            for each in chosen.new:
                while not await self._encoded_ahead(each, portion):
                    if not await self._room_made(chosen, portion):
                        return False
            return bool(portion) and await self._keep(chosen, portion, chosen.thinned)
        except StoreRefused as error:
            _LOGGER.warning("fish %r: no snapshot was kept: %s", self._fish.name, error)
            return False
        finally:
            self._ahead.give_back(_size(portion))

    async def _encoded_ahead(
        self, snapshot: Snapshot[State], portion: list[StoredSnapshot]
    ) -> bool:
        """Add a snapshot to what is encoded, if it has a state that can be; returns False where there is no room."""
        async with self._ahead.turn:
            if not self._ahead.has_room(self.encoded_bytes):
                return False
            one = await self._stored(snapshot)
            if one is not None:
                portion.append(one)
                self._ahead.add(len(one.state))
            return True

    async def _room_made(self, chosen: Chosen[State], portion: list[StoredSnapshot]) -> bool:
        """Store what is encoded, or wait for others to do so; returns whether it is stored."""
        if not portion:
            await self._ahead.freed()
            return True
        is_stored = await self._keep(chosen, portion, ())
        self._ahead.give_back(_size(portion))
        portion.clear()
        return is_stored

    async def _keep(
        self,
        chosen: Chosen[State],
        portion: Sequence[StoredSnapshot],
        thinned: Sequence[EventKey],
    ) -> bool:
        if self._is_foreign:
            # Snapshots of other code under this name: the log keeps the newest few, and these could fill that.
            await self._log.drop_snapshots(self._fish.name, None)
            self._is_foreign = False
        is_stored = await self._log.save_snapshots(tuple(portion), thinned)
        if is_stored:
            self._note(chosen, portion, thinned)
        return is_stored

    def end(self) -> None:
        """The writing is over, or was given up."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.over.set_result(None)

    def _note(
        self,
        chosen: Chosen[State],
        stored: Sequence[StoredSnapshot],
        gone: Sequence[EventKey],
    ) -> None:
        kept = {key: count for key, count in self._kept.items() if key not in gone}
        self._kept = kept | {one.key: one.count for one in stored if chosen.holds(one.key)}
        late = (one.key for one in stored if not chosen.holds(one.key))
        self._spoilt = (*(key for key in self._spoilt if key not in gone), *late)

    def _choice(
        self, snapshot: Snapshot[State], behind: Sequence[Checkpoint[State]]
    ) -> tuple[Sequence[Snapshot[State]], tuple[EventKey, ...]]:
        """What to write, oldest first, and the keys of what is not worth its place any more.

        The newest few stay, and one in each span of distances from the head that begins with a power of two.
        """
        horizon, count = snapshot.horizon, snapshot.count
        good = {
            key: number
            for key, number in self._kept.items()
            if number < count and (horizon is None or key >= horizon)
        }
        staying = dict.fromkeys(sorted(good)[1 - RECENT :])
        writing = {snapshot.key: snapshot}
        numbers = [one.number for one in behind]
        for span in _spans(count):
            near = [key for key, number in good.items() if count - number in span]
            place = bisect_right(numbers, count - span.start) - 1
            if near:
                staying[max(near)] = None
            elif place >= 0 and count - numbers[place] in span:
                key, state, number = behind[place]
                # It covers what the newest covers, up to its key.
                writing[key] = replace(snapshot, state=state, key=key, count=number)
        gone = {*self._kept, *self._spoilt} - {*staying, *writing}
        return tuple(writing.values())[::-1], tuple(sorted(gone))

    def spoil(self, from_key: EventKey) -> None:
        """Note that what stands at or above an event does not hold any more, for it came late or was retracted.

        It goes with the next snapshot that is kept: to write now would cost a sync before anything is folded. Where it
        does not come to that, it is found not to hold when it is next looked at.
        """
        if self._writing is not None and self._writing.holds(from_key):
            self._writing.spoilt_from = from_key
        spoilt = [key for key in self._kept if key >= from_key]
        if spoilt:
            self._kept = {key: count for key, count in self._kept.items() if key < from_key}
            self._spoilt = (*self._spoilt, *spoilt)

    async def _stored(self, snapshot: Snapshot[State]) -> StoredSnapshot | None:
        state = await self._encoded(snapshot.state)
        if state is None or snapshot.key is None:
            return None
        return StoredSnapshot(
            fish=self._fish.name,
            version=self._fish.version,
            definition=self._definition,
            key=snapshot.key,
            offsets=snapshot.offsets,
            horizon=snapshot.horizon,
            count=snapshot.count,
            state=state,
        )

    async def _encoded(self, state: State) -> bytes | None:
        if not self._is_encodable:
            return None
        try:
            encoded = await self._ahead.patiently(encode_in_steps(self._serialized(state)))
        except Exception as error:  # noqa: BLE001 - a state may have no bytes in many ways
            self._is_encodable = False
            _LOGGER.info("fish %r is replayed at every start: %s", self._fish.name, error)
            return None
        self.encoded_bytes = len(encoded)
        return encoded

    def _serialized(self, state: State) -> object:
        serialize = self._fish.serialize_state
        if serialize is None:
            return state
        try:
            return self._watched(serialize, "serialize_state", state)
        except RAISED_WHILE_WATCHED as error:
            raise StateCodecError(
                f"serialize_state raised {type(error).__name__}: {error}"
            ) from error

    def _opened(self, stored: StoredSnapshot) -> Snapshot[State] | None:
        try:
            state = decode_state(stored.state)
        except StateCodecError as error:
            _LOGGER.info("fish %r: a snapshot cannot be read: %s", stored.fish, error)
            return None
        return Snapshot(
            self._deserialized(state, stored.key),
            stored.key,
            stored.offsets,
            stored.horizon,
            stored.count,
        )

    def _deserialized(self, value: Any, key: EventKey) -> State:
        deserialize = self._fish.deserialize_state
        if deserialize is None:
            state: State = value
            return state
        try:
            return cast("State", self._watched(deserialize, "deserialize_state", value))
        except RAISED_WHILE_WATCHED as error:
            raise FishStopped(self._fish.name, "deserialize_state", key, error) from error

    def _watched(self, function: Callable[[Any], Any], name: str, value: Any) -> Any:
        """Call one of the fish's own functions; it may be interrupted."""
        return self._oversight.watched(
            lambda: function(value), lambda: f"fish {self._fish.name!r} at {name}", _LOGGER.warning
        )

    async def _spoilt_from(self, stored: StoredSnapshot, target: OffsetMap) -> EventKey | None:
        """The key from which on snapshots do not hold, seen from this one; None if this one holds."""
        if not target.covers(stored.offsets):
            return stored.key
        first = None if self._fish.commutative else await self._first_uncovered(stored, target)
        keys = [] if first is None or first >= stored.key else [first]
        return min([*keys, *await self._retracted_since(stored, target)], default=None)

    async def _retracted_since(self, stored: StoredSnapshot, target: OffsetMap) -> list[EventKey]:
        """The keys of events that are in a snapshot and were retracted since."""
        hidden = await self._log.newly_retracted(stored.offsets, target)
        return [
            one.key
            for one in hidden
            if self._fish.concerns(one, self._log.node)
            and one.key <= stored.key
            and (stored.horizon is None or one.key >= stored.horizon)
        ]

    async def _first_uncovered(self, stored: StoredSnapshot, target: OffsetMap) -> EventKey | None:
        pages = self._log.read(
            self._fish.where, after=stored.horizon, lower=stored.offsets, upper=target, as_of=target
        )
        first = await first_of(pages)
        return None if first is None else first.key


def _size(snapshots: Iterable[StoredSnapshot]) -> int:
    return sum(len(one.state) for one in snapshots)


def _spans(count: int) -> Iterator[range]:
    """Distances from the head, from one power of two to the next."""
    distance = NEAREST
    while distance < count:
        yield range(distance, 2 * distance + 1)
        distance *= 2
