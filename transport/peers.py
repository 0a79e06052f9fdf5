"""All the links of a node: who is dialled, who is let in, who is told what.

Every address that is configured or heard of has a dialler, which tries until it is linked and then sleeps until the
link is gone. Whoever dials us is proven by the channel, then by the hello, then admitted or turned away here. Two
links to one peer are one too many: the newer replaces the older, and of two dialled at the same moment from both ends
both sides keep the one that the smaller node id dialled. What links are told of what the log takes in is the business
of `transport.spreading`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from random import Random

from lamport.errors import StoreFailed
from lamport.ids import NodeId
from lamport.log import EventLog
from lamport.notices import Notice
from lamport.seams import INLINE, WallClock, Work
from transport.bans import BAN_S, Bans
from transport.catchup import CatchUp
from transport.claims import Claims
from transport.clocks import Clocks, PeerClock
from transport.credentials import Credentials
from transport.errors import (
    ForgedEvents,
    LinkEnded,
    LocalFault,
    PeerRejected,
    TransportError,
)
from transport.exchange import own
from transport.handshake import (
    HELLO_TIMEOUT_S,
    NONCE_BYTES,
    READ_BYTES,
    ClientHandshake,
    Handshake,
    Refusal,
    ServerHandshake,
)
from transport.identity import Identity
from transport.link import Link
from transport.meeting import keep_telling
from transport.membership import Membership
from transport.mesh import ENOUGH_LINKS, MOST_LINKS, PROBATION_S, Mesh, Standing
from transport.network import Address, Candidate, Channel, Found, Network
from transport.newcomer import Newcomer
from transport.repairs import Repairs
from transport.rooting import Rooting
from transport.session import Session
from transport.spreading import Spreading
from transport.standing import PeerStatus, away
from transport.standing import linked as standing_of
from transport.targets import Target, Targets
from transport.tree import Tree

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 2.0
"""A dialler waits between these before it tries again: doubling, and shortened by up to half at random."""

LASTING_S = 2.0
"""A link that ends sooner was none for its dialler: dialled again at once, it would end at once for ever."""

MAX_FAILURES = 300
"""Failed attempts (about ten minutes) after which an announced address is forgotten until announced again."""

CROSSING_S = 5.0
"""Links from both ends that are at most so far apart were dialled at the same moment."""

SETTLING_S = 2.0
"""How long a log that is settling waits at most for peers to tell what they know of its own stream."""

_log = logging.getLogger("shoal.transport")


class Peers:
    """Keeps a node linked to the peers it can reach, and their logs equal."""

    def __init__(
        self,
        *,
        log: EventLog,
        identity: Identity,
        network: Network,
        randomness: Random,
        program: str,
        work: Work = INLINE,
        wall_clock: WallClock = lambda: 0,
        addresses: tuple[Address, ...] = (),
        credentials: Credentials | None = None,
        announced: tuple[Address, ...] = (),
        exchanges: bool = True,
        catching_up: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare.

        `addresses` are dialled for as long as the node runs. Where it `exchanges`, it tells its peers the addresses
        that it knows of, its own among them (`announced`; by default where it listens), and dials those that they tell.
        `catching_up` announces, while its context is open, that much is about to come.
        """
        self._own_addresses = announced
        self._exchanges = exchanges
        self._dial_candidate: Found = _forget
        self._log = log
        self._network = network
        self._randomness = randomness
        self._program = program
        self._work = work
        self._wall_clock = wall_clock
        self._targets = Targets(addresses)
        self._links: dict[NodeId, Link] = {}
        known = Credentials(identity) if credentials is None else credentials
        self.members = Membership(log, known, network, self._links)
        """Who belongs to the swarm now."""
        self._cut: dict[NodeId, None] = {}
        self._bans = Bans(log.store, wall_clock)
        self._errors: dict[NodeId, str] = {}
        self._claims = Claims()
        self._catch_up = CatchUp(log.store.head, catching_up)
        self._tree = Tree(log.node, randomness)
        self._rooting = Rooting(self._tree.place, self._links)
        self._spreading = Spreading(log, self._links, self._tree, self._rooting, randomness)
        self._clocks = Clocks()
        self._mesh = Mesh(randomness)
        self._newcomer = Newcomer(log, self._links)
        self._dialling = 0
        self._changed = asyncio.Event()
        self._told = asyncio.Event()
        self._news: asyncio.Event | None = None
        """Where there is one, somebody waits in `told`."""

    async def load(self) -> None:
        """Remember what was learnt of peers before this node was started; before anybody may dial it."""
        await self._bans.load()
        await self._newcomer.load()

    async def run(self, listening: Address) -> None:
        """Announce, dial, gossip; until cancelled. `listening` is where `serve` is being called from."""
        async with asyncio.TaskGroup() as diallers:
            diallers.create_task(self._settle())
            diallers.create_task(self._explore())
            diallers.create_task(self._bans.keep())
            diallers.create_task(Repairs(self._log, self._links).run())
            diallers.create_task(self._rooting.run())
            diallers.create_task(self.members.run())
            diallers.create_task(self._newcomer.run(self.told))
            for target in self._targets:
                diallers.create_task(self._keep_dialling(target))

            def dial(candidate: Candidate, *, exchanged: bool = False) -> None:
                for target in self._new_targets(candidate, exchanged=exchanged):
                    diallers.create_task(self._keep_dialling(target))

            self._dial_candidate = partial(dial, exchanged=True)
            if self._exchanges:
                mine = own(self._log.node, self._own_addresses, listening)
                diallers.create_task(keep_telling(mine, self._links, self._reached))
            try:
                async with self._network.announce(listening, dial):
                    await self._spreading.run()
            finally:
                self._dial_candidate = _forget  # a link that is still served may hear of somebody

    def _new_targets(self, candidate: Candidate, *, exchanged: bool) -> list[Target]:
        """What a hint adds to the addresses to dial."""
        if candidate.node == self._log.node:
            return []
        return self._targets.add(candidate, exchanged=exchanged)

    def _meet(self, candidates: Sequence[Candidate]) -> None:
        """A peer told where nodes may be dialled."""
        for candidate in candidates if self._exchanges else ():
            self._dial_candidate(candidate)

    def cut(self, node: NodeId) -> None:
        """Close the link to a node and refuse it until healed. For drills.

        Raises:
            LocalFault: it is this very node.
        """
        if node == self._log.node:
            raise LocalFault("a node cannot be cut off from itself: name a peer")
        self._cut[node] = None
        if node in self._links:
            self._links[node].end("cut by the operator")

    def heal(self, node: NodeId | None = None) -> None:
        """Talk again to a node that was cut or banned, or to all of them."""
        self._bans.lift(node)
        for healed in [node] if node is not None else list(self._cut):
            self._cut.pop(healed, None)
        self._note_change()

    def status(self) -> tuple[PeerStatus, ...]:
        """Every peer that is linked, cut or was met, in node order."""
        known = {*self._links, *self._cut, *self._errors}
        known.update(target.node for target in self._targets if target.node is not None)
        return tuple(self._status(node) for node in sorted(known))

    def unreached(self) -> Mapping[str, str]:
        """See `Targets.unreached`."""
        return self._targets.unreached()

    @property
    def linked(self) -> frozenset[NodeId]:
        """The nodes that are linked now."""
        return frozenset(self._links)

    async def changed(self) -> None:
        """Wait until a link begins or ends, or a peer is healed."""
        await self._changed.wait()

    async def told(self) -> None:
        """Wait until a peer has told something, what one told was taken in, or links have changed."""
        self._news = self._news or asyncio.Event()
        await self._news.wait()

    def _status(self, node: NodeId) -> PeerStatus:
        link, store, now = self._links.get(node), self._log.store, self._now()
        is_cut, error = node in self._cut, self._errors.get(node, "")
        if link is None:
            revoked = self.members.is_revoked(node)
            status = PeerStatus(
                node, connected=False, cut=is_cut, revoked=revoked, last_error=error
            )
            return away(status, self._clocks.known(node), store, now)
        return standing_of(node, link, store, now, cut=is_cut, error=error)

    def _reached(self) -> dict[NodeId, Address]:
        """The linked nodes with the addresses under which they were reached from here."""
        return self._targets.reached(self._links)

    async def _keep_dialling(self, target: Target) -> None:
        """Keep an address linked for as long as the node runs."""
        while target.node != self._log.node:
            if target.node in self._links or target.node in self._cut or not self._wants(target):
                await self._changed.wait()
                target.failures = 0
            elif (left_s := self._bans.left_s(target.node)) > 0:
                await self._changed_within(left_s)
            elif await self._dial(target):
                target.failures = 0
            else:
                target.failures += 1
            if target.failures >= MAX_FAILURES and not target.configured:
                self._targets.forget(target)
                return
            await asyncio.sleep(self._backoff_s(target.failures))

    async def _changed_within(self, seconds: float) -> None:
        """Wait so long, or until something changes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _wants(self, target: Target) -> bool:
        links = len(self._links) + self._dialling
        return target.configured or target.explored or self._mesh.wants_more(self._known(), links)

    def _known(self) -> int:
        """How many other nodes this one has heard of."""
        return self._targets.known(self._links)

    async def _explore(self) -> None:
        """Now and then, in a swarm that is too large for links with all, meet somebody else."""
        while True:
            await asyncio.sleep(self._mesh.exploring_s())
            if not self._mesh.is_partial(self._known()):
                continue
            reserve = self._reserve()
            chosen = self._mesh.to_explore(sorted(reserve))
            if chosen is not None:
                reserve[chosen].explored = True
                self._note_change()
                await asyncio.sleep(2 * PROBATION_S)
                reserve[chosen].explored = False
                self._make_room(ENOUGH_LINKS)

    def _reserve(self) -> dict[NodeId, Target]:
        """The nodes that could be linked with and are not, each with an address."""
        return self._targets.reserve({self._log.node, *self._links, *self._cut})

    def _make_room(self, most: int) -> None:
        configured = {t.node for t in self._targets if t.configured}
        standings = [
            Standing(
                node,
                node in configured,
                link.session.traffic.events_in,
                self._now() - link.since,
            )
            for node, link in self._links.items()
            if link.dialled or most == MOST_LINKS
        ]
        surplus = self._mesh.to_let_go(standings, most)
        if surplus is not None:
            self._links[surplus].end("making room for others")

    async def _dial(self, target: Target) -> bool:
        """One attempt; returns whether there was a link that lasted (it has ended by now)."""
        self._dialling += 1
        try:
            greeted = await self._greet(target)
        finally:
            self._dialling -= 1
        if greeted is None:
            self._note_change()  # somebody else in reserve may try
        return greeted is not None and await self._run_link(*greeted, dialled=True)

    async def _greet(self, target: Target) -> tuple[Channel, Handshake] | None:
        """Dial an address, and go through the hello with who is there; None where that failed."""
        try:
            channel = await self._network.dial(target.address)
            self._note_try(target)
        except (OSError, TransportError, TimeoutError, ValueError) as error:
            # A ValueError is a host name that cannot be looked up.
            target.error = str(error) or type(error).__name__
            self._note_try(target)
            return None
        try:
            target.node = channel.peer
            # Before a word is said, or it would believe to be linked.
            self.members.require_member(channel)
            self._targets.recount()
            handshake = ClientHandshake(*self._hello(channel))
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await channel.write(handshake.start())
                await _shake(channel, handshake)
            self._refuse_unwanted(channel)
        except (OSError, TransportError, TimeoutError) as error:
            target.error = str(error) or "the hello took too long"
            self._errors[channel.peer] = target.error
            channel.abort()
            return None
        except BaseException:
            channel.abort()
            raise
        return channel, handshake

    async def serve(self, channel: Channel) -> None:
        """Serve a node that dialled us, from the hello to the end of the link; for the network's listener."""
        try:
            handshake = ServerHandshake(*self._hello(channel))
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await _shake(channel, handshake)
                reason = self._reason_to_refuse(channel)
                if reason is not None:
                    await channel.write(handshake.refuse(reason))
                    await channel.read(1)  # its hang-up: closing first could overtake the answer
                    return
                await channel.write(handshake.admit())
        except (OSError, TransportError, TimeoutError) as error:
            _log.info(
                "%s was turned away in the hello: %s", channel.remote, str(error) or "too slow"
            )
            return
        await self._run_link(channel, handshake, dialled=False)

    async def _run_link(self, channel: Channel, handshake: Handshake, *, dialled: bool) -> bool:
        if not self._supersedes(channel.peer, dialled=dialled):
            channel.abort()
            return False
        link = Link(
            channel,
            self._session(self._clocks.of(channel.peer)),
            self._log,
            dialled=dialled,
            told=self._note_told,
            relay=self._spreading.relay,
            learn=self.learn,
            work=self._work,
            met=self._meet,
        )
        self._register(channel.peer, link)
        try:
            ended = await link.run(handshake.leftover)
        except Exception as error:  # noqa: BLE001 - it is told of below
            ended = error
        finally:
            self._unregister(channel.peer, link)
        if isinstance(ended, StoreFailed):
            self.members.fail(ended)
        if not isinstance(ended, TransportError | OSError):
            # A bug of ours that one peer found must not take the other links along.
            _log.error("the link to %s failed", channel.peer.short, exc_info=ended)
            ended = LinkEnded(f"failed here: {type(ended).__name__}")
        self._note_end(channel.peer, ended)
        return self._now() - link.since >= LASTING_S

    def _session(self, clock: PeerClock) -> Session:
        store = self._log.store
        return Session(
            program=self._program,
            held=store.head,
            announced=store.announced,
            knows_author=store.authors.__contains__,
            grows=store.grows,
            reach=lambda: store.leaps.reach(store.clock.highest),
            claims=self._claims,
            tree=self._tree,
            catch_up=self._catch_up,
            is_lively=self._log.is_lively,
            journal=self._spreading.journal,
            clock=clock,
            wall_clock=self._wall_clock,
            now=self._now(),
        )

    async def learn(self, notice: Notice) -> bool:
        """See `Membership.learn`."""
        is_news = await self.members.learn(notice)
        if is_news:
            self._note_change()
        return is_news

    def _hello(self, channel: Channel) -> tuple[Identity, bytes, bytes, bytes]:
        nonce = self._randomness.randbytes(NONCE_BYTES)
        identity = self.members.identity_for(channel)
        return identity, identity.certificate, channel.peer_certificate, nonce

    def _backoff_s(self, failures: int) -> float:
        longest: float = min(FIRST_BACKOFF_S * 2 ** min(failures, 10), MAX_BACKOFF_S)
        return longest * self._randomness.uniform(0.5, 1.0)

    def _reason_to_refuse(self, channel: Channel) -> Refusal | None:
        node = channel.peer
        if node == self._log.node:
            return Refusal.SELF
        if (refusal := self.members.reason_to_refuse(channel)) is not None:
            return refusal
        if node in self._cut:
            return Refusal.CUT
        if self._bans.left_s(node) > 0:
            return Refusal.BANNED
        return None if self._supersedes(node, dialled=False) else Refusal.BUSY

    def _refuse_unwanted(self, channel: Channel) -> None:
        """Raise for a peer that was dialled by its address and turns out not to be talked to."""
        if channel.peer == self._log.node:
            raise PeerRejected("this is our own address, or a node with a copy of our key")
        if channel.peer in self._cut or self._bans.left_s(channel.peer) > 0:
            raise PeerRejected("this peer is cut or banned here")

    def _supersedes(self, node: NodeId, *, dialled: bool) -> bool:
        """Whether a new link would replace the one there is."""
        old = self._links.get(node)
        if old is None or old.dialled == dialled or self._now() - old.since > CROSSING_S:
            return True
        return dialled == (self._log.node < node)

    def _register(self, node: NodeId, link: Link) -> None:
        old = self._links.get(node)
        if old is not None:
            old.end("replaced by a newer link")
        self._links[node] = link
        self._errors.pop(node, None)
        self.members.note(link)
        self._make_room(MOST_LINKS)
        _log.info("linked to %s at %s", node.short, link.channel.remote)
        self._note_change()

    def _unregister(self, node: NodeId, link: Link) -> None:
        if self._links.get(node) is link:
            del self._links[node]
        self._note_change()

    def _note_end(self, node: NodeId, ended: TransportError | OSError) -> None:
        self._errors[node] = str(ended) or type(ended).__name__
        if isinstance(ended, ForgedEvents):
            self._bans.add(node)
            _log.warning("%s is not talked to for %d s: %s", node.short, BAN_S, ended)
        else:
            level = logging.INFO if isinstance(ended, LinkEnded) else logging.WARNING
            _log.log(level, "the link to %s ended: %s", node.short, self._errors[node])

    async def _settle(self) -> None:
        """Let the log publish once the peers that can be reached have told, and given back, all of its own stream."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLING_S):
                while not self._all_told():
                    self._told.clear()
                    await self._told.wait()
        self._log.settle()

    def _all_told(self) -> bool:
        tried = all(t.tried or t.node in self._links for t in self._targets)
        return bool(self._links) and tried and all(map(self._has_told, self._links.values()))

    def _has_told(self, link: Link) -> bool:
        session, held = link.session, self._log.offsets
        return link.has_told and all(
            own not in session.diverged and session.theirs.get(own, -1) <= held.of(own)
            for own in self._log.own_streams
        )

    def _note_try(self, target: Target) -> None:
        target.tried = True
        self._note_told()

    def _note_told(self) -> None:
        self._told.set()
        if self._news is not None:
            self._news.set()
            self._news = None

    def _note_change(self) -> None:
        self._targets.recount()
        self._note_told()
        self._changed.set()
        self._changed = asyncio.Event()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _forget(_candidate: Candidate) -> None:
    """Dial nobody: the node does not run, or not any more."""


async def _shake(channel: Channel, handshake: Handshake) -> None:
    """Move the hello's bytes until the peer has proven itself (server) or let us in (client)."""
    while not (handshake.done or handshake.proven):
        await channel.write(handshake.receive(await channel.read(READ_BYTES)))
