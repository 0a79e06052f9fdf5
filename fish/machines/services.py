"""Services in flight: started where the event was logged that led to them, given up at the limit.

The way of a service: the fold says that it ought to run (`Flight`); its owner starts it and publishes how it ended
(`$done`, `$error`). Where its state is left first, it is cancelled and says nothing. When the time limit of the
instance's last event from outside is over, it is cancelled, and `$abort` parks its error until the next event. What was
in flight when the program ended is aborted at the next start, before anything else: nobody knows how far it came.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from fish.machines.errors import MachineError, text_of
from fish.machines.instance import Flight, Instance
from fish.machines.office import LOGGER, Call, Office, Record, Run, performed
from lamport.errors import InvalidInput

TIMEOUT_S = 90.0
"""How long an instance may take to settle after an event from outside."""

LIMIT = "limit"
"""What a service is cancelled with that is given up at the limit; a `CancelledError` carries it."""

KEPT_LIMITS = 4_096
"""Time limits that were given with events and wait for these to be seen in the fold: each is there in an instant. Those
of services that are in flight here come on top."""


class ServiceFailed(MachineError):
    """A service failed as its author foresaw; `error` becomes the error event's field as it is."""

    def __init__(self, error: Any) -> None:
        super().__init__(f"the service failed: {error!r}")
        self.error = error


class Services:
    """The services that this node runs."""

    def __init__(self, office: Office, runs: Mapping[str, Run]) -> None:
        self._office = office
        self._runs = runs
        self._running: dict[str, dict[str, asyncio.Task[None]]] = {}
        self._giving_up = asyncio.Lock()
        self._begun: dict[str, tuple[str, float]] = {}
        self._caused: dict[str, dict[str, None]] = {}
        self._limits: dict[str, float] = {}
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    @property
    def is_idle(self) -> bool:
        """Whether none is in flight here."""
        return not self._running

    async def recover(self) -> None:
        """Abort what was in flight when the program ended."""
        records: list[Record] = [
            (instance.address, abort(flight, "crash"))
            for instance in self._office.world.instances.values()
            for flight in self._mine(instance)
        ]
        if records:
            await self._office.publish(records)

    def limit(self, key: str, seconds: float) -> None:
        """Let this event from outside have its own time limit."""
        while len(self._limits) >= KEPT_LIMITS + len(self._caused):
            oldest = next(iter(self._limits))
            kept = self._limits.pop(oldest)
            if oldest in self._caused:  # its service is in flight: it goes to the end
                self._limits[oldest] = kept
        self._limits[key] = seconds
        for address in tuple(self._caused.get(key, ())):
            self._set_alarm(address, wanted=True)

    def look(self, instance: Instance) -> None:
        """Start what is new, cancel what is no longer wanted."""
        address = instance.address
        wanted = {one.id: one for one in self._mine(instance)}
        running = self._running.pop(address, {})
        for id_ in [one for one in running if one not in wanted]:
            running.pop(id_).cancel()
        for id_, flight in wanted.items():
            if id_ not in running:
                running[id_] = self._office.spawn(self._run(address, flight), f"service {id_}")
        if running:
            self._running[address] = running
        if instance.external != self._begun.get(address, ("", 0.0))[0]:
            self._forget(address)
            self._begun[address] = instance.external, asyncio.get_running_loop().time()
            self._caused.setdefault(instance.external, {})[address] = None
        self._set_alarm(address, wanted=bool(wanted))

    async def give_up(self, address: str) -> None:
        """Abort what this node has in flight for an instance; its errors wait for the next event.

        Whoever calls this while it is being done waits for it.
        """
        async with self._giving_up:
            instance = self._office.world.instances.get(address)
            flights = [] if instance is None else self._mine(instance)
            running = self._running.get(address, {})
            for one in flights:
                if one.id in running:
                    running[one.id].cancel(LIMIT)
            if flights:
                await self._office.persist(
                    [(address, abort(one, "timeout", "next_event")) for one in flights]
                )

    def is_due(self, address: str) -> bool:
        """Whether the limit is over: that of the last event from outside, which may be a later one."""
        if address not in self._begun:
            return False
        external, begun = self._begun[address]
        limit = self._limits.get(external, TIMEOUT_S)
        return asyncio.get_running_loop().time() >= begun + limit

    def _mine(self, instance: Instance) -> list[Flight]:
        return [one for one in instance.flights if one.owner == self._office.node]

    def _set_alarm(self, address: str, *, wanted: bool) -> None:
        alarm = self._alarms.pop(address, None)
        if alarm is not None:
            alarm.cancel()
        if not wanted:
            self._forget(address)
            return
        external, begun = self._begun[address]
        limit = self._limits.get(external, TIMEOUT_S)
        self._alarms[address] = asyncio.get_running_loop().call_at(
            begun + limit, self._ring, address
        )

    def _forget(self, address: str) -> None:
        """Nothing of this instance counts from an event any more."""
        external, _ = self._begun.pop(address, ("", 0.0))
        caused = self._caused.get(external, {})
        caused.pop(address, None)
        if not caused:
            self._caused.pop(external, None)

    def _ring(self, address: str) -> None:
        self._alarms.pop(address, None)
        self._office.spawn(self.give_up(address), f"giving up on {address}")

    async def _run(self, address: str, flight: Flight) -> None:
        call = Call(flight.src, flight.args, flight.id, address, flight.entry)
        try:
            run = self._runs.get(flight.src)
            if run is None:
                raise ServiceFailed({"reason": "no-service"})  # noqa: TRY301 - as if it had failed itself
            record = {"type": "$done", "inv": flight.id, "output": await performed(run, call)}
        except ServiceFailed as failed:
            record = {"type": "$error", "inv": flight.id, "error": failed.error}
        except Exception as error:  # noqa: BLE001 - it is the user's: whatever it raises is its end
            LOGGER.exception("the service %r of %s failed", flight.src, address)
            told = {"reason": type(error).__name__, "text": text_of(error)}
            record = {"type": "$error", "inv": flight.id, "error": told}
        await self._tell(address, flight, record)

    async def _tell(self, address: str, flight: Flight, record: Mapping[str, Any]) -> None:
        try:
            await self._office.persist([(address, record)])
        except InvalidInput as error:
            told = {"reason": "bad-output", "text": str(error)}
            record = {"type": "$error", "inv": flight.id, "error": told}
            await self._office.persist([(address, record)])

    def close(self) -> None:
        """Ring no more."""
        for alarm in self._alarms.values():
            alarm.cancel()


def abort(flight: Flight, reason: str, deliver: str = "now") -> Mapping[str, Any]:
    """The record that gives a service up; its error comes `now`, or before the `next_event`."""
    return {"type": "$abort", "inv": flight.id, "reason": reason, "deliver": deliver}
