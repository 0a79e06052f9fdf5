"""Machines at work on a node: send events, wait until they settle, let services and effects run.

    async with Machines(node.log, node.pond, System((order,)), wall_clock=clock, services={"pay": pay}) as machines:
        answer = await machines.machine("order/17").send({"type": "PAY"})

The fold (`fish.machines.system`) is the truth on every node alike. A runtime adds what one node does about it: it
answers commands (`send`), runs the services and effects of events that this node logged, and rings their timers.
Nothing is shown, accepted or done before every machine is started and all that the log holds is folded in.

The way of a command: `send` looks whether the caught-up machine would take the event, stamps the work ids that it
closes, appends it, and waits until no service is in flight or the time limit is over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

from fish.definition import Metadata
from fish.errors import FishStopped, PondClosed
from fish.log import Log
from fish.machines.addresses import split
from fish.machines.commands import (
    Answer,
    Filter,
    Gate,
    Hook,
    given_context,
    is_event,
    misformed,
    require_dedupe,
    require_limit,
)
from fish.machines.errors import AccessDenied, NotReady
from fish.machines.expressions import Meta
from fish.machines.folding import World
from fish.machines.instance import WAITING, Instance, Passage
from fish.machines.inventory import effects_of, services_of
from fish.machines.ledger import Effects, Orphaned
from fish.machines.office import LOGGER, Office, Run
from fish.machines.services import TIMEOUT_S, Services, abort
from fish.machines.system import System
from fish.machines.timers import Timers
from fish.pond import Pond
from lamport.errors import InvalidInput
from lamport.event import Event
from lamport.ids import EventKey, NodeId

KEPT_STAYING = 4_096
"""Instances of which was told that they could not be migrated; of more, some are told of again."""

_Shown = TypeVar("_Shown")


class Machines:
    """The machines of a system on one node. Use it as an async context manager, inside the node's."""

    def __init__(
        self,
        log: Log,
        pond: Pond,
        system: System,
        *,
        wall_clock: Callable[[], int],
        services: Mapping[str, Run] | None = None,
        effects: Mapping[str, Run] | None = None,
        name: str = "machines",
        may_send: Gate | None = None,
        may_look: Gate | None = None,
        hooks: tuple[Hook, ...] = (),
        orphaned: Orphaned = lambda _: None,
        starts: bool = True,
        members: Collection[str] | None = None,
        filters: tuple[Filter, ...] = (),
    ) -> None:
        """`wall_clock` gives microseconds since the epoch; with `starts=False` each machine waits for `start`.

        `members` are the texts of the nodes that have to be heard before an effect is stable; without them, all whose
        streams are known.
        """
        self._log, self._pond, self._system = log, pond, system
        self._fish = system.fish(name)
        self._wall_clock = wall_clock
        self._services_runs, self._effects_runs = services or {}, effects or {}
        self._may_send, self._may_look, self._hooks = may_send, may_look, hooks
        self._orphaned, self._members, self._filters = orphaned, members, filters
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._missing = dict.fromkeys(system.parts.charts) if not starts else {}
        self._is_entered = False
        self._group = asyncio.TaskGroup()
        self._opened = asyncio.Event()
        self._told: frozenset[Passage] = frozenset()
        self._staying: dict[str, None] = {}
        self._newest = ""

    async def __aenter__(self) -> Self:
        """Catch up, unless machines are to be started one by one."""
        await self._group.__aenter__()
        self._is_entered = True
        self._office = Office(self._log, self._pond, self._fish, self._system, self._group)
        self._services = Services(self._office, self._services_runs)
        self._timers = Timers(self._office, self._wall_clock)
        self._effects = Effects(self._office, self._effects_runs, self._orphaned, self._members)
        if not self._missing:
            await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; services under way are cancelled and say nothing."""
        self._is_entered = False
        self._services.close()
        self._timers.close()
        await self._office.close()
        self._effects.close()
        await self._group.__aexit__(kind, error, trace)

    @property
    def is_ready(self) -> bool:
        """Whether every machine is started and caught up."""
        return self._opened.is_set()

    async def start(self, machine: str) -> None:
        """Start one machine; behind the last of them all are caught up, whatever the order.

        Raises:
            NoSuchMachine: there is none of this name.
        """
        self._system.newest(machine)
        self._missing.pop(machine, None)
        if not self._missing and not self.is_ready:
            await self._open()

    def machine(self, address: str) -> "Handle":
        """The machine at an address: `machine/instance`, or the machine's name alone.

        Raises:
            NoSuchMachine: there is none of this name.
        """
        name, instance = split(address)
        self._system.newest(name)
        return Handle(self, f"{name}/{instance}")

    async def publish(
        self, address: str, event: Mapping[str, Any], *, dedupe: str | None = None
    ) -> Event:
        """State a fact: it is logged whatever the machine makes of it. With `dedupe` it counts once.

        Raises:
            InvalidInput: the log does not take it.
            NoSuchMachine: there is no such machine.
            NotReady: the machines are not open.
        """
        self._require_entered()
        if not isinstance(event, Mapping):
            raise InvalidInput(f"an event is an object with a type, not {type(event).__name__}")
        require_dedupe(dedupe)
        name, instance = split(address)
        version = self._system.newest(name).machine.version
        more: dict[str, Any] = {} if dedupe is None else {"$dedupe": dedupe}
        if version != 1:
            more["$version"] = version
        [logged] = await self._office.publish([(f"{name}/{instance}", {**event, **more})])
        return logged

    async def view(self, address: str, sender: Any = None) -> Instance:
        """An instance, covering all that the log held at the call.

        Raises:
            NotReady: not all machines are started and caught up.
            AccessDenied: the gate refused the sender.
            NoSuchMachine: there is no such machine.
        """
        self._require_ready()
        return self._looked_at(await self._office.catch_up(), address, sender)

    async def _known(self, address: str) -> Instance:
        self._require_ready()
        return self._system.instance(await self._office.catch_up(), address)

    def _looked_at(self, world: World, address: str, sender: Any) -> Instance:
        instance = self._system.instance(world, address)
        if self._may_look is not None and not self._may_look(instance, {}, sender):
            raise AccessDenied(f"{sender!r} may not look at {address}")
        return instance

    async def offered(self, address: str, sender: Any = None) -> tuple[str, ...]:
        """The types of events for which the machine has transitions now, guards aside, and that the sender may send.

        Raises:
            NotReady, NoSuchMachine: as in `view`.
        """
        self._require_ready()
        name, instance_name = split(address)
        address = f"{name}/{instance_name}"
        world, _ = self._system.upgraded(await self._office.catch_up(), address, self._now())
        instance = self._system.instance(world, address)
        types = self._system.enabled(instance)
        may = self._may_send
        return tuple(one for one in types if may is None or may(instance, {"type": one}, sender))

    async def watch(
        self, address: str, projection: Callable[[Instance], _Shown], sender: Any = None
    ) -> AsyncIterator[_Shown]:
        """A projection of an instance now, and whenever it has changed; steps between may be skipped.

        It ends with the machines.

        Raises:
            NotReady, AccessDenied, NoSuchMachine: as in `view`; the gate is asked again whenever something changed.
        """
        self._require_ready()
        shown = projection(self._looked_at(self._office.world, address, sender))
        yield shown
        while True:
            latest = projection(self._looked_at(self._office.world, address, sender))
            if self._office.is_closed:
                return
            if latest == shown:
                await self._office.changed()
            else:
                shown = latest
                yield shown

    @property
    def world(self) -> World:
        """All machines as this node knows them now."""
        return self._office.world

    async def history(self) -> AsyncIterator[Passage]:
        """The registry from the beginning: what each event did to which machine, as it counts now."""
        world = World()
        async for page in self._log.read(self._fish.where):
            for event in page:
                known = Metadata.of(event, self._log.node)
                world, passages = self._system.told(world, event.payload, known)
                for passage in passages:
                    yield passage

    def passages(self) -> tuple[Passage, ...]:
        """The registry's newest part: what the latest events did to which machine, in order."""
        return self._office.world.passages

    async def create(
        self, address: str, context: Mapping[str, Any] | None = None, *, sender: Any = None
    ) -> Answer:
        """Begin an instance, with parts of its context; returns at once, without waiting for what that leads to.

        Not necessary where nothing is to be given along: the first event begins an instance, too. The gate is asked
        about the event `$init`.

        Raises:
            NotReady, NoSuchMachine, InvalidInput: as in `send`.
        """
        self._require_ready()
        name, instance_name = split(address)
        self._system.newest(name)
        address = f"{name}/{instance_name}"
        record = {"type": "$init", "context": given_context(context)}
        async with self._turns.setdefault(address, asyncio.Lock()):
            world = await self._office.catch_up()
            instance = self._system.instance(world, address)
            reason = None if self._may(instance, record, sender) else "not-allowed"
            reason = reason or self._system.why_not(world, address, record, self._now())
            if reason is not None:
                enabled = self._system.enabled(instance)
                return Answer(False, instance, instance.is_settled, reason, enabled)  # noqa: FBT003 - a field
            return await self._logged(instance, record, TIMEOUT_S, migrates=False)

    async def send(
        self,
        address: str,
        event: Mapping[str, Any],
        *,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - a business limit, kept by the machine's owner as well
        sender: Any = None,
        waits: bool = True,
    ) -> Answer:
        """Command: log an event if the machine would take it, and wait until it has settled.

        Raises:
            NotReady: not all machines are started and caught up.
            NoSuchMachine: there is no such machine.
            InvalidInput: the log does not take the event, or the limit is none.
        """
        self._require_ready()
        require_limit(timeout)
        name, instance_name = split(address)
        self._system.newest(name)
        address = f"{name}/{instance_name}"
        turn = self._turns.setdefault(address, asyncio.Lock())
        async with turn:  # the next one sees what this one has led to
            answer = await self._commanded(address, event, timeout, sender)
        if waits and answer.is_accepted:
            await self._settle(address, timeout)
            return self._settled(answer)
        return answer

    async def _commanded(
        self, address: str, event: Mapping[str, Any], limit: float, sender: Any
    ) -> Answer:
        """Judge a command by the definition that will take it, and log it if nothing is against it."""
        world = await self._office.catch_up()
        now = self._now()
        upgraded, failed = self._system.upgraded(world, address, now)
        if failed is not None:
            self._tell_stays(address, failed)
        instance = self._system.instance(upgraded, address)
        refused = Answer(False, instance, instance.is_settled)  # noqa: FBT003 - a field
        for filter_ in self._filters if is_event(event) else ():
            passed = filter_(instance, event, sender)
            if passed is None:
                return replace(refused, reason="filtered")
            event = passed
        reason = misformed(event)
        stamped = event if reason else self._system.stamped(instance, event)
        if reason is None and not self._may(instance, stamped, sender):
            reason = "not-allowed"
        reason = reason or self._system.why_not(upgraded, address, stamped, now)
        if reason is not None:
            return replace(refused, reason=reason, enabled=self._system.enabled(instance))
        return await self._logged(instance, stamped, limit, migrates=upgraded is not world)

    def _tell_stays(self, address: str, why: str) -> None:
        """Say once that an instance goes on by its older definition; the newest is the same as long as this runs."""
        if address not in self._staying:
            LOGGER.warning("%s stays with its older definition: %s", address, why)
            self._staying[address] = None
            while len(self._staying) > KEPT_STAYING:
                del self._staying[next(iter(self._staying))]

    def _may(self, instance: Instance, event: Mapping[str, Any], sender: Any) -> bool:
        return self._may_send is None or self._may_send(instance, event, sender)

    def _now(self) -> Meta:
        """What guards may ask about an event that this node would log next."""
        newest = next(self._office.world.backwards(), None)
        lamport = 1 + (EventKey.parse(newest.root).lamport if newest is not None else 0)
        node = self._office.node
        return Meta(f"{lamport:016d}/{node}-0", lamport, f"{node}-0", self._wall_clock(), node)

    async def _logged(
        self, instance: Instance, event: Mapping[str, Any], limit: float, *, migrates: bool
    ) -> Answer:
        """Append the event; behind a migration where the machine has a newer definition."""
        address = instance.address
        version = self._system.newest(instance.machine).machine.version
        known = self._office.world.instances.get(address)
        if version != 1 and (known is None or known.status == WAITING):
            event = {**event, "$version": version}
        records: list[tuple[str, Mapping[str, Any]]] = [(address, event)]
        if migrates:
            records.insert(0, (address, {"type": "$migrate", "version": version}))
        events = await self._office.publish(records, seen=self._limited(limit))
        world, logged = self._office.world, events[-1]
        dropped, after = world.dropped(str(logged.key)), self._system.instance(world, address)
        return Answer(dropped is None, after, after.is_settled, dropped, (), logged)

    def _limited(self, limit: float) -> Callable[[tuple[Event, ...]], None]:
        return lambda events: self._services.limit(str(events[-1].key), limit)

    async def _settle(self, address: str, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                while self._in_flight(address) and not self._office.is_closed:
                    await self._office.changed()
        except TimeoutError:
            if self._services.is_due(address):
                await self._services.give_up(address)

    def _in_flight(self, address: str) -> bool:
        known = self._office.world.instances.get(address)
        return known is not None and bool(known.flights)

    def _settled(self, answer: Answer) -> Answer:
        instance = self._system.instance(self._office.world, answer.instance.address)
        return replace(answer, instance=instance, is_settled=instance.is_settled)

    def _require_entered(self) -> None:
        if not self._is_entered:
            raise NotReady(
                "machines work inside of `async with node.machines(...) as machines`, not before or behind it"
            )

    def _require_ready(self) -> None:
        self._require_entered()
        if not self.is_ready:
            missing = ", ".join(self._missing) or "nothing, but the log is still being read"
            raise NotReady(f"not all machines are started and caught up; missing: {missing}")

    async def _open(self) -> None:
        """Catch up, take leave of what a crash interrupted, and begin to work."""
        self._warn()
        held = (await self._office.catch_up()).passages
        self._newest = max((one.root for one in held), default="")
        await self._services.recover()
        self._hear(self._office.world)
        self._office.lookers += [self._services.look, self._timers.look, self._effects.look]
        self._office.sighted.append(self._effects.stability.sighted)
        self._office.begin()
        self._effects.stability.sighted()
        self._office.spawn(self._effects.work(), "effects")
        self._office.spawn(self._follow(), "machines")
        self._opened.set()

    def _warn(self) -> None:
        """Say which machines only one node may write, as they are not `strict`; and what nobody here can do."""
        for name in self._system.parts.charts:
            self._warn_of_missing(name)
            for group in self._system.newest(name).unprotected_cycles:
                LOGGER.warning(
                    "machine %r: the states %s lead to each other and none of them is cyclic: nodes that are cut off"
                    " can end each other's work",
                    name,
                    ", ".join(sorted(group)),
                )

    def _warn_of_missing(self, name: str) -> None:
        machine = self._system.newest(name).machine
        services = [one for one in services_of(machine) if one not in self._services_runs]
        effects = [one for one in effects_of(machine) if one not in self._effects_runs]
        for kind, missing in (("services", services), ("effects", effects)):
            if missing:
                LOGGER.warning(
                    "machine %r: nobody here does the %s %s; those of events logged here fail or wait",
                    name,
                    kind,
                    ", ".join(map(repr, missing)),
                )

    async def _follow(self) -> None:
        try:
            async for world in self._pond.observe(self._fish):
                self._office.show(world)
                self._hear(world)
        except (FishStopped, PondClosed) as error:
            LOGGER.error("the machines stand still: %s", error)

    def _hear(self, world: World) -> None:
        """Tell the hooks what is new."""
        if not self._hooks:
            return
        for passage in world.passages:
            if passage not in self._told:
                is_live = passage.root > self._newest
                self._call_hooks(passage, is_live=is_live)
        self._told = frozenset(world.passages)
        self._newest = max((one.root for one in world.passages), default=self._newest)

    def _call_hooks(self, passage: Passage, *, is_live: bool) -> None:
        for hook in self._hooks:
            try:
                hook(passage, is_live)
            except Exception:  # noqa: BLE001 - it only looks: whatever it raises must not hold up the machines
                LOGGER.exception("a hook raised at %s", passage.key)

    async def idle(self) -> None:
        """Wait until this node owes nothing that it could do now: for a program that ends when its commands are given.

        Services in flight here are waited for, and effects; not those that failed and will be tried again, nor those
        that wait to be stable, nor timers. What is left is done at the next start, or by who claims it.

        Raises:
            NotReady: not all machines are started and caught up.
        """
        self._require_ready()
        await self._office.catch_up()
        while not (self._services.is_idle and self._effects.is_idle):
            await self._effects.idle()
            if self._office.is_closed:
                return
            if not self._services.is_idle:
                await self._office.changed()

    async def abandon(self, address: str) -> None:
        """Give up what another node has in flight for an instance: that node is gone for good.

        Where it had ended earlier in the log's order, its own record counts, and this one is dropped. No gate is asked.

        Raises:
            NotReady: not all machines are started and caught up.
            NoSuchMachine: there is no such machine.
        """
        instance = await self._known(address)
        records = [(instance.address, abort(one, "abandoned")) for one in instance.flights]
        if records:
            await self._office.publish(records)

    async def claim(self, address: str, node: str | None = None) -> None:
        """From now on a node, this one by default, does what is to be done for an instance: all that nobody has done.

        The last claim in the log counts. What the former owner had done by then without telling it undoes again.
        With an empty text it is up to the node that logs an event, as it was; what is under way stays where it is.
        No gate is asked.

        Raises:
            InvalidInput: the text is no node id.
            NotReady: not all machines are started and caught up.
            NoSuchMachine: there is no such machine.
        """
        if node:
            NodeId.parse(node)
        instance = await self._known(address)
        owner = self._office.node if node is None else node
        await self._office.publish([(instance.address, {"type": "$owner", "node": owner})])


@dataclass(frozen=True, slots=True)
class Handle:
    """One machine, by its address."""

    machines: Machines
    address: str

    async def send(
        self,
        event: Mapping[str, Any],
        *,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - as in `Machines.send`
        sender: Any = None,
        waits: bool = True,
    ) -> Answer:
        """As `Machines.send`."""
        return await self.machines.send(
            self.address, event, timeout=timeout, sender=sender, waits=waits
        )

    async def create(
        self, context: Mapping[str, Any] | None = None, *, sender: Any = None
    ) -> Answer:
        """As `Machines.create`."""
        return await self.machines.create(self.address, context, sender=sender)

    async def publish(self, event: Mapping[str, Any], *, dedupe: str | None = None) -> Event:
        """As `Machines.publish`."""
        return await self.machines.publish(self.address, event, dedupe=dedupe)

    async def view(self, sender: Any = None) -> Instance:
        """As `Machines.view`."""
        return await self.machines.view(self.address, sender)

    async def offered(self, sender: Any = None) -> tuple[str, ...]:
        """As `Machines.offered`."""
        return await self.machines.offered(self.address, sender)

    def feed(self, event: Mapping[str, Any], *, every: float) -> "Feed":
        """A feed of this event that is logged at most once in `every` seconds, however often it is told."""
        return Feed(self, event, every)


class Feed:
    """Something that goes on all the time (a hand on a screen), as events that are worth keeping."""

    def __init__(self, handle: Handle, event: Mapping[str, Any], every: float) -> None:
        self._handle, self._event, self._every = handle, event, every
        self._next = 0.0

    async def tell(self) -> bool:
        """It goes on; returns whether that was logged: not again within the interval, not where it is not enabled.

        Raises:
            NotReady: not all machines are started and caught up.
        """
        now = asyncio.get_running_loop().time()
        if now < self._next:
            return False
        self._next = now + self._every
        return (await self._handle.send(self._event, waits=False)).is_accepted
