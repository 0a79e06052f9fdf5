"""Interesting states: what a run must have been through at times for its silence to mean anything.

A marker names a state in which bugs like to live, and the call by which it can be told. While `reached` is open, those
functions are watched: they do what they do, and a marker whose condition holds is noted. Seeds that keep all laws and
never come by "late event behind every checkpoint" have not tested time travel.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from typing import Any, NamedTuple

import lamport.compaction
import lamport.log
from fish.running import RunningFish
from fish.snapshots import SnapshotShelf
from fish.timeline import Timeline
from fish.work import WorkIds
from lamport.adopting import Adoptions
from lamport.commit import CommitBuilder
from lamport.errors import StoreFull
from lamport.event_table import EventTable
from lamport.follower import Follower
from lamport.lineage import Lineage
from lamport.log import EventLog
from lamport.repair import Repair
from lamport.store import Store
from lamport.tag_index import TagIndex
from lamport.turns import Turns
from simulations import laws
from simulations.disk import SimulatedDisk
from simulations.errors import PowerLost
from simulations.network import Direction, SimulatedNetwork
from simulations.trace import Kind
from transport.aside import Aside
from transport.claims import CLAIM_S, Claims
from transport.errors import ForgedEvents, PeerFault
from transport.handshake import Refusal
from transport.link import Link
from transport.peers import Peers
from transport.session import Session
from transport.wants import Wants


class Call(NamedTuple):
    """A call that was watched: its arguments (`self` first), and what it returned or raised."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    result: Any = None
    error: BaseException | None = None


class Marker(NamedTuple):
    """A state, where it is told, and the condition. `before` says that it is looked at before the call, not behind."""

    name: str
    owner: Any
    attribute: str
    holds: Callable[[Call], bool]
    before: bool = False


@contextmanager
def reached() -> Iterator[set[str]]:
    """Collect the names of the markers that are reached while the context is open."""
    names: set[str] = set()
    places = dict.fromkeys((marker.owner, marker.attribute) for marker in MARKERS)
    watches = [_Watch(owner, attribute, names) for owner, attribute in places]
    for watch in watches:
        watch.begin()
    try:
        yield names
    finally:
        for watch in watches:
            watch.end()


class _Watch:
    """Watches the calls of one function, until all that can be told by them was reached."""

    def __init__(self, owner: Any, attribute: str, names: set[str]) -> None:
        self._owner, self._attribute = owner, attribute
        self._function = owner.__dict__[attribute]
        self._markers = [m for m in MARKERS if (m.owner, m.attribute) == (owner, attribute)]
        self._names = names

    def begin(self) -> None:
        """Put a function that is watched in the place of the one that is not."""
        function, note = self._function, self._note

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            note(Call(arguments, named), before=True)
            try:
                result = function(*arguments, **named)
            except BaseException as error:
                note(Call(arguments, named, error=error))
                raise
            note(Call(arguments, named, result))
            return result

        @wraps(function)
        async def call_async(*arguments: Any, **named: Any) -> Any:
            note(Call(arguments, named), before=True)
            try:
                result = await function(*arguments, **named)
            except BaseException as error:
                note(Call(arguments, named, error=error))
                raise
            note(Call(arguments, named, result))
            return result

        watched = call_async if inspect.iscoroutinefunction(function) else call
        setattr(self._owner, self._attribute, watched)

    def end(self) -> None:
        """Put the function back."""
        setattr(self._owner, self._attribute, self._function)

    def _note(self, call: Call, *, before: bool = False) -> None:
        for marker in self._markers:
            if marker.before is before and marker.holds(call):
                self._names.add(marker.name)
                self._markers = [one for one in self._markers if one is not marker]
        if not self._markers:
            self.end()


def _always(_call: Call) -> bool:
    return True


def _raised(kind: type[BaseException]) -> Callable[[Call], bool]:
    return lambda call: isinstance(call.error, kind)


def _returned(value: Any) -> Callable[[Call], bool]:
    return lambda call: call.error is None and call.result is value


