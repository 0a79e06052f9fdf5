"""The control API of a running node: JSON over HTTP on the loopback, for the command line and local programs.

Every request proves itself by the token that stands in the data folder, readable only by its owner. Requests that a
web page of a stranger could cause are refused before that: a foreign `Host` (a rebound name), any `Origin`, a
cross-site fetch, a body that is not declared as JSON.

    GET  /api/v2/node/id                  the node's id, text
    GET  /api/v2/node/status              see `shoal.views`
    POST /api/v2/node/peers/cut           {"node": ID}
    POST /api/v2/node/peers/heal          {"node": ID or null}
    POST /api/v2/events/publish           {"data": [{"tags": [...], "payload": ...}], "wait": true}
    POST /api/v2/events/query             {"query": TEXT, "order": "asc", "lowerBound": {}, "upperBound": {}}
    POST /api/v2/events/subscribe         {"query": TEXT, "lowerBound": {}}
    POST /api/v2/events/retract           {"keys": [TEXT, ...], "reason": TEXT, "admin": HEX or null}
    POST /api/v2/log/damaged              {"ranges": [{"stream": STREAM, "first": 0, "last": 9, "fault": TEXT}]}
    POST /api/v2/log/import               an archive, as application/x-shoal-archive
    GET  /api/v2/fish                     names of the fish hosted here
    GET  /api/v2/fish/NAME                state and the offsets it covers
    GET  /api/v2/fish/NAME/explain        the events behind it, and the state after each;
                                          ?at=KEY&limit=NUMBER&before=KEY (what was believed before that came late)

What the admin's commands ask for besides stands in `shoal.membership_api`.

With `"wait": false` a publisher whose turn has not come yet is answered 503 at once, with `Retry-After`.
Queries and subscriptions answer with one JSON object a line. Events come in today's versions and without those that
are retracted; a subscription that sent one which is retracted later says so, `{"type": "retracted", "key": ...}`, with
stream, lamport and offset. `admin` is the admin's signature by which events of other nodes are retracted. An error is
`{"code": ..., "message": ...}`.
"""

import asyncio
import errno
import hmac
import json
import logging
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from aiohttp import web

from fish.definition import Fish
from fish.errors import FishStopped
from fish.explaining import MAX_STEPS, USUAL_STEPS
from lamport.errors import (
    CorruptArchive,
    DamagedRange,
    InvalidInput,
    LogClosed,
    NodeRevoked,
    Overloaded,
    StoreBusy,
    StoreFull,
    UpcastFailed,
)
from lamport.event import Event, draft
from lamport.ids import EventKey, NodeId, StreamId
from lamport.offsets import OffsetMap, OffsetRange
from lamport.query import parse_query
from lamport.reader import Order
from lamport.tags import Where
from shoal.control import ARCHIVE_TYPE
from shoal.explaining import explanation_to_json
from shoal.membership_api import MembershipRoutes
from shoal.node import Node
from shoal.strangers import Strangers
from shoal.strictjson import bytes_in, parse_object, text_in
from shoal.views import snapshot_to_json, status_to_json
from transport.errors import LocalFault
from transport.network import Address

MAX_BODY_BYTES = 1024 * 1024
"""Largest request body."""

ARCHIVE_PIECE_BYTES = 256 * 1024
"""Of an archive, read at once."""

MAX_REQUESTS = 64
"""Requests answered at once; more are turned away."""

MAX_SUBSCRIPTIONS = 48
"""Of them subscriptions, so that the operator always gets through."""

PIECE_BYTES = 256 * 1024
"""Of an answer, written at once: what a reader that has stopped reading leaves waiting in memory."""

KEEP_ALIVE_S = 15.0
"""An idle subscription sends an empty line this often, so that a dead client is noticed."""

RETRY_AFTER_S = 1
"""When to ask again, as every 503 says; a commit takes milliseconds."""

SHUTDOWN_S = 1.0
"""How long open requests may take to end when the node stops."""

_UNAVAILABLE = 503

