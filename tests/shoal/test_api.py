"""The control API: its answers, its refusals, and its subscribers; a real node behind a real socket."""

import asyncio
import functools
import io
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec
from urllib.parse import quote

import aiohttp
import pytest

from fish.definition import Fish
from lamport.event import draft
from lamport.tags import Tag
from shoal import api, strangers, worker
from shoal.api import MAX_BODY_BYTES, MAX_SUBSCRIPTIONS, PIECE_BYTES, ControlApi
from shoal.client import Client
from shoal.control import Control, draw_token, read_control, written_control
from shoal.errors import DaemonUnreachable, DiskRefused, RequestRefused, ServiceOverloaded
from shoal.folder import locked_folder, read_folder
from shoal.node import Node
from shoal.system import system_seams
from tests.shoal.daemons import LIMIT_S, RANDOMNESS, enrolled
from transport.errors import LocalFault
from transport.identity import enrol, make_swarm
from transport.network import Address

LOOPBACK = Address("127.0.0.1", 0)
JSON = {"Content-Type": "application/json"}

Parameters = ParamSpec("Parameters")


def fails(state: int, _event: Any, _metadata: Any) -> int:
    raise ValueError(f"no way on from {state}")


BROKEN: Fish[int] = Fish("broken", Tag("poison"), 0, fails)
FISH: dict[str, Fish[Any]] = {"workers": worker.workers, "broken": BROKEN}


def story(
    test: Callable[Parameters, Coroutine[Any, Any, None]],
) -> Callable[Parameters, None]:
    """Run a test in an event loop of its own; it fails where it hangs."""

    @functools.wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), LIMIT_S))

    return run


class Answer:
    """What came back: status and body."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text

    def json(self) -> Any:
        return json.loads(self.text)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]

    def payloads(self) -> list[Any]:
        return [line["payload"] for line in self.lines() if line["type"] == "event"]


@dataclass(frozen=True)
class Serving:
    """A node, and a program that knows its token."""

    node: Node
    control: Control
    session: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send("GET", path, headers=headers)

    async def post(self, path: str, body: Any) -> Answer:
        return await self.send("POST", path, data=json.dumps(body), headers=JSON)

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, f"/api/v2/{path}", **options) as response:
            return Answer(response.status, await response.text())

    async def publish(self, *payloads: Any, tag: str = "a") -> Answer:
        data = [{"tags": [tag], "payload": payload} for payload in payloads]
        answer = await self.post("events/publish", {"data": data})
        assert answer.status == 200, answer.text
        return answer

    async def query(self, text: str = "FROM allEvents", **more: Any) -> Answer:
        return await self.post("events/query", {"query": text, **more})

    @asynccontextmanager
    async def subscribed(
        self, text: str = "FROM 'a'", **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.session.post(
            "/api/v2/events/subscribe", json={"query": text, **more}
        ) as response:
            assert response.status == 200
            yield response


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Serving]:
    identity = read_folder(enrolled(folder / "data"))
    seams = system_seams(folder / "data", identity, listen=LOOPBACK, mdns=False)
    token = draw_token(RANDOMNESS)
    async with (
        Node(identity, seams) as node,
        ControlApi(node, FISH, token).served(LOOPBACK) as address,
        aiohttp.ClientSession(
            f"http://{address}", headers={"Authorization": f"Bearer {token}"}
        ) as session,
    ):
        node.pond.observe(worker.workers)
        yield Serving(node, Control(address, token), session)


def refused(answer: Answer, status: int, code: str) -> str:
    """Check an error's shape; returns its message."""
    assert answer.status == status, answer.text
    error = answer.json()
    assert error.keys() == {"code", "message"}
    assert error["code"] == code
    assert "Traceback" not in answer.text
    assert error["message"]
    return str(error["message"])


async def next_line(response: aiohttp.ClientResponse) -> Any:
    """The next line that says something."""
    while not (line := await response.content.readline()).strip():
        assert line, "the stream ended"
    return json.loads(line)


async def next_payloads(response: aiohttp.ClientResponse, count: int) -> list[Any]:
    return [(await next_line(response))["payload"] for _ in range(count)]


@story
async def test_the_node_tells_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        answer = await serve.get("node/id")
        assert (answer.status, answer.text) == (200, str(serve.node.id))


