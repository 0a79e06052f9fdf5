"""A node, assembled: the composition root of Shoal.

`async with Node(identity, seams) as node:` opens the log, starts the pond and links up with peers; leaving the block
stops all of it in the opposite order and keeps what was acknowledged. Everything that runs in the background lives in
one task group: an error in it that is nobody else's fault (a failing disk, a bug) ends the node rather than leaving
half of one.

The way of a datum: `publish` -> log -> followers (the pond's fish, subscribers, the links to peers)
-> the peers' logs -> their followers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

from fish.machines.office import Run
from fish.machines.runtime import Machines
from fish.machines.system import System
from fish.pond import Pond
from fish.protocols.playing import Player
from fish.protocols.roles import Role
from fish.typed import payload_of
from lamport.errors import DAMAGE_REMEDY
from lamport.event import DEFAULT_APP_ID, Draft, Event, draft
from lamport.exchange import Imported, import_archive
from lamport.gaps import gaps
from lamport.ids import MIN_DRAWN_STREAM_NUMBER, STREAM_NUMBER_LIMIT, EventKey, NodeId, StreamId
from lamport.log import EventLog
from lamport.notices import Notice
from lamport.offsets import OffsetMap, missing
from lamport.proving import Fork
from lamport.query import parse_query
from lamport.reader import Order
from lamport.routes import Route, Routes
from lamport.store import Store
from lamport.tags import Tags, Where
from lamport.upcasters import NO_UPCASTERS, Upcasters
from lamport.verification import require_sound_heads
from shoal.alarms import raise_alarms
from shoal.errors import NotInSync
from shoal.keys import IdentityKeys
from shoal.seams import Seams
from shoal.sync import Sync, sync_of
from shoal.version import PROGRAM
from transport.identity import Identity
from transport.network import Address
from transport.peers import Peers
from transport.standing import PeerStatus

_log = logging.getLogger("shoal.node")


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node knows of itself and its peers. `missing` counts, per stream, events known to exist elsewhere.

    `sync` says with whom it is in sync, and which peers are away, so that what they wrote since is unknown.
    `fish` are those that run here, `stopped` those of them whose reducer raised, and what happened;
    `damaged` are streams of which this disk holds a range that could not be served, and which; `retracted` counts the
    events that are hidden, `void_retractions` the retractions that came since the start and hide nothing. `forks` are
    the proven forks: streams of which two histories bear their author's seals. `named` are the streams that this node's
    routes lead to, `horizons` the first offset that is kept of each stream that was pruned. `epoch` is that of this
    node's keys; `revoked` are the nodes that the admin has put out, and how far each of their streams counts that is
    held here.
    """

    node: NodeId
    stream: StreamId
    listening: Address
    lamport: int
    offsets: OffsetMap
    missing: Mapping[StreamId, int]
    sync: Sync
    peers: tuple[PeerStatus, ...]
    unreached: Mapping[str, str]
    fish: tuple[str, ...]
    stopped: Mapping[str, str]
    damaged: Mapping[StreamId, str]
    retracted: int
    void_retractions: int
    forks: tuple[Fork, ...]
    named: Mapping[str, StreamId]
    horizons: Mapping[StreamId, int]
    epoch: int
    revoked: Mapping[NodeId, OffsetMap]
    quarantined: Mapping[StreamId, int]
    """Streams that linked peers hold and whose timestamps leap too far to be taken in, and the last of these."""