_MAX_DIGITS = 5
"""Of the number of steps."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("shoal.api")


class _Fault(NamedTuple):
    """How an error of ours is told over HTTP."""

    status: int
    code: str


_FAULTS: Mapping[type[Exception], _Fault] = {
    InvalidInput: _Fault(400, "ERR_BAD_REQUEST"),
    LocalFault: _Fault(400, "ERR_BAD_REQUEST"),
    CorruptArchive: _Fault(400, "ERR_CORRUPT_ARCHIVE"),
    FishStopped: _Fault(500, "ERR_FISH_STOPPED"),
    DamagedRange: _Fault(500, "ERR_DAMAGED"),
    UpcastFailed: _Fault(500, "ERR_UPCAST_FAILED"),
    Overloaded: _Fault(503, "ERR_SERVICE_OVERLOADED"),
    StoreFull: _Fault(507, "ERR_STORE_FULL"),
    StoreBusy: _Fault(503, "ERR_STORE_BUSY"),
    NodeRevoked: _Fault(403, "ERR_NODE_REVOKED"),
    LogClosed: _Fault(503, "ERR_SHUTTING_DOWN"),
}


class ControlApi:
    """Serves one node. `fish` are those that can be asked for by name."""

    def __init__(
        self, node: Node, fish: Mapping[str, Fish[Any]], token: str, scratch: Path | None = None
    ) -> None:
        """Prepare to serve; archives lie in the folder `scratch` while they are verified, or where the system likes."""
        self._node = node
        self._scratch = scratch
        self._importing = False
        self._fish = fish
        self._token = token
        self._hosts: frozenset[str] = frozenset()
        self._strangers: Strangers
        self._requests = 0
        self._streaming: dict[asyncio.Task[Any], None] = {}

    @asynccontextmanager
    async def served(self, address: Address) -> AsyncIterator[Address]:
        """Serve while the context is open; yields the address (port 0 lets the system choose).

        Raises:
            LocalFault: the address cannot be used.
        """
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        app.add_routes(self._routes())
        app.on_shutdown.append(self._end_streams)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
            max_line_size=8_190,
            max_field_size=8_190,
        )
        await runner.setup()
        assert runner.server is not None, "it was set up"
        self._strangers = Strangers(runner.server)
        try:
            with closing(await _listening(self._strangers, address)) as server:
                bound = Address(address.host, server.sockets[0].getsockname()[1])
                self._hosts = frozenset(
                    f"{host}:{bound.port}"
                    for host in ("127.0.0.1", "localhost", "[::1]", address.host)
                )
                yield bound
        finally:
            await runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v2/node/id", self._get_id),
            web.get("/api/v2/node/status", self._get_status),
            web.post("/api/v2/node/peers/cut", self._post_cut),
            web.post("/api/v2/node/peers/heal", self._post_heal),
            web.post("/api/v2/events/publish", self._post_publish),
            web.post("/api/v2/events/query", self._post_query),
            web.post("/api/v2/events/subscribe", self._post_subscribe),
            web.post("/api/v2/events/retract", self._post_retract),
            *MembershipRoutes(self._node).routes(),
            web.post("/api/v2/log/damaged", self._post_damaged),
            web.post("/api/v2/log/import", self._post_import),
            web.get("/api/v2/fish", self._get_fishes),
            web.get("/api/v2/fish/{name}", self._get_fish),
            web.get("/api/v2/fish/{name}/explain", self._get_explanation),
        ]

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Turn strangers away, and turn errors into answers."""
        if self._requests >= MAX_REQUESTS:
            return _overloaded(f"at most {MAX_REQUESTS} requests at once")
        self._requests += 1
        try:
            refusal = self._stranger(request)
            if refusal is not None:
                return refusal
            self._strangers.know(request.protocol)
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "ERR_TOO_LARGE", f"a request has at most {MAX_BODY_BYTES} bytes")
        except web.HTTPException as error:
            return _error(
                error.status, f"ERR_{error.reason.upper().replace(' ', '_')}", error.reason
            )
        except tuple(_FAULTS) as error:
            fault = _fault_of(error)
            return _error(fault.status, fault.code, str(error))
        except ConnectionError:  # nobody is left to answer; raised on, aiohttp would log it as ours
            return _error(499, "ERR_CLIENT_GONE", "the client hung up")
        except Exception:  # noqa: BLE001 - logged; the caller gets no traceback, the node goes on
            _log.exception("a request failed")
            return _error(500, "ERR_INTERNAL", "the node failed to answer; its log says why")
        finally:
            self._requests -= 1

    def _stranger(self, request: web.Request) -> web.Response | None:
        """The answer to a request that has no business here, None for one that has."""
        if request.headers.get("Host") not in self._hosts:
            return _error(421, "ERR_MISDIRECTED", "this API answers to the loopback's names only")
        foreign = request.headers.get("Sec-Fetch-Site") not in {None, "none", "same-origin"}
        if "Origin" in request.headers or foreign:
            return _error(403, "ERR_FORBIDDEN", "web pages may not use this API")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.encode(errors="surrogateescape")  # as aiohttp decodes bytes that are no UTF-8
        if scheme != "Bearer" or not hmac.compare_digest(given, self._token.encode()):
            return _error(401, "ERR_TOKEN_UNAUTHORIZED", "the token in the data folder is needed")
        due = ARCHIVE_TYPE if request.path == "/api/v2/log/import" else "application/json"
        if request.method == "POST" and request.content_type != due:
            return _error(415, "ERR_UNSUPPORTED_MEDIA_TYPE", f"a body of {due} is needed")
        return None

    async def _get_id(self, _request: web.Request) -> web.Response:
        return web.Response(text=str(self._node.id))

    async def _get_status(self, _request: web.Request) -> web.Response:
        return web.json_response(status_to_json(self._node.status()))

    async def _post_cut(self, request: web.Request) -> web.Response:
        body = await _body(request)
        self._node.peers.cut(NodeId.parse(text_in(body, "node")))
        return web.json_response({})

    async def _post_heal(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if "node" not in body:
            raise InvalidInput("'node' must be a node id, or null for all")
        node = None if body["node"] is None else NodeId.parse(text_in(body, "node"))
        self._node.peers.heal(node)
        return web.json_response({})

    async def _post_publish(self, request: web.Request) -> web.Response:
        body = await _body(request)
        drafts = [_draft(item) for item in _list(body, "data")]
        events = await self._node.publish_all(drafts, wait=_flag(body, "wait", default=True))
        return web.json_response({"data": [_published(event) for event in events]})

    async def _post_retract(self, request: web.Request) -> web.Response:
        body = await _body(request)
        keys = [_event_key(item) for item in _list(body, "keys")]
        signature = _hex(body, "admin")
        event = await self._node.retract(*keys, reason=text_in(body, "reason"), signature=signature)
        return web.json_response({"data": [_published(event)]})

    async def _post_query(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        where = parse_query(text_in(body, "query"))
        order = _order(body.get("order", Order.ASCENDING.value))
        lower, upper = _bound(body, "lowerBound"), _bound(body, "upperBound")
        present, branches = self._node.offsets, self._node.log.store.branches
        # Handed out before a fork was proven, or by another node: nothing may be left out for that.
        lower = None if lower is None else branches.clipped(lower)
        upper = None if upper is None else self._node.log.named_now(upper)
        if upper is not None and not present.covers(upper):
            raise InvalidInput("the upper bound lies beyond what this node holds")
        upper = present if upper is None else upper
        return await _answer(request, self._found(where, lower, upper, order))

    async def _found(
        self, where: Where, lower: OffsetMap | None, upper: OffsetMap, order: Order
    ) -> AsyncGenerator[bytes, None]:
        async for page in self._node.log.query(where, lower=lower, upper=upper, order=order):
            for piece in _pieces(event.to_json() for event in page):
                yield piece
        yield _line({"type": "offsets", "offsets": upper.to_json()})

    async def _post_subscribe(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        where = parse_query(text_in(body, "query"))
        lower = _bound(body, "lowerBound") or OffsetMap()
        if len(self._streaming) >= MAX_SUBSCRIPTIONS:
            return _overloaded(f"at most {MAX_SUBSCRIPTIONS} subscriptions at once")
        task = asyncio.current_task()
        assert task is not None, "aiohttp runs handlers in tasks"
        self._streaming[task] = None
        try:
            return await _answer(request, self._stream(where, lower))
        finally:
            del self._streaming[task]

    async def _stream(self, where: Where, given: OffsetMap) -> AsyncGenerator[bytes, None]:
        """Give stored events above what was `given`, the offsets reached, then what comes, until somebody stops."""
        log, present = self._node.log, self._node.offsets
        lower = log.store.branches.clipped(given)
        follower = log.follow(present.raised(lower))
        told = await log.hidden_since(given, present)
        for piece in self._retracted_lines(where, told):
            yield piece
        async for page in log.query(where, lower=lower, upper=present):
            for piece in _pieces(event.to_json() for event in page):
                yield piece
        yield _line({"type": "offsets", "offsets": present.to_json()})
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    batch = await follower.next()
            except TimeoutError:
                yield b"\n"
                continue
            except LogClosed:
                return
            for piece in self._retracted_lines(where, batch.retracted):
                yield piece
            chosen = (log.upcasters.upcast(one) for one in batch.events if log.selects(where, one))
            for piece in _pieces(event.to_json() for event in chosen):
                yield piece

    def _retracted_lines(self, where: Where, events: Iterable[Event]) -> Iterator[bytes]:
        selects = self._node.log.selects
        return _pieces(_retracted(event) for event in events if selects(where, event))

    async def _post_damaged(self, request: web.Request) -> web.Response:
        """Take note of what somebody found damaged; what is not, or is not held, does no harm."""
        body = await _body(request)
        for damage, fault in [_damage(item) for item in _list(body, "ranges")]:
            self._node.log.damaged(damage, fault)
        return web.json_response({})

    async def _post_import(self, request: web.Request) -> web.Response:
        """Keep the archive until all of it is here, for it is read twice, and take it in."""
        if self._importing:
            return _overloaded("an archive is being taken in already")
        self._importing = True
        try:
            with TemporaryFile(dir=self._scratch) as file:
                async for piece in request.content.iter_chunked(ARCHIVE_PIECE_BYTES):
                    file.write(piece)
                file.seek(0)
                done = await self._node.import_archive(file)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise StoreFull("there is no room to unpack the archive: free some space") from error
        finally:
            self._importing = False
        return web.json_response(asdict(done))

    async def _get_fishes(self, _request: web.Request) -> web.Response:
        return web.json_response({"fish": sorted(self._fish)})

    async def _get_fish(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        fish = self._fish.get(name)
        if fish is None:
            return self._no_such_fish(name)
        return web.json_response(snapshot_to_json(name, await self._node.pond.snapshot(fish)))

    def _believed(self, fish: Fish[Any], late: EventKey) -> OffsetMap:
        """What a fish covered before it travelled back to this event, the last time it did."""
        for travel in reversed(self._node.pond.travels(fish)):
            if travel.late == late:
                return travel.before
        raise InvalidInput(f"no time travel of {fish.name!r} to {late} is remembered here")

    async def _get_explanation(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        fish = self._fish.get(name)
        if fish is None:
            return self._no_such_fish(name)
        at, limit = request.query.get("at"), request.query.get("limit", str(USUAL_STEPS))
        if not limit.isdecimal() or len(limit) > _MAX_DIGITS or not 0 < int(limit) <= MAX_STEPS:
            raise InvalidInput(f"limit is a number from 1 to {MAX_STEPS}, not {limit[:40]!r}")
        before = request.query.get("before")
        explanation = await self._node.pond.explain(
            fish,
            at=None if at is None else EventKey.parse(at),
            offsets=None if before is None else self._believed(fish, EventKey.parse(before)),
            limit=int(limit),
        )
        return web.json_response(explanation_to_json(explanation))

    def _no_such_fish(self, name: str) -> web.Response:
        hosted = ", ".join(sorted(self._fish)) or "none; start the daemon with --fish MODULE:NAME"
        return _error(
            404, "ERR_NOT_FOUND", f"no fish {name!r} is hosted here (there are: {hosted})"
        )

    async def _end_streams(self, _app: web.Application) -> None:
        for task in list(self._streaming):
            task.cancel()


async def _listening(connected: Strangers, address: Address) -> asyncio.Server:
    """A server at this address; raises `LocalFault` where it cannot be used."""
    try:
        return await asyncio.get_running_loop().create_server(connected, address.host, address.port)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise LocalFault(
            f"the control API cannot listen at {address} ({why}):"
            " stop what uses the port, or choose another with --api HOST:PORT"
        ) from error


async def _answer(request: web.Request, lines: AsyncGenerator[bytes, None]) -> web.StreamResponse:
    """Send these lines as they come. What fails before the first is raised; later, it is told in a line, the last."""
    async with aclosing(lines):
        first = await anext(lines, b"")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            await response.write(first)
            async for line in lines:
                await response.write(line)
        except tuple(_FAULTS) as error:
            told = {"type": "diagnostic", "severity": "error", "message": str(error)}
            await response.write(_line(told | {"code": _fault_of(error).code}))
    return response


def _pieces(values: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """These values, a line each, in pieces of about `PIECE_BYTES`; a line is made when its piece is asked for."""
    lines, size = list[bytes](), 0
    for value in values:
        lines.append(line := _line(value))
        size += len(line)
        if size >= PIECE_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _published(event: Event) -> dict[str, Any]:
    return {
        "key": str(event.key),
        "lamport": event.lamport,
        "stream": str(event.stream),
        "offset": event.offset,
        "timestamp": event.timestamp,
    }


def _retracted(event: Event) -> dict[str, Any]:
    """What a subscriber is told of an event that it was sent before."""
    return {
        "type": "retracted",
        "key": str(event.key),
        "lamport": event.lamport,
        "stream": str(event.stream),
        "offset": event.offset,
    }


def _fault_of(error: Exception) -> _Fault:
    return next(fault for kind, fault in _FAULTS.items() if isinstance(error, kind))


def _overloaded(why: str) -> web.Response:
    return _error(503, "ERR_SERVICE_OVERLOADED", why)


def _error(status: int, code: str, message: str) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == _UNAVAILABLE else None
    body = {"code": code, "message": message}
    return web.json_response(body, status=status, headers=headers)


async def _body(request: web.Request) -> dict[str, Any]:
    return parse_object(await request.read())


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if not isinstance(value, list):
        raise InvalidInput(f"{name!r} must be a list")
    return value


def _event_key(item: Any) -> EventKey:
    if not isinstance(item, str):
        raise InvalidInput("'keys' is a list of texts")
    return EventKey.parse(item)


def _hex(body: Mapping[str, Any], name: str) -> bytes:
    """Bytes that a body gives as hexadecimal digits; none where it gives null or leaves them out."""
    return b"" if body.get(name) is None else bytes_in(body, name)


def _flag(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name!r} must be true or false")
    return value


def _draft(item: Any) -> Any:
    if not isinstance(item, dict) or "payload" not in item:
        raise InvalidInput("each event needs 'tags' and a 'payload'")
    return draft(_list(item, "tags"), item["payload"])


def _damage(item: Any) -> tuple[OffsetRange, str]:
    if not isinstance(item, dict):
        raise InvalidInput("a range has a 'stream', a 'first' and a 'last' offset, and a 'fault'")
    first, last = item.get("first"), item.get("last")
    if type(first) is not int or type(last) is not int or not 0 <= first <= last:
        raise InvalidInput("'first' and 'last' must be offsets, in this order")
    return OffsetRange(StreamId.parse(text_in(item, "stream")), first, last), text_in(item, "fault")


def _order(text: Any) -> Order:
    try:
        return Order(text)
    except ValueError:
        raise InvalidInput(f"'order' is one of {[order.value for order in Order]}") from None


def _bound(body: Mapping[str, Any], name: str) -> OffsetMap | None:
    value = body.get(name)
    return None if value is None else OffsetMap.from_json(value)
