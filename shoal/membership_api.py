"""The part of the control API that the admin's commands use: what to sign, and what was signed.

    POST /api/v2/node/revocation     {"node": ID, "cuts": {STREAM: OFFSET, ...} or null}
    GET  /api/v2/node/members        {"epoch": 0, "nodes": [ID, ...], "authorities": [[HEX, HEX], ...]}
    POST /api/v2/node/notices        {"notice": HEX}

The first answers with the body of a notice, as `{"body": HEX, "cuts": {...}, "withdrawn": {...}}`: the offsets that the
cuts came to lie at, and how many events that are held here would not count any more.
"""

from aiohttp import web

from lamport.errors import CorruptRange, InvalidInput
from lamport.ids import NodeId
from lamport.notices import decode_notice
from lamport.offsets import OffsetMap
from shoal.membership import draft_revocation, known_members
from shoal.node import Node
from shoal.strictjson import bytes_in, parse_object, text_in


class MembershipRoutes:
    """Serves one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [
            web.post("/api/v2/node/revocation", self._post_revocation),
            web.get("/api/v2/node/members", self._get_members),
            web.post("/api/v2/node/notices", self._post_notice),
        ]

    async def _post_revocation(self, request: web.Request) -> web.Response:
        body = parse_object(await request.read())
        cuts = body.get("cuts")
        offsets = None if cuts is None else dict(OffsetMap.from_json(cuts))
        revoked = NodeId.parse(text_in(body, "node"))
        draft = await draft_revocation(self._node, revoked, offsets)
        return web.json_response(
            {
                "body": draft.revocation.encode().hex(),
                "cuts": [[str(cut.stream), cut.offset] for cut in draft.revocation.cuts],
                "withdrawn": {part.address: count for part, count in draft.withdrawn.items()},
            }
        )

    async def _get_members(self, _request: web.Request) -> web.Response:
        members, credentials = known_members(self._node), self._node.peers.members.credentials
        return web.json_response(
            {
                "epoch": members.epoch,
                "nodes": list(map(str, members.nodes)),
                "authorities": [[one.hex() for one in each] for each in credentials.authorities],
            }
        )

    async def _post_notice(self, request: web.Request) -> web.Response:
        body = parse_object(await request.read())
        try:
            is_news = await self._node.learn(decode_notice(bytes_in(body, "notice")))
        except CorruptRange as error:
            raise InvalidInput(f"{error}: use the keys of this node's swarm") from error
        return web.json_response({"news": is_news})