class Node:
    """One device of the swarm. Use it as an async context manager."""

    def __init__(
        self,
        identity: Identity,
        seams: Seams,
        *,
        peers: Iterable[Address] = (),
        announced: Iterable[Address] = (),
        exchanges: bool = True,
        routes: Iterable[Route] = (),
        upcasters: Upcasters = NO_UPCASTERS,
        development: bool = False,
    ) -> None:
        """Prepare a node for an enrolled device.

        `peers` are addresses to dial beside those discovered; `announced` are those that this node's peers are told and
        hand on (by default where it listens), unless it `exchanges` none. `routes` say which of this node's events are
        not kept for ever (docs/retention.md); `upcasters` bring events of older versions to today's wherever this node
        hands out events. In `development` its fish are examined for purity at every event; see `Pond`.

        Raises:
            InvalidInput: the routes contradict each other, or are too many.
        """
        self._upcasters = upcasters
        self._development = development
        self._identity = identity
        self._seams = seams
        self._addresses = tuple(peers)
        self._announced = tuple(announced)
        self._exchanges = exchanges
        self._routes = Routes(routes)
        self._stack = AsyncExitStack()
        self._log: EventLog | None = None
        self._pond: Pond | None = None
        self._peers: Peers | None = None
        self._listening: Address | None = None

    async def __aenter__(self) -> Self:
        """Open the log, listen, and start everything.

        Raises:
            StoreMismatch: the database is another version's, node's or swarm's.
            LocalFault: the address to listen at cannot be used.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Stop; raises what ended a background task, if one ended with an error."""
        return await self._stack.__aexit__(kind, error, trace)

    @property
    def id(self) -> NodeId:
        """This node."""
        return self._identity.node

    @property
    def log(self) -> EventLog:
        """The event log."""
        assert self._log is not None, "a node is used inside its `async with` block"
        return self._log

    @property
    def pond(self) -> Pond:
        """Where this node's fish live."""
        assert self._pond is not None, "a node is used inside its `async with` block"
        return self._pond

    @property
    def peers(self) -> Peers:
        """The links to other nodes."""
        assert self._peers is not None, "a node is used inside its `async with` block"
        return self._peers

    @property
    def listening(self) -> Address:
        """Where this node listens for peers."""
        assert self._listening is not None, "a node is used inside its `async with` block"
        return self._listening

    @property
    def offsets(self) -> OffsetMap:
        """What this node holds, durably."""
        return self.log.offsets

    def machines(
        self,
        system: System,
        *,
        services: Mapping[str, Run] | None = None,
        effects: Mapping[str, Run] | None = None,
        **more: Any,
    ) -> Machines:
        """State machines at work on this node: `async with node.machines(system, services=...) as machines`.

        `more` is what `Machines` takes besides.
        """
        return Machines(
            self.log,
            self.pond,
            system,
            wall_clock=self._seams.wall_clock,
            services=services,
            effects=effects,
            **more,
        )

    def role(self, role: Role, tags: Tags, *, name: str = "role") -> Player:
        """A role of a swarm protocol at this node, for the events with these tags: `await node.role(...).give("bid")`.

        Two roles that differ and listen to the same tags at one node bear different names.
        """
        return Player(self.log, self.pond, role, tags, name)

    async def publish(
        self,
        tags: Tags | str | list[str] | tuple[str, ...],
        payload: Any,
        *,
        app_id: str = DEFAULT_APP_ID,
        wait: bool = True,
    ) -> Event:
        """Append one event; returns it once it is durable here. The payload may be a typed event (`fish.typed`).

        What it returns is a token, too: `pond.current_state(fish, after=event)` waits for a state that covers it.

        It never waits for a peer, except behind a start: those that can be reached are asked first whether they know
        more of this node's stream than it does itself, for two seconds at most. Where more is asked of the node than
        its disk can take, callers wait for their turn; with `wait=False` they are told at once.

        Raises:
            InvalidInput: tags or payload break a rule or limit; nothing was stored.
            Overloaded: this call would have to wait for its turn; nothing was stored. Only with `wait=False`.
            StoreFull: the disk has no room; nothing was stored.
        """
        [event] = await self.publish_all([draft(tags, payload_of(payload), app_id)], wait=wait)
        return event

    async def publish_all(self, drafts: Iterable[Draft], *, wait: bool = True) -> tuple[Event, ...]:
        """Append events in this order, all or none; returns them once they are durable here. Raises as `publish`."""
        return await self.log.publish(tuple(drafts), wait=wait)

    async def import_archive(self, file: BinaryIO) -> Imported:
        """Take in an archive that `shoal export` made if all of it holds, while everything else goes on.

        Raises:
            CorruptArchive: it does not hold, or this node cannot take all of it in; nothing of it was stored.
            StoreFull: there is no room; what was stored until then stays, and importing again adds the rest.
        """
        keys = IdentityKeys(self._identity)
        keys.learn(self.log.store.notices)
        return await import_archive(self.log, keys, file, self._seams.work)

    async def retract(self, *keys: EventKey | str, reason: str, signature: bytes = b"") -> Event:
        """Hide events of this node from all folds and queries of the swarm, for good; returns the retraction.

        The bytes stay: in this log, at the peers, in archives. `signature` is the admin's over
        `lamport.retraction.signed_names`; with it the events of other nodes may be retracted, too. An event that is
        not known here yet is hidden when it comes.

        Raises:
            InvalidInput: a key is none, another node's or that of a retraction; nothing was stored.
            StoreFull: the disk has no room; nothing was stored.
        """
        targets = [EventKey.parse(key) if isinstance(key, str) else key for key in keys]
        return await self.log.retract(targets, reason, signature=signature)

    async def learn(self, notice: Notice) -> bool:
        """Take in what the admin has signed for the whole swarm, and spread it; returns whether it was news.

        Raises:
            CorruptRange: it is not the admin's, or says nothing that can be read; nothing was stored.
            StoreFull: the disk has no room; nothing was stored.
        """
        return await self.peers.learn(notice)

    async def query(
        self,
        where: Where | str,
        *,
        order: Order = Order.ASCENDING,
        lower: OffsetMap | None = None,
        upper: OffsetMap | None = None,
    ) -> AsyncIterator[Event]:
        """The matching events that are known now and not retracted; `where` is a selection or a query text.

        `lower` is exclusive; `upper` is inclusive and leaves out streams it does not name.

        Raises:
            InvalidQuery: the text does not parse.
            UpcastFailed: an event cannot be brought to today's version; those before it were given.
        """
        selection = parse_query(where) if isinstance(where, str) else where
        if lower is not None:
            # It may have been handed out before a fork was proven, or by another node.
            lower = self.log.store.branches.clipped(lower)
        async for page in self.log.query(selection, lower=lower, upper=upper, order=order):
            for event in page:
                yield event

    def subscribe(
        self,
        where: Where | str,
        *,
        lower: OffsetMap | None = None,
        on_retracted: Callable[[Event], object] | None = None,
    ) -> AsyncIterator[Event]:
        """The matching events that are known now and, as they come, those that follow; each once.

        `on_retracted` is called with each event that was given (or lies below `lower`) and is retracted later.

        Raises:
            InvalidQuery: the text does not parse.
            UpcastFailed: an event cannot be brought to today's version.
        """
        selection = parse_query(where) if isinstance(where, str) else where
        return self.log.subscribe(selection, lower=lower, on_retracted=on_retracted)

    def status(self) -> NodeStatus:
        """What this node knows of itself and its peers at this moment."""
        peers = self.peers.status()
        lacking = self._missing(peers)
        return NodeStatus(
            node=self.id,
            stream=self.log.stream,
            listening=self.listening,
            lamport=self.log.lamport,
            offsets=self.offsets,
            missing=lacking,
            sync=sync_of(peers, sum(lacking.values())),
            peers=peers,
            unreached=self.peers.unreached(),
            fish=self.pond.running,
            stopped=self.pond.stopped,
            damaged=self.log.damages.texts,
            retracted=len(self.log.retracted),
            void_retractions=self.log.retracted.void,
            forks=self.log.forks.prover.forks(),
            named=self.log.own_streams.named,
            horizons=self.log.horizons,
            epoch=self.peers.members.credentials.newest.epoch,
            revoked=self._revoked(),
            quarantined=dict(leap for peer in peers for leap in peer.leaps.items()),
        )

    def _revoked(self) -> dict[NodeId, OffsetMap]:
        held = self.offsets
        return {
            node: OffsetMap({part: last for part, last in held.items() if part.node == node})
            for node in sorted(self.log.store.cuts.revoked)
        }

    async def in_sync(self, *, minimum_peers: int = 1, timeout: float | None = None) -> Sync:  # noqa: ASYNC109 - the error says what the time limit's own cannot
        """Wait until this node holds all that its linked peers hold, and these are at least so many; returns how it is.

        What peers that are away wrote since is unknown, and not waited for: `Sync.away` names them. More may come the
        next moment. `timeout` is in seconds.

        Raises:
            NotInSync: the time is over; the text says what is missing.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (found := self._sync()).is_reached(minimum_peers):
                    await self.peers.told()
        except TimeoutError:
            text = self._sync().text
            raise NotInSync(f"not in sync with {minimum_peers} after {timeout} s: {text}") from None
        return found

    def _sync(self) -> Sync:
        peers = self.peers.status()
        return sync_of(peers, sum(self._missing(peers).values()))

    def _missing(self, peers: Iterable[PeerStatus]) -> dict[StreamId, int]:
        """How many events are known to be held elsewhere, kept by their authors, and count."""
        known = OffsetMap()
        for peer in peers:
            known = known.raised(peer.offsets)
        horizons = {s: one.announced for s, one in self.log.store.horizons.items()}
        closed = self.log.store.branches.closed
        lacking = missing(self.offsets, self.log.store.cuts.clip(known), horizons)
        return {one.stream: len(one) for one in lacking if one.stream not in closed}

    async def _start(self) -> None:
        stack, seams = self._stack, self._seams
        keys = IdentityKeys(self._identity)
        names = self._routes.policies
        store = await Store.open(seams.disk, keys, self._draw_number, names)
        stack.push_async_callback(store.close)
        for finding in await require_sound_heads(store.reader, keys):
            _log.error("damaged on this disk: %s: run `shoal verify --heal`", finding)
        log = EventLog(
            store,
            keys,
            seams.wall_clock,
            seams.work,
            reserve=seams.reserve,
            settling=self._may_be_known_better(store),
            routes=self._routes,
            upcasters=self._upcasters,
        )
        for gap in await gaps(store):
            text = f"offsets {gap.first} to {gap.last} of stream {gap.stream} are lost on this disk"
            _log.error("%s: %s", text, DAMAGE_REMEDY)
            log.damaged(gap, f"{text}: {DAMAGE_REMEDY}")
        await log.forks.prover.load()
        # Before the log is closed its followers must be gone; after it the group waits for the writer's last commit.
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(log.close)
        tasks.create_task(log.write(), name="log")
        alarms = tasks.create_task(raise_alarms(log), name="alarms")
        stack.push_async_callback(_cancelled, alarms)
        pond = Pond(log, tasks, oversight=seams.oversight, development=self._development)
        stack.push_async_callback(pond.close)
        revival = tasks.create_task(_revive(log, pond), name="revival")
        stack.push_async_callback(_cancelled, revival)
        peers = Peers(
            log=log,
            identity=self._identity,
            network=seams.network,
            randomness=seams.randomness,
            program=PROGRAM,
            work=seams.work,
            wall_clock=seams.wall_clock,
            addresses=self._addresses,
            credentials=keys.credentials,
            announced=self._announced,
            exchanges=self._exchanges,
            catching_up=pond.catching_up,
        )
        await peers.load()
        self._log, self._pond, self._peers = log, pond, peers
        self._listening = await stack.enter_async_context(seams.network.listen(peers.serve))
        gossip = tasks.create_task(peers.run(self._listening), name="peers")
        stack.push_async_callback(_cancelled, gossip)

    def _may_be_known_better(self, store: Store) -> bool:
        """Whether there are others who might know more of this node's stream than it does itself."""
        strangers = bool(self._addresses) or len(store.authors) > 1
        return strangers and not store.has_new_stream

    def _draw_number(self) -> int:
        return self._seams.randomness.randrange(MIN_DRAWN_STREAM_NUMBER, STREAM_NUMBER_LIMIT)


async def _revive(log: EventLog, pond: Pond) -> NoReturn:
    """Let fish go on whenever something damaged was mended."""
    while True:
        await log.damages.mended()
        pond.revive()


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended; what it ended with is its group's business."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
