"""When nothing that is still unknown can take an effect's cause away: for effects that are to be stable.

An event stands where its key puts it; one that sorts before it may turn up later, from any node that had not heard of
it. A node that has heard of it never again writes an event that sorts before it. So every member says once, for each
stable effect that is not done yet (`$seen`), how far its own streams reach. The effect's owner waits until each of them
has said so with a Lamport timestamp above the cause's, and until the fold covers all that they had written by then.

A member that is absent holds such effects up, by design. Members are those whose streams this node knows, or those that
it was told. What is retracted later goes nonetheless: that an event is hidden is decided by people, not by order.
"""

from collections.abc import Collection

from fish.errors import FishStopped, PondClosed
from fish.machines.instance import Instance, Intent, Sighting
from fish.machines.office import Look, Office
from lamport.errors import InvalidInput
from lamport.ids import EventKey
from lamport.offsets import OffsetMap


class Stability:
    """Says what this node has seen, and whether all have seen what it is to do."""

    def __init__(self, office: Office, members: Collection[str] | None, look: Look) -> None:
        """`look` is shown the instances with effects that wait, whenever one of them may have become stable."""
        self._office, self._members, self._look_again = office, members, look
        self._confirmed: dict[str, int] = {}
        self._covering: set[str] = set()
        self._waiting: dict[str, None] = {}
        self._unsaid: tuple[int, str] = -1, ""
        self._is_saying = False

    def look(self, instance: Instance) -> None:
        """Say what this node has seen where another one waits for that; remember where it waits itself."""
        address, node = instance.address, self._office.node
        wanted = [one for one in instance.intents if one.is_stable]
        if wanted:
            done = {one.id for one in instance.ledger if one.state == "done"}
            wanted = [one for one in wanted if one.id not in done]
        if any(one.owner == node for one in wanted):
            self._waiting[address] = None
        else:
            self._waiting.pop(address, None)
        others = [lamport_of(one) for one in wanted if one.owner != node]
        if others and (self._members is None or node in self._members):
            self._unsaid = max(self._unsaid, (max(others), address))
            self._say()

    def sighted(self) -> None:
        """Take note of what nodes have said, as soon as the fold covers it."""
        for sighting in self._office.world.seen:
            is_new = sighting.lamport > self._confirmed.get(sighting.node, 0)
            if is_new and sighting.node not in self._covering:
                self._covering.add(sighting.node)
                self._office.spawn(self._cover(sighting), f"covering {sighting.node}")

    def is_stable(self, intent: Intent) -> bool:
        """Whether every member has seen the cause of an effect."""
        members = self._members
        if members is None:
            members = {str(stream.node) for stream in self._office.offsets}
        lamport, node = lamport_of(intent), self._office.node
        return all(self._confirmed.get(one, 0) > lamport for one in members if one != node)

    def _say(self) -> None:
        if not self._is_saying and self._said <= self._unsaid[0]:
            self._is_saying = True
            self._office.spawn(self._publish(), "saying what was seen")

    @property
    def _said(self) -> int:
        """Up to which Lamport timestamp others know what this node has seen."""
        mine = [one for one in self._office.world.seen if one.node == self._office.node]
        return mine[0].lamport if mine else 0

    async def _publish(self) -> None:
        said = -1
        try:
            # Where the node ends nothing is said any more, and this ends, too.
            while said < self._said <= self._unsaid[0]:
                said = self._said
                record = {"type": "$seen", "heads": self._heads().to_json()}
                await self._office.persist([(self._unsaid[1], record)])
        finally:
            self._is_saying = False

    def _heads(self) -> OffsetMap:
        """How far this node's own streams reach."""
        offsets, node = self._office.offsets, self._office.node
        return OffsetMap({s: offset for s, offset in offsets.items() if str(s.node) == node})

    async def _cover(self, sighting: Sighting) -> None:
        try:
            await self._office.cover(OffsetMap.from_json(dict(sighting.heads)))
        except InvalidInput:
            return  # it names no streams: nothing is confirmed by that
        except (FishStopped, PondClosed):
            return  # the node ends, or the fold stands still: others have told why
        finally:
            self._covering.discard(sighting.node)
        self._confirmed[sighting.node] = sighting.lamport
        self.sighted()
        for address in tuple(self._waiting):
            instance = self._office.world.instances.get(address)
            if instance is not None:
                self._look_again(instance)


def lamport_of(intent: Intent) -> int:
    """The Lamport timestamp of the event behind an effect."""
    return EventKey.parse(intent.root).lamport
