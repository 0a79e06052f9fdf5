"""Time and the log: events, keys, tags, offsets, queries, the clock, the codec, the hash chain, the store.

The ground floor of Shoal. It imports nothing of ours; the values that everything above speaks in live here.
"""

from lamport.errors import InvalidInput, InvalidQuery, LimitExceeded, LogError
from lamport.event import Draft, Event, draft
from lamport.follower import Batch
from lamport.ids import EventKey, NodeId, StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetMap, OffsetRange, missing
from lamport.query import parse_query
from lamport.reader import Order
from lamport.routes import Policy, Route
from lamport.tags import ALL_EVENTS, Tag, Tags, Where
from lamport.upcasters import Upcaster, Upcasters

__all__ = [
    "ALL_EVENTS",
    "Batch",
    "Draft",
    "Event",
    "EventKey",
    "EventLog",
    "InvalidInput",
    "InvalidQuery",
    "LimitExceeded",
    "LogError",
    "NodeId",
    "OffsetMap",
    "OffsetRange",
    "Order",
    "Policy",
    "Route",
    "StreamId",
    "Tag",
    "Tags",
    "Upcaster",
    "Upcasters",
    "Where",
    "draft",
    "missing",
    "parse_query",
]
