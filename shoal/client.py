"""A client of a running daemon: the verbs of `Node` from another process, over the control API."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from lamport.exchange import Imported
from shoal.control import ARCHIVE_TYPE, Control, read_control
from shoal.errors import DaemonUnreachable, DiskRefused, RequestRefused, ServiceOverloaded

REQUEST_TIMEOUT_S = 30.0
"""How long an answer may take; a stream may be silent for as long, the daemon says something more often."""

MAX_LINE_BYTES = 1024 * 1024
"""Longest line of a stream: an event has at most 70 KiB of msgpack, JSON may need several times that."""

_REFUSED = 400

_KINDS: Mapping[object, type[RequestRefused]] = {
    "ERR_SERVICE_OVERLOADED": ServiceOverloaded,
    "ERR_STORE_BUSY": ServiceOverloaded,
    "ERR_SHUTTING_DOWN": ServiceOverloaded,
    "ERR_STORE_FULL": DiskRefused,
    "ERR_DAMAGED": DiskRefused,
}
"""Refusals for which the request is not to blame."""


class Client:
    """Talks to the daemon of a data folder. Use it as an async context manager."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """A client for the daemon of this data folder; raises `DaemonUnreachable` where none runs."""
        return cls(read_control(folder))

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            base_url=f"http://{self._control.address}",
            headers={"Authorization": f"Bearer {self._control.token}"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=5.0, sock_read=REQUEST_TIMEOUT_S
            ),
            read_bufsize=MAX_LINE_BYTES,
        )
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def publish(self, tags: Iterable[str], payload: Any, *, wait: bool = True) -> str:
        """Append one event; returns the text of its key once it is durable there.

        Raises:
            ServiceOverloaded: the daemon is busy, and it would have to `wait`. Nothing was stored.
            RequestRefused: the daemon's reason. Nothing was stored.
            DaemonUnreachable: it does not answer.
        """
        published = await self.publish_all([(tags, payload)], wait=wait)
        return published[0]

    async def publish_all(
        self, events: Iterable[tuple[Iterable[str], Any]], *, wait: bool = True
    ) -> list[str]:
        """Append events in this order, all or none; returns the texts of their keys. Raises as `publish`."""
        data = [{"tags": list(tags), "payload": payload} for tags, payload in events]
        answer = await self._post("/api/v2/events/publish", {"data": data, "wait": wait})
        return [event["key"] for event in answer["data"]]

    async def retract(self, keys: Iterable[str], *, reason: str, signature: bytes = b"") -> str:
        """Hide events from all folds and queries, for good; returns the text of the retraction's key.

        `signature` is the admin's, for events of other nodes. Raises as `publish`.
        """
        body = {"keys": list(keys), "reason": reason, "admin": signature.hex() or None}
        answer = await self._post("/api/v2/events/retract", body)
        key: str = answer["data"][0]["key"]
        return key

    async def import_archive(self, path: Path) -> Imported:
        """Hand an archive over, a piece at a time; returns what came of it once all of it is durable there.

        Raises:
            RequestRefused: it does not hold; nothing was stored.
            DaemonUnreachable: it does not answer any more; importing again adds what is missing.
        """
        headers = {"Content-Type": ARCHIVE_TYPE}
        unhurried = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
        try:
            with path.open("rb") as file:
                async with self._open().post(
                    "/api/v2/log/import", data=file, headers=headers, timeout=unhurried
                ) as response:
                    await _check(response)
                    answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error
        return Imported(answer["streams"], answer["events"], answer["added"])

    async def report_damage(self, ranges: Iterable[Mapping[str, Any]]) -> None:
        """Tell the node what of its log was found damaged, so that it asks its peers for that. Raises as `publish`."""
        await self._post("/api/v2/log/damaged", {"ranges": list(ranges)})

    def query(self, text: str, *, order: str = "asc") -> AsyncIterator[dict[str, Any]]:
        """The matching events known there now, as JSON objects. Raises as `publish`."""
        return self._lines("/api/v2/events/query", {"query": text, "order": order})

    def subscribe(
        self, text: str, *, lower: Mapping[str, int] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """The matching events above `lower`, then those that come, without end. Raises as `publish`.

        One that was given and is retracted later comes again, as `{"type": "retracted", "key": ...}`.
        """
        return self._lines(
            "/api/v2/events/subscribe", {"query": text, "lowerBound": dict(lower or {})}
        )

    async def status(self) -> dict[str, Any]:
        """What the node knows of itself and its peers."""
        return await self._get("/api/v2/node/status")

    async def fish(self, name: str) -> dict[str, Any]:
        """The state of a hosted fish and the offsets it covers."""
        return await self._get(f"/api/v2/fish/{quote(name, safe='')}")

    async def explain(
        self, name: str, *, at: str | None = None, limit: int = 100, before: str | None = None
    ) -> dict[str, Any]:
        """Why a hosted fish has its state: the last events behind it (up to the key `at`), and the state after each.

        With `before`, the key of an event that came late or was retracted, it is what was believed before that.
        """
        end = "" if at is None else f"&at={quote(at, safe='')}"
        end += "" if before is None else f"&before={quote(before, safe='')}"
        return await self._get(f"/api/v2/fish/{quote(name, safe='')}/explain?limit={limit}{end}")

    async def fish_names(self) -> list[str]:
        """The fish hosted there."""
        names: list[str] = (await self._get("/api/v2/fish"))["fish"]
        return names

    async def cut(self, node: str) -> None:
        """Close the link to a node and refuse it until healed."""
        await self._post("/api/v2/node/peers/cut", {"node": node})

    async def heal(self, node: str | None = None) -> None:
        """Let a node, or all, connect again."""
        await self._post("/api/v2/node/peers/heal", {"node": node})

    async def draft_revocation(self, node: str, cuts: Mapping[str, int] | None) -> dict[str, Any]:
        """What the admin is to sign in order to revoke a node (see `shoal.membership_api`). Raises as `publish`."""
        return await self._post("/api/v2/node/revocation", {"node": node, "cuts": cuts})

    async def members(self) -> dict[str, Any]:
        """The members and authorities that the node knows."""
        return await self._get("/api/v2/node/members")

    async def notify(self, notice: bytes) -> None:
        """Hand over what the admin has signed; the node keeps it and spreads it. Raises as `publish`."""
        await self._post("/api/v2/node/notices", {"notice": notice.hex()})

    async def _get(self, path: str) -> dict[str, Any]:
        return await self._answer("GET", path, None)

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._answer("POST", path, body)

    async def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        try:
            async with self._open().request(method, path, json=body) as response:
                await _check(response)
                answer: dict[str, Any] = await response.json()
                return answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _lines(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The events of an answer in lines and what it says of retracted ones, without its other messages."""
        try:
            async with self._open().post(path, json=body) as response:
                await _check(response)
                async for line in response.content:
                    value = json.loads(line) if line.strip() else {}
                    if value.get("type") in {"event", "retracted"}:
                        yield value
                    elif (value.get("type"), value.get("severity")) == ("diagnostic", "error"):
                        raise _refusal(value)
        except aiohttp.ClientPayloadError as error:
            raise self._unreachable("it broke off: it was stopped or killed") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "a client is used inside its `async with` block"
        return self._session

    def _unreachable(self, error: Exception | str) -> DaemonUnreachable:
        why = str(error) or type(error).__name__
        return DaemonUnreachable(
            f"the daemon at {self._control.address} does not answer ({why}): start it with `shoal run`"
        )


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status >= _REFUSED:
        try:
            refusal = _refusal(await response.json())
        except (aiohttp.ClientError, ValueError, KeyError, asyncio.IncompleteReadError):
            refusal = RequestRefused(f"status {response.status}")
        raise refusal


def _refusal(told: Mapping[str, Any]) -> RequestRefused:
    return _KINDS.get(told.get("code"), RequestRefused)(str(told["message"]))