@story
async def test_the_status_tells_what_the_node_holds(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(1, 2)
        status = (await serve.get("node/status")).json()
        assert status == {
            "node": str(serve.node.id),
            "stream": str(serve.node.log.stream),
            "listening": str(serve.node.listening),
            "lamport": 2,
            "offsets": {str(serve.node.log.stream): 1},
            "missing": {},
            "sync": {"inSync": False, "level": [], "behind": [], "away": [], "missing": 0},
            "peers": [],
            "quarantined": {},
            "unreached": {},
            "fish": ["workers"],
            "stopped": {},
            "damaged": {},
            "retracted": 0,
            "voidRetractions": 0,
            "forks": [],
            "named": {},
            "horizons": {},
            "epoch": 0,
            "revoked": {},
        }


@story
async def test_publishing_answers_with_the_place_of_each_event(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        published = (await serve.publish("one", "two")).json()["data"]
        events = [event async for event in serve.node.query("FROM 'a'")]
        assert published == [
            {
                "key": str(event.key),
                "lamport": number,
                "stream": str(serve.node.log.stream),
                "offset": number - 1,
                "timestamp": event.timestamp,
            }
            for number, event in enumerate(events, 1)
        ]


@story
async def test_publishing_nothing_stores_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        assert (await serve.publish()).json() == {"data": []}
        assert not serve.node.offsets


def one_event(**changes: Any) -> dict[str, Any]:
    return {"tags": ["a"], "payload": 0, **changes}


def nested(depth: int) -> Any:
    return json.loads("[" * depth + "0" + "]" * depth)


BAD_EVENTS = {
    "empty tag": (one_event(tags=[""]), "a tag may not be empty"),
    "long tag": (one_event(tags=["x" * 129]), "at most 128 bytes"),
    "33 tags": (one_event(tags=[str(n) for n in range(33)]), "at most 32 tags, not 33"),
    "reserved tag": (one_event(tags=["shoal:x"]), "the engine's own"),
    "tag that is no text": (one_event(tags=[1]), "a tag is a string"),
    "half a character as tag": (one_event(tags=["\ud800"]), "valid Unicode"),
    "tags that are no list": (one_event(tags="a"), "'tags' must be a list"),
    "no payload": ({"tags": ["a"]}, "needs 'tags' and a 'payload'"),
    "no tags": ({"payload": 1}, "'tags' must be a list"),
    "no object": (7, "needs 'tags' and a 'payload'"),
    "nesting 33": (one_event(payload=nested(33)), "nested at most 32 deep"),
    "integer of 65 bits": (one_event(payload=2**63), "at most 64 bits signed"),
    "half a character": (one_event(payload="\ud800"), "valid Unicode"),
    "one byte too much": (one_event(payload="x" * (64 * 1024 - 2)), "65536 bytes encoded"),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
@story
async def test_one_bad_event_among_good_ones_stores_nothing(tmp_path: Path, name: str) -> None:
    bad, reason = BAD_EVENTS[name]
    async with serving(tmp_path) as serve:
        await serve.publish("before")
        before = serve.node.offsets, serve.node.log.lamport
        data = [one_event(payload="good"), bad, one_event(payload="good")]
        answer = await serve.post("events/publish", {"data": data})
        assert reason in refused(answer, 400, "ERR_BAD_REQUEST")
        assert (serve.node.offsets, serve.node.log.lamport) == before
        assert (await serve.query()).payloads() == ["before"]


@story
async def test_more_than_ten_thousand_events_at_once_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        answer = await serve.post("events/publish", {"data": [one_event()] * 10_001})
        assert "at most 10000 events" in refused(answer, 400, "ERR_BAD_REQUEST")
        assert not serve.node.offsets


@story
async def test_payloads_at_their_limits_are_published_as_they_are(tmp_path: Path) -> None:
    payloads = ["x" * (64 * 1024 - 3), nested(32), 2**63 - 1, -(2**63), "🐟\x00'\"", None]
    async with serving(tmp_path) as serve:
        await serve.publish(*payloads)
        assert (await serve.query()).payloads() == payloads


@story
async def test_a_query_gives_an_event_a_line_and_then_the_offsets_it_covers(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish("one")
        await serve.publish("other", tag="b")
        [event, offsets] = (await serve.query("FROM 'a'")).lines()
        stream = str(serve.node.log.stream)
        assert event == {
            "type": "event",
            "key": f"0000000000000001/{stream}",
            "lamport": 1,
            "stream": stream,
            "offset": 0,
            "timestamp": event["timestamp"],
            "tags": ["a"],
            "appId": "shoal",
            "payload": "one",
        }
        assert offsets == {"type": "offsets", "offsets": {stream: 1}}


@story
async def test_a_query_comes_in_the_order_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(1, 2, 3)
        for order, expected in (("asc", [1, 2, 3]), ("desc", [3, 2, 1]), ("stream-asc", [1, 2, 3])):
            assert (await serve.query(order=order)).payloads() == expected


@pytest.mark.parametrize("order", ["up", None, 1, []])
@story
async def test_an_unknown_order_is_refused_with_those_there_are(tmp_path: Path, order: Any) -> None:
    async with serving(tmp_path) as serve:
        message = refused(await serve.query(order=order), 400, "ERR_BAD_REQUEST")
        assert "'asc', 'desc', 'stream-asc'" in message


@story
async def test_the_lower_bound_is_exclusive_and_the_upper_inclusive(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(0, 1, 2, 3)
        stream = str(serve.node.log.stream)
        answer = await serve.query(lowerBound={stream: 0}, upperBound={stream: 2})
        assert answer.payloads() == [1, 2]
        assert answer.lines()[-1] == {"type": "offsets", "offsets": {stream: 2}}
        assert (await serve.query(upperBound={})).payloads() == []
        assert (await serve.query(lowerBound={stream: 3})).payloads() == []
        assert (await serve.query(lowerBound=None, upperBound=None)).payloads() == [0, 1, 2, 3]


@story
async def test_an_upper_bound_beyond_the_present_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(0)
        stream, unknown = serve.node.log.stream, f"{serve.node.id}-7"
        for bound in ({str(stream): 1}, {unknown: 0}):
            answer = await serve.query(upperBound=bound)
            assert "beyond what this node holds" in refused(answer, 400, "ERR_BAD_REQUEST")


BAD_BOUNDS: list[Any] = [7, [], "a", {"a": 1}, {"STREAM": -1}, {"STREAM": "1"}, {"STREAM": True}]


@pytest.mark.parametrize("bound", BAD_BOUNDS)
@pytest.mark.parametrize(("path", "name"), [("query", "lowerBound"), ("query", "upperBound")])
@story
async def test_a_malformed_bound_is_refused(
    tmp_path: Path, path: str, name: str, bound: Any
) -> None:
    async with serving(tmp_path) as serve:
        value = json.loads(json.dumps(bound).replace("STREAM", str(serve.node.log.stream)))
        body = {"query": "FROM 'a'", name: value}
        refused(await serve.post(f"events/{path}", body), 400, "ERR_BAD_REQUEST")


@story
async def test_a_lower_bound_far_beyond_the_present_selects_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(0)
        answer = await serve.query(lowerBound={str(serve.node.log.stream): 2**70})
        assert (answer.status, answer.payloads()) == (200, [])


BAD_QUERIES = ["", "FROM", "'a'", "FROM a", "FROM 'a' &", "FROM ('a'", "FROM 'a' 'b'", "FROM ''"]


@pytest.mark.parametrize("path", ["events/query", "events/subscribe"])
@story
async def test_a_malformed_query_is_refused_with_the_place(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as serve:
        for text in BAD_QUERIES:
            answer = await serve.post(path, {"query": text})
            assert "query, character" in refused(answer, 400, "ERR_BAD_REQUEST")
        for body in ({}, {"query": None}, {"query": ["FROM 'a'"]}):
            message = refused(await serve.post(path, body), 400, "ERR_BAD_REQUEST")
            assert message == "'query' must be a text"


@story
async def test_a_fish_tells_its_state_and_the_offsets_it_covers(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        tags = list(worker.status_tags("w1", "FOO").names)
        payload = {"type": "started", "worker": "w1", "activity": "FOO"}
        data = [{"tags": tags, "payload": payload}]
        [event] = (await serve.post("events/publish", {"data": data})).json()["data"]
        assert (await serve.get("fish/workers")).json() == {
            "fish": "workers",
            "state": {"w1": [event["key"]]},
            "key": event["key"],
            "offsets": {event["stream"]: 0},
        }


@story
async def test_what_was_believed_before_an_event_went_is_explained(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        tags = list(worker.status_tags("w1", "FOO").names)
        payload = {"type": "started", "worker": "w1", "activity": "FOO"}
        data = [{"tags": tags, "payload": payload}] * 2
        keys = [
            one["key"]
            for one in (await serve.post("events/publish", {"data": data})).json()["data"]
        ]
        assert (await serve.get("fish/workers")).json()["state"] == {"w1": keys}
        await serve.node.retract(keys[0], reason="a slip")
        assert (await serve.get("fish/workers")).json()["state"] == {"w1": keys[1:]}
        at = quote(keys[0], safe="")
        now = (await serve.get(f"fish/workers/explain?at={quote(keys[1], safe='')}")).json()
        assert now["state"] == {"w1": keys[1:]}
        before = (await serve.get(f"fish/workers/explain?before={at}")).json()
        assert before["state"] == {"w1": keys}
        assert [travel["late"] for travel in before["travels"]] == keys[:1]


@story
async def test_a_fish_is_explained_event_by_event(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        tags = list(worker.status_tags("w1", "FOO").names)
        payload = {"type": "started", "worker": "w1", "activity": "FOO"}
        data = [{"tags": tags, "payload": payload}] * 3
        keys = [
            one["key"]
            for one in (await serve.post("events/publish", {"data": data})).json()["data"]
        ]
        shown = (await serve.get("fish/workers/explain?limit=2")).json()
        assert shown["state"] == {"w1": keys}
        assert shown["leftOut"] == 1
        assert [step["event"]["key"] for step in shown["steps"]] == keys[1:]
        path = f"fish/workers/explain?at={quote(keys[0], safe='')}"
        assert (await serve.get(path)).json()["state"] == {"w1": keys[:1]}
        refused(await serve.get("fish/whale/explain"), 404, "ERR_NOT_FOUND")
        for bad in (
            "limit=0",
            "limit=x",
            f"limit={'1' * 5_000}",
            "at=nonsense",
            "before=x",
            f"before={quote(keys[0], safe='')}",
        ):
            refused(await serve.get(f"fish/workers/explain?{bad}"), 400, "ERR_BAD_REQUEST")


@story
async def test_the_hosted_fish_are_listed(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        assert (await serve.get("fish")).json() == {"fish": ["broken", "workers"]}


@story
async def test_a_fish_that_is_not_hosted_is_refused_with_those_that_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        message = refused(await serve.get("fish/whale"), 404, "ERR_NOT_FOUND")
        assert message == "no fish 'whale' is hosted here (there are: broken, workers)"


@story
async def test_a_fish_that_stopped_tells_why_and_the_node_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(1, tag="poison")
        message = refused(await serve.get("fish/broken"), 500, "ERR_FISH_STOPPED")
        assert "broken" in message
        assert serve.node.log.lamport == 1
        assert "0000000000000001/" in message
        assert (await serve.get("fish/workers")).status == 200


@story
async def test_cutting_and_healing_a_peer_is_acknowledged(tmp_path: Path) -> None:
    peer = str(enrol(make_swarm(RANDOMNESS)[0], RANDOMNESS).node)
    async with serving(tmp_path) as serve:
        for path, body in (
            ("cut", {"node": peer}),
            ("heal", {"node": peer}),
            ("heal", {"node": None}),
        ):
            answer = await serve.post(f"node/peers/{path}", body)
            assert (answer.status, answer.json()) == (200, {})


@pytest.mark.parametrize("path", ["node/peers/cut", "node/peers/heal"])
@story
async def test_a_peer_that_is_no_node_id_is_refused(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as serve:
        answer = await serve.post(path, {"node": "robot"})
        assert "not a node id" in refused(answer, 400, "ERR_BAD_REQUEST")
        answer = await serve.post(path, {"node": 7})
        assert refused(answer, 400, "ERR_BAD_REQUEST") == "'node' must be a text"
        assert "'node' must be" in refused(await serve.post(path, {}), 400, "ERR_BAD_REQUEST")


TOKENS = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic TOKEN", "TOKEN", "bearer TOKEN"]
TOKENS += ["Bearer TOKENx", "Bearer  TOKEN", "Bearer TOKEN TOKEN", "Bearer é", "Bearer \udcff"]


@pytest.mark.parametrize("form", TOKENS)
@story
async def test_a_wrong_token_is_refused(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as serve:
        header = form.replace("TOKEN", serve.control.token)
        head = f"GET /api/v2/node/id HTTP/1.1\r\nHost: {serve.control.address}\r\nAuthorization: {header}"
        answer = await spoken(serve.control.address, head)
        refused(answer, 401, "ERR_TOKEN_UNAUTHORIZED")
    assert not caplog.records


async def spoken(address: Address, head: str) -> Answer:
    """Send a request as these very bytes."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode(errors="surrogateescape"))
    raw = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    top, _, body = raw.partition("\r\n\r\n")
    return Answer(int(top.split()[1]), body)


GETS = ["node/id", "node/status", "fish", "fish/workers"]
POSTS = ["node/peers/cut", "node/peers/heal"]
POSTS += ["events/publish", "events/query", "events/retract", "events/subscribe"]
EVERYTHING = [("GET", path) for path in GETS] + [("POST", path) for path in POSTS]


@pytest.mark.parametrize(("method", "path"), [*EVERYTHING, ("GET", "nowhere"), ("PUT", "node/id")])
@story
async def test_strangers_are_turned_away_everywhere(tmp_path: Path, method: str, path: str) -> None:
    async with serving(tmp_path) as serve:
        port = serve.control.address.port
        body = {"data": json.dumps({"data": [one_event()], "query": "FROM 'a'"})}

        async def asked(**headers: str) -> Answer:
            return await serve.send(method, path, headers={**JSON, **headers}, **body)

        refused(await asked(Authorization="Bearer no"), 401, "ERR_TOKEN_UNAUTHORIZED")
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1"):
            refused(await asked(Host=host), 421, "ERR_MISDIRECTED")
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port}"):
            refused(await asked(Origin=origin), 403, "ERR_FORBIDDEN")
        for site in ("cross-site", "same-site"):
            refused(await asked(**{"Sec-Fetch-Site": site}), 403, "ERR_FORBIDDEN")
        assert not serve.node.offsets


@story
async def test_no_answer_invites_web_pages_of_others(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as serve,
        serve.session.options(
            "/api/v2/events/publish", headers={"Access-Control-Request-Method": "POST"}
        ) as response,
    ):
        assert response.status == 405
        assert not [name for name in response.headers if name.startswith("Access-Control")]


@story
async def test_the_loopbacks_names_are_welcome(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        for host in ("127.0.0.1", "localhost", "[::1]"):
            answer = await serve.get("node/id", Host=f"{host}:{serve.control.address.port}")
            assert answer.status == 200
        answer = await serve.get("node/id", **{"Sec-Fetch-Site": "same-origin"})
        assert answer.status == 200


@pytest.mark.parametrize("path", POSTS)
@story
async def test_only_bodies_declared_as_json_are_read(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as serve:
        body = json.dumps({"data": [one_event()], "query": "FROM 'a'"})
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
            answer = await serve.send("POST", path, data=body, headers={"Content-Type": kind})
            refused(answer, 415, "ERR_UNSUPPORTED_MEDIA_TYPE")
        assert not serve.node.offsets


@story
async def test_a_body_over_one_mebibyte_is_refused_and_one_of_it_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        body = json.dumps({"data": [one_event()]}).encode()

        async def sent(size: int) -> Answer:
            data = io.BytesIO(body.ljust(size))
            return await serve.send("POST", "events/publish", data=data, headers=JSON)

        message = refused(await sent(MAX_BODY_BYTES + 1), 413, "ERR_TOO_LARGE")
        assert message == "a request has at most 1048576 bytes"
        assert not serve.node.offsets
        assert (await sent(MAX_BODY_BYTES)).status == 200
        assert list(serve.node.offsets.values()) == [0]


NO_OBJECTS = [b"", b"{", b"[]", b"7", b"null", b'"text"', b"\xff", b'{"data": [NaN]}']
NO_OBJECTS += [b'{"data": Infinity}', b'{"data": -Infinity}', b'{"a":' * 100_000]
NO_OBJECTS += [b'{"data": ' + b"7" * 5_000 + b"}"]


@pytest.mark.parametrize("body", NO_OBJECTS, ids=lambda body: str(body[:20]))
@story
async def test_a_body_that_is_no_json_object_is_refused(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path) as serve:
        for path in POSTS:
            answer = await serve.send("POST", path, data=body, headers=JSON)
            message = refused(answer, 400, "ERR_BAD_REQUEST")
            assert message.startswith(("no JSON: ", "the body must be a JSON object"))


@story
async def test_a_number_beyond_all_floats_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        body = '{"data": [{"tags": ["a"], "payload": 1e999}]}'
        answer = await serve.send("POST", "events/publish", data=body, headers=JSON)
        assert "beyond the largest number" in refused(answer, 400, "ERR_BAD_REQUEST")
        assert not serve.node.offsets


@pytest.mark.parametrize("path", ["", "nowhere", "node", "node/id/", "../v2", "fish/a/b"])
@story
async def test_an_unknown_path_is_not_found(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as serve:
        refused(await serve.get(path), 404, "ERR_NOT_FOUND")


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
@story
async def test_a_wrong_method_is_refused(tmp_path: Path, method: str, path: str) -> None:
    async with serving(tmp_path) as serve:
        for wrong in {"GET", "POST", "PUT", "DELETE"} - {method}:
            answer = await serve.send(wrong, path, data="{}", headers=JSON)
            refused(answer, 405, "ERR_METHOD_NOT_ALLOWED")


@story
async def test_a_subscriber_gets_history_then_the_offsets_then_what_comes(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(1, 2)
        stream = str(serve.node.log.stream)
        async with serve.subscribed() as events:
            assert await next_payloads(events, 2) == [1, 2]
            assert await next_line(events) == {"type": "offsets", "offsets": {stream: 1}}
            await serve.publish(3)
            await serve.publish("unseen", tag="b")
            await serve.publish(4, 5)
            assert await next_payloads(events, 3) == [3, 4, 5]


@story
async def test_two_subscribers_get_each_event_once_while_others_publish(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:

        async def collected() -> list[Any]:
            async with serve.subscribed() as events:
                found: list[Any] = []
                while "end" not in found:
                    line = await next_line(events)
                    found += [line["payload"]] if line["type"] == "event" else []
                return found

        async def published(name: str) -> None:
            for number in range(40):
                await serve.publish(f"{name}{number}")

        await serve.publish("start")
        readers = [asyncio.create_task(collected()) for _ in range(2)]
        await asyncio.gather(published("x"), published("y"))
        await serve.publish("end")
        expected = (await serve.query("FROM 'a'")).payloads()
        assert len(expected) == 82
        for found in await asyncio.gather(*readers):
            assert found == expected


@story
async def test_what_is_published_while_history_is_on_its_way_comes_once_behind_it(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as serve:
        old = [f"{number}".ljust(30_000) for number in range(400)]  # more than sockets buffer
        await serve.node.publish_all(draft("a", payload) for payload in old)
        async with serve.subscribed() as events:
            await serve.publish("late")
            assert await next_payloads(events, 400) == old
            stream = str(serve.node.log.stream)
            assert (await next_line(events))["offsets"] == {stream: 399}
            await serve.publish("last")
            assert await next_payloads(events, 2) == ["late", "last"]


@story
async def test_a_subscriber_may_begin_above_a_lower_bound(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        await serve.publish(0, 1, 2)
        stream = str(serve.node.log.stream)
        async with serve.subscribed(lowerBound={stream: 1}) as events:
            assert await next_payloads(events, 1) == [2]
            assert (await next_line(events))["offsets"] == {stream: 2}
            await serve.publish(3)
            assert await next_payloads(events, 1) == [3]


@story
async def test_a_silent_subscription_shows_that_it_lives_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "KEEP_ALIVE_S", 0.001)
    async with serving(tmp_path) as serve, serve.subscribed() as events:
        await next_line(events)
        for number in range(20):
            assert await events.content.readline() == b"\n"
            await serve.publish(number)
            assert await next_payloads(events, 1) == [number]


@story
async def test_a_subscriber_that_hangs_up_leaves_the_node_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as serve:
        for number in range(5):
            async with serve.subscribed() as events:
                await next_line(events)
                events.close()
            await serve.publish(number, "and more")
        async with serve.subscribed() as events:
            assert len(await next_payloads(events, 10)) == 10
            await next_line(events)
            await serve.publish("live")
            assert await next_payloads(events, 1) == ["live"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@story
async def test_a_client_that_hangs_up_within_its_request_leaves_the_node_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as serve:
        address = serve.control.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        lines = (
            "POST /api/v2/events/publish HTTP/1.1",
            f"Host: {address}",
            f"Authorization: Bearer {serve.control.token}",
            "Content-Type: application/json",
            "Content-Length: 100",
            "Expect: 100-continue",
        )
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b'{"data": [{"tags"')
        writer.close()
        await writer.wait_closed()
        await serve.publish("fine")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@story
async def test_subscriptions_beyond_the_bound_are_turned_away_until_one_ends(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as serve:
        connector = aiohttp.TCPConnector(limit=0)
        headers = dict(serve.session.headers)
        base = f"http://{serve.control.address}"
        async with aiohttp.ClientSession(base, headers=headers, connector=connector) as session:
            many = Serving(serve.node, serve.control, session)
            streams = [await opened(many) for _ in range(MAX_SUBSCRIPTIONS)]
            answer = await serve.post("events/subscribe", {"query": "FROM 'a'"})
            message = refused(answer, 503, "ERR_SERVICE_OVERLOADED")
            assert message == f"at most {MAX_SUBSCRIPTIONS} subscriptions at once"
            streams[0].close()
            streams[0] = await let_in(many)
            assert (await serve.get("node/id")).status == 200
            for stream in streams:
                stream.close()


async def let_in(serve: Serving) -> aiohttp.ClientResponse:
    """A subscription, once there is room for it."""
    while True:
        await serve.node.publish("a", "wakes the stream, which finds its reader gone")
        response = await serve.session.post("/api/v2/events/subscribe", json={"query": "FROM 'a'"})
        if response.status == 200:
            return response
        response.close()


@story
async def test_requests_beyond_the_bound_are_turned_away_until_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_REQUESTS", 1)
    async with serving(tmp_path) as serve:
        async with serve.subscribed() as events:
            await next_line(events)
            message = refused(await serve.get("node/id"), 503, "ERR_SERVICE_OVERLOADED")
            assert message == "at most 1 requests at once"
            events.close()
        while (await serve.get("node/id")).status != 200:
            await serve.node.publish("a", "wakes the stream, which finds its reader gone")


@story
async def test_strangers_that_hold_connections_lock_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "MAX_STRANGERS", 3)
    async with serving(tmp_path) as serve, serve.subscribed() as events:
        await next_line(events)
        address = serve.control.address
        silent = [await asyncio.open_connection(address.host, address.port) for _ in range(6)]
        assert [await reader.read() for reader, _ in silent[:3]] == [b""] * 3
        await serve.publish("who has shown the token stays")
        assert (await next_line(events))["payload"] == "who has shown the token stays"
        for _, writer in silent:
            writer.close()


@story
async def test_an_answer_is_written_in_pieces_that_wait_one_at_a_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        for _ in range(3):
            await serve.publish(*["x" * 60_000] * 10)
        body = {"query": "FROM 'a'"}
        for path in ("events/query", "events/subscribe"):
            async with serve.session.post(f"/api/v2/{path}", json=body) as response:
                sizes = [await next_piece(response)]
                while sum(sizes) < 30 * 60_000:
                    sizes.append(await next_piece(response))
                assert max(sizes) < PIECE_BYTES + 61_000


async def next_piece(response: aiohttp.ClientResponse) -> int:
    """How many bytes the server wrote at once."""
    size, is_whole = 0, False
    while not is_whole:
        data, is_whole = await response.content.readchunk()
        size += len(data)
    return size


async def opened(serve: Serving) -> aiohttp.ClientResponse:
    """A subscription that is under way."""
    response = await serve.session.post("/api/v2/events/subscribe", json={"query": "FROM 'a'"})
    await next_line(response)
    return response


@story
async def test_a_port_in_use_is_refused_with_a_way_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        second = ControlApi(serve.node, {}, "token").served(serve.control.address)
        with pytest.raises(LocalFault, match=r"cannot listen at .* or choose another with --api"):
            await second.__aenter__()


@story
async def test_the_client_speaks_all_verbs(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve, Client(serve.control) as client:
        first = await client.publish(["a"], {"n": 1})
        more = await client.publish_all([(["a"], {"n": 2}), (["a", "b"], {"n": 3})])
        found = [event["key"] async for event in client.query("FROM 'a'")]
        assert found == [first, *more]
        assert [event["key"] async for event in client.query("FROM 'a'", order="desc")] == found[
            ::-1
        ]
        events = client.subscribe("FROM 'a'", lower=(await client.status())["offsets"])
        following = asyncio.create_task(drawn(events))
        last = await client.publish(["a"], None)
        assert (await following)["key"] == last
        assert await client.fish_names() == ["broken", "workers"]
        assert (await client.fish("workers"))["state"] == {}
        peer = str(enrol(make_swarm(RANDOMNESS)[0], RANDOMNESS).node)
        await client.cut(peer)
        assert [one["cut"] for one in (await client.status())["peers"]] == [True]
        await client.heal()
        assert (await client.status())["peers"] == []


async def drawn(events: Any) -> Any:
    """One item of an asynchronous generator, which is then closed."""
    try:
        return await anext(events)
    finally:
        await events.aclose()


@story
async def test_the_client_passes_the_reason_of_a_refusal_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve, Client(serve.control) as client:
        with pytest.raises(RequestRefused, match="a tag may not be empty"):
            await client.publish([""], 1)
        with pytest.raises(RequestRefused, match="query, character 1"):
            await drawn(client.query("nonsense"))
        with pytest.raises(RequestRefused, match=r"no fish '\.\./node/id' is hosted"):
            await client.fish("../node/id")


@story
async def test_the_client_tells_when_nobody_answers(tmp_path: Path) -> None:
    async with serving(tmp_path) as serve:
        control = serve.control
    async with Client(control) as client:
        with pytest.raises(DaemonUnreachable, match=rf"{control.address} does not answer"):
            await client.status()


@story
async def test_a_subscription_ends_without_a_fuss_when_the_node_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as session:
        async with serving(tmp_path) as serve:
            await serve.publish(1)
            response = await session.post(
                f"http://{serve.control.address}/api/v2/events/subscribe",
                json={"query": "FROM 'a'"},
                headers={"Authorization": f"Bearer {serve.control.token}"},
            )
            assert await next_payloads(response, 1) == [1]
            await next_line(response)
        with pytest.raises(aiohttp.ClientPayloadError):  # it did not come to an end of its own
            await response.content.read()
        response.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_note_with_the_token_is_closed_to_others_and_gone_afterwards(tmp_path: Path) -> None:
    control = Control(Address("127.0.0.1", 4454), draw_token(RANDOMNESS))
    with locked_folder(tmp_path):
        with written_control(tmp_path, control):
            assert read_control(tmp_path) == control
            assert (tmp_path / "control.json").stat().st_mode & 0o777 == 0o600
            assert names(tmp_path.iterdir()) == ["control.json", "lock"]
        assert names(tmp_path.iterdir()) == ["lock"]


def test_a_note_without_a_daemon_counts_as_none(tmp_path: Path) -> None:
    with (
        written_control(tmp_path, Control(Address("127.0.0.1", 4454), "t")),
        pytest.raises(DaemonUnreachable, match="no daemon runs"),
    ):
        read_control(tmp_path)


def names(entries: Iterable[Path]) -> list[str]:
    return sorted(entry.name for entry in entries)


def test_a_dead_daemons_note_is_replaced(tmp_path: Path) -> None:
    for name in ("control.json", "control.json.new"):
        (tmp_path / name).write_text("old")
        (tmp_path / name).chmod(0o666)
    control = Control(Address("127.0.0.1", 4454), "t")
    with locked_folder(tmp_path), written_control(tmp_path, control):
        assert read_control(tmp_path) == control
        assert (tmp_path / "control.json").stat().st_mode & 0o777 == 0o600


NOTES = ["", "{", "[]", "{}", '{"address": "x", "token": "t"}', '{"address": "127.0.0.1:1"}']


@pytest.mark.parametrize("text", NOTES)
def test_a_note_that_is_not_whole_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "control.json").write_text(text)
    hint = rf"start it with `shoal run --data {tmp_path}`"
    with locked_folder(tmp_path), pytest.raises(DaemonUnreachable, match=hint):
        read_control(tmp_path)


def test_tokens_have_256_bits_and_differ() -> None:
    tokens = {draw_token(RANDOMNESS) for _ in range(100)}
    assert len(tokens) == 100
    assert {len(bytes.fromhex(token)) for token in tokens} == {32}


@story
async def test_a_publisher_that_does_not_wait_is_told_when_to_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamport.log.MAX_WAITING", 4)
    async with serving(tmp_path) as serve, Client(serve.control) as client:
        await serve.publish("first")
        with closing(
            sqlite3.connect(tmp_path / "data" / "log.sqlite", isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = [asyncio.create_task(serve.node.publish("a", number)) for number in range(4)]
            await asyncio.sleep(0)
            body = {"data": [{"tags": ["a"], "payload": "refused"}], "wait": False}
            async with serve.session.post("/api/v2/events/publish", json=body) as response:
                assert response.headers["Retry-After"] == "1"
                answer = Answer(response.status, await response.text())
                refused(answer, 503, "ERR_SERVICE_OVERLOADED")
            with pytest.raises(ServiceOverloaded):
                await client.publish(["a"], "refused", wait=False)
            other.execute("ROLLBACK")
            await asyncio.gather(*waiting)
        await client.publish(["a"], "last", wait=False)
        payloads = (await serve.query("FROM 'a'")).payloads()
        assert payloads == ["first", 0, 1, 2, 3, "last"]
        answer = await serve.post("events/publish", {"data": [], "wait": 1})
        assert "'wait'" in refused(answer, 400, "ERR_BAD_REQUEST")


def damage(folder: Path, offset: int) -> None:
    with closing(sqlite3.connect(folder / "data" / "log.sqlite")) as connection, connection:
        connection.execute(
            'UPDATE events SET bytes = zeroblob(length(bytes)) WHERE "offset" = ?', (offset,)
        )


async def note_payloads(events: AsyncIterator[dict[str, Any]], found: list[Any]) -> None:
    async for event in events:
        found.append(event["payload"])  # noqa: PERF401 - what came before it failed is wanted


@story
async def test_an_answer_that_meets_damage_midway_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamport.reader.PAGE_EVENTS", 3)
    monkeypatch.setattr("lamport.reader.SCANNED_PAGES", 1)
    async with serving(tmp_path) as serve, Client(serve.control) as client:
        await serve.publish(*range(20))
        damage(tmp_path, 11)
        answer = await serve.query()
        assert answer.payloads() == list(range(answer.payloads()[-1] + 1))
        assert 3 <= len(answer.payloads()) <= 11
        last = answer.lines()[-1]
        assert (last["type"], last["severity"]) == ("diagnostic", "error")
        assert last["code"] == "ERR_DAMAGED"
        assert "event 11 of" in last["message"]
        found: list[Any] = []
        with pytest.raises(DiskRefused, match="event 11 of"):
            await note_payloads(client.query("FROM allEvents"), found)
        assert found == answer.payloads()
        async with serve.subscribed() as response:
            lines = [await next_line(response) for _ in range(len(found) + 1)]
            assert lines[-1]["type"] == "diagnostic"
            assert not await response.content.readline()
        damage(tmp_path, 0)
        assert "event 0 of" in refused(await serve.query(), 500, "ERR_DAMAGED")
