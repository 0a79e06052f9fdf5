"""Where events go, and how long they are kept: routes from selections to named streams.

A device that writes for years must not fill its disk, but only its own user knows what may be forgotten. A `Route`
sends the events that match a selection into a stream of their own, whose `Policy` says how much of it is kept. The
first route that matches wins; what no route matches goes to the default stream, which keeps everything for ever.

    Route(Tag("sensor"), "sensors", Policy(max_age_s=7 * 86_400, max_events=100_000))
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lamport.errors import InvalidInput
from lamport.ids import NodeId, StreamId
from lamport.tags import Where, tag_fault

DEFAULT_STREAM = "default"
"""The name that is taken: the stream of all events that no route matches."""

MAX_ROUTES = 64
"""Most routes of a node: each event published is held against them."""

MAX_NAMED_STREAMS = 16
"""Most streams that routes lead to. Each backup restored draws all of them anew, and peers bound a node's streams."""

MAX_LIMIT = 2**53
"""Highest number in a policy: everything that reads JSON holds it exactly."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How much of a stream its author keeps; None is no limit. The first limit that is passed counts."""

    max_age_s: float | None = None
    """Seconds by the author's own clock."""
    max_events: int | None = None
    max_size_bytes: int | None = None
    """Bytes of events as they were written, without indexes."""

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for a limit that is no positive number."""
        for name in ("max_age_s", "max_events", "max_size_bytes"):
            limit, kinds = getattr(self, name), int if name != "max_age_s" else int | float
            if limit is None:
                continue
            # Neither NaN nor infinity is within the bounds.
            if isinstance(limit, bool) or not isinstance(limit, kinds) or not 0 < limit < MAX_LIMIT:
                raise InvalidInput(
                    f"a policy's {name} is a positive number below 2**53, not {limit!r}"
                )

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever pruned."""
        return self == Policy()


@dataclass(frozen=True, slots=True)
class Route:
    """Sends the events that match `where` into the stream called `stream`, of which `policy` says what is kept."""

    where: Where
    stream: str
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for a name that no stream can have."""
        fault = tag_fault(self.stream, "a stream's name")
        if fault is None and self.stream == DEFAULT_STREAM:
            fault = f"the stream {DEFAULT_STREAM!r} keeps everything: routes lead to others"
        if fault is not None:
            raise InvalidInput(fault)


class Routes:
    """The routes of a node, in the order in which they are tried. Immutable."""

    __slots__ = ("_routes", "policies")

    policies: Mapping[str, Policy]
    """The policy of each stream that a route leads to, by name, in the order of the routes."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        """Raise `InvalidInput` for too many, or where two of them disagree about one stream."""
        self._routes = tuple(routes)
        if len(self._routes) > MAX_ROUTES:
            raise InvalidInput(f"a node has at most {MAX_ROUTES} routes, not {len(self._routes)}")
        policies: dict[str, Policy] = {}
        for route in self._routes:
            if policies.setdefault(route.stream, route.policy) != route.policy:
                raise InvalidInput(
                    f"two routes give the stream {route.stream!r} different policies"
                )
        if len(policies) > MAX_NAMED_STREAMS:
            raise InvalidInput(
                f"routes lead to at most {MAX_NAMED_STREAMS} streams, not {len(policies)}"
            )
        self.policies = MappingProxyType(policies)

    def stream_for(self, tags: tuple[str, ...]) -> str:
        """The name of the stream that an event of this node with these tags goes to."""
        for route in self._routes:
            if route.where.matches(tags, is_local=True):
                return route.stream
        return DEFAULT_STREAM

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)


NO_ROUTES = Routes()
"""Everything goes to the default stream."""


@dataclass(frozen=True, slots=True)
class OwnStreams:
    """The streams that a node writes at present: the default one, and those that routes lead to, by name."""

    default: StreamId
    named: Mapping[str, StreamId] = field(default_factory=dict)

    @property
    def node(self) -> NodeId:
        """The node that writes them."""
        return self.default.node

    def of(self, name: str) -> StreamId:
        """The stream of this name."""
        return self.default if name == DEFAULT_STREAM else self.named[name]

    def __contains__(self, stream: object) -> bool:
        return stream == self.default or stream in self.named.values()

    def __iter__(self) -> Iterator[StreamId]:
        yield self.default
        yield from self.named.values()