def _argument(place: int, value: Any) -> Callable[[Call], bool]:
    return lambda call: call.arguments[place] is value


def _without_power(call: Call) -> bool:
    return call.error is not None and not call.arguments[0].has_power


def _late_before_reset(call: Call) -> bool:
    timeline, event = call.arguments
    horizon = timeline.horizon
    return call.result is False and horizon is not None and event.key < horizon


def _claimed_by_other(call: Call) -> bool:
    claims, stream, session, now = call.arguments
    holder, since = claims._holder.get(stream, (session, now))
    return holder is not session and now - since >= CLAIM_S


def _wants_from_the_middle(call: Call) -> bool:
    session, stream, _ = call.arguments
    want = session.wants.open.get(stream)
    return want is not None and want.first > 0


def _adopted(call: Call) -> bool:
    _, builder, checked = call.arguments
    return bool(call.result) and checked.range.stream in builder.own


def _completed(call: Call) -> bool:
    _, builder, checked = call.arguments
    stream = checked.range.stream
    return bool(call.result) and stream.node == builder.own.node and stream not in builder.own


def _jumped(call: Call) -> bool:
    return call.arguments[1].start is not None


def _survives(call: Call) -> bool:
    return bool(call.arguments[1]) and bool(call.result)


def _several_nodes(call: Call) -> bool:
    return len({one.event.stream.node for one in call.arguments[1].events}) > 1


def _hidden_on_arrival(call: Call) -> bool:
    log, commit = call.arguments[:2]
    counting = {target for one in commit.retractions for target in one.targets}
    hidden = {event.key for event, _ in commit.events if log.retracted.hides(event.key)}
    return bool(hidden - counting)


def _both_kinds(call: Call) -> bool:
    return call.error is None and bool(call.result) and bool(call.result.rows and call.result.parts)


def _in_a_block(call: Call) -> bool:
    return call.error is None and call.result is not None and bool(call.result.parts)


def _ties(call: Call) -> bool:
    return any(a.lamport == b.lamport for a, b in pairwise(call.result))


def _clock_falls(call: Call) -> bool:
    return any(a.timestamp > b.timestamp for a, b in pairwise(call.result))


def _reset_from_afar(call: Call) -> bool:
    return bool(call.arguments[0].over)


MARKERS: tuple[Marker, ...] = (
    # the log
    Marker("several requests share a commit", Turns, "take", lambda c: len(c.result) > 1),
    Marker("several authors in one commit", Store, "commit", _several_nodes),
    Marker("publish refused by a full disk", EventLog, "publish", _raised(StoreFull)),
    Marker(
        "follower fell behind what memory keeps",
        Follower,
        "_from_memory",
        lambda c: c.result is None and c.arguments[0]._sequence is None,
    ),
    Marker("power lost before a commit", SimulatedDisk, "pause_to_write", _without_power),
    Marker(
        "power lost between commit and answer", SimulatedDisk, "pause_to_answer", _without_power
    ),
    Marker("power lost in the middle of a commit", SimulatedDisk, "transact", _raised(PowerLost)),
    Marker("two events with one timestamp", laws, "_order", _ties),
    Marker("follower reads from the disk", Follower, "_from_store", lambda c: c.result is not None),
    Marker("wall clocks contradict the order", laws, "_order", _clock_falls),
    Marker("retraction before its target", EventLog, "_publish_batch", _hidden_on_arrival),
    Marker("follower told of a retraction", Follower, "_moved", lambda c: bool(c.result.retracted)),
    # whose stream it is
    Marker("tokens disagree", Lineage, "agrees", _returned(value=False)),
    Marker("new stream at once", Store, "take_new_stream", _always),
    Marker("own tail adopted", EventLog, "_receive", _adopted),
    Marker("older own stream completed", EventLog, "_receive", _completed),
    Marker("fork found", Adoptions, "adopted", lambda c: c.arguments[1].found),
    Marker("fork learnt of", Adoptions, "adopted", lambda c: not c.arguments[1].found),
    Marker("tags merged", TagIndex, "merge", _always),
    Marker("damage healed online", Repair, "replace", lambda c: bool(c.result)),
    # retention
    Marker("own stream pruned", CommitBuilder, "prune", _always),
    Marker("horizon heard of", EventLog, "follow_horizon", _always),
    Marker("pruned behind somebody's horizon", Store, "give_up", _always),
    Marker("pruned events deleted", Store, "clear", _always),
    Marker("jumped over what was pruned", CommitBuilder, "_follow", _jumped),
    Marker("events packed into blocks", lamport.compaction, "_packed", lambda c: bool(c.result)),
    Marker("read from blocks and rows", EventTable, "scan", _both_kinds),
    Marker("found in a block by tag", EventTable, "find", _in_a_block),
    # fish
    Marker("late event behind a checkpoint", Timeline, "rewind_to", lambda c: c.result is not None),
    Marker("late event behind every checkpoint", Timeline, "rewind_to", _returned(value=None)),
    Marker("late event before a reset", Timeline, "_is_late", _late_before_reset),
    Marker("start from a stored snapshot", Timeline, "restore", _always),
    Marker(
        "stored snapshot does not hold",
        SnapshotShelf,
        "_spoilt_from",
        lambda c: c.result is not None,
    ),
    Marker("retracted event in a state", RunningFish, "_first_changed", _always),
    Marker(
        "retracted event in a snapshot", SnapshotShelf, "_retracted_since", lambda c: bool(c.result)
    ),
    Marker("late event behind a snapshot", SnapshotShelf, "spoil", _always),
    Marker(
        "news in the middle of a replay",
        RunningFish,
        "_travel",
        lambda c: c.arguments[0]._news is not None,
    ),
    Marker("work survives a close that did not name it", WorkIds, "closed", _survives),
    Marker("fish lost its inbox", RunningFish, "_read_missed", _always),
    # links
    Marker("nobody answers a dial", SimulatedNetwork, "dial", _raised(TimeoutError)),
    Marker("nobody listens", SimulatedNetwork, "dial", _raised(ConnectionRefusedError)),
    Marker("bytes lost on the way", Direction, "_note", _argument(1, Kind.LOST)),
    Marker("announcement lost", SimulatedNetwork, "_copies", lambda c: c.result == 0),
    Marker("announcement doubled", SimulatedNetwork, "_copies", lambda c: c.result > 1),
    Marker("half-open connection reset", Direction, "_arrive_nowhere", _reset_from_afar),
    Marker(
        "half-open connection goes on in silence",
        Direction,
        "_arrive_nowhere",
        lambda c: not c.arguments[0].over,
    ),
    Marker("dialled from both ends at once", Peers, "_supersedes", _returned(value=False)),
    Marker(
        "link replaced by a newer one",
        Link,
        "end",
        lambda c: str(c.arguments[1]).startswith("replaced"),
    ),
    Marker("silent peer given up", Session, "elapsed", _raised(PeerFault)),
    Marker(
        "link ended in the middle of a transfer",
        Session,
        "close",
        lambda c: bool(c.arguments[0].wants.open),
        before=True,
    ),
    # gossip
    Marker("transfer resumed behind what was held", Session, "_ask_for", _wants_from_the_middle),
    Marker("stream claimed by another link", Claims, "take", _returned(value=False)),
    Marker("claim taken over from a slow link", Claims, "take", _claimed_by_other, before=True),
    Marker("range came twice", Session, "taken", lambda c: not c.named["added"]),
    Marker("range refused by a full disk", Session, "untaken", _always),
    Marker("stuck transfer left to others", Wants, "abandon_stuck", _returned(value=True)),
    Marker(
        "author's certificate handed on", Session, "serve", lambda c: c.arguments[1].certificate
    ),
    Marker("seal refused", Peers, "_note_end", lambda c: isinstance(c.arguments[2], ForgedEvents)),
    Marker("banned peer turned away", Peers, "_reason_to_refuse", _returned(Refusal.BANNED)),
    Marker("stream set aside", Aside, "diverge", _always),
)
"""Every marker; a thousand seeds that miss one have failed."""
