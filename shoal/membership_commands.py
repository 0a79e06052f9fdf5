"""The admin's three commands: `revoke` a node, `rotate` all keys, `release` a stream that everybody has quarantined.

All run where the admin's key is, beside a running daemon of the swarm: best a node of its own on the admin's machine.
The daemon says what there is to sign; the key is read, used and forgotten here, and what is signed goes back to the
daemon, which spreads it.
"""

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any

from lamport.errors import InvalidInput
from lamport.ids import NodeId, StreamId
from lamport.leaps import encode_release
from lamport.notices import Notice, NoticeKind, signed_bytes
from shoal.client import Client
from shoal.commands import with_client
from shoal.errors import RequestRefused
from shoal.folder import read_folder
from transport.epochs import MAX_MEMBERS, Authority, Epoch, authority_of, make_epoch
from transport.errors import IdentityError
from transport.identity import AdminKey, SwarmKey, swarm_hint
from transport.identity import rotate as next_key
from transport.keyfiles import read_admin_key, read_swarm_key, write_swarm_key


def revoke(arguments: Namespace) -> int:
    """Put a node out of the swarm, for good."""
    if arguments.nothing and arguments.cut:
        raise InvalidInput(
            "--nothing and --cut exclude each other: name what is to count, or nothing"
        )
    cuts = {} if arguments.nothing else _cuts(arguments.cut)
    admin, swarm = read_admin_key(Path(arguments.admin)), read_folder(Path(arguments.data)).swarm

    async def act(client: Client) -> None:
        node = resolved_node(arguments.node, await client.status())
        draft = await client.draft_revocation(node, cuts)
        body = bytes.fromhex(draft["body"])
        await client.notify(_signed(swarm, admin, NoticeKind.REVOCATION, body).encode())
        print(*_revocation_lines(node, draft), sep="\n")

    return with_client(arguments, act)


def rotate(arguments: Namespace) -> int:
    """Give all members that are not revoked the keys of a new epoch."""
    admin, identity = read_admin_key(Path(arguments.admin)), read_folder(Path(arguments.data))
    before = read_swarm_key(Path(arguments.swarm_key))
    if identity.swarm != before.swarm or before.admin != admin.public:
        raise IdentityError(
            f"these keys are not all of one swarm: the folder's is {swarm_hint(identity.swarm)},"
            f" the swarm key's {swarm_hint(before.swarm)}"
        )
    more = [NodeId.parse(text) for text in arguments.member]

    async def act(client: Client) -> None:
        known = await client.members()
        _require_present(before, known)
        key = _next_key(before, Path(arguments.out))
        former = [*_authorities(known["authorities"]), authority_of(before)]
        nodes = [*map(NodeId.parse, known["nodes"]), *more]
        for epoch in _epochs(key, former, nodes):
            notice = _signed(key.swarm, admin, NoticeKind.EPOCH, epoch.encode())
            await client.notify(notice.encode())
        print(*_rotation_lines(key, arguments.out, nodes), sep="\n")

    return with_client(arguments, act)


def release(arguments: Namespace) -> int:
    """Let everybody take in a stream whose timestamps leap."""
    admin, swarm = read_admin_key(Path(arguments.admin)), read_folder(Path(arguments.data)).swarm

    async def act(client: Client) -> None:
        quarantined = (await client.status())["quarantined"]
        stream = _resolved_stream(arguments.stream, quarantined)
        lamport = quarantined[stream]
        notice = _signed(swarm, admin, NoticeKind.RELEASE, encode_release(lamport))
        await client.notify(notice.encode())
        print(f"released {stream}: timestamps up to {lamport} count as known from now on")

    return with_client(arguments, act)


def _resolved_stream(text: str, quarantined: Iterable[str]) -> str:
    """The quarantined stream that a text is, or is the unambiguous beginning of."""
    matching = [stream for stream in quarantined if stream.startswith(text)]
    if text in matching or len(matching) == 1:
        return text if text in matching else matching[0]
    if matching:
        raise RequestRefused(f"{text!r} is the beginning of several: {', '.join(matching)}")
    raise RequestRefused(f"no linked peer holds a stream {text} whose timestamps leap too far")


def resolved_node(text: str, status: Mapping[str, Any]) -> str:
    """The node that a text stands for: a whole id, or the unambiguous beginning of one that is known.

    Raises:
        RequestRefused: it is the beginning of several, or of none.
    """
    known = {StreamId.parse(stream).node for stream in status["offsets"]}
    known |= {NodeId.parse(peer["node"]) for peer in status["peers"]}
    matching = sorted(str(node) for node in known if str(node).startswith(text))
    if text in matching or len(matching) == 1:
        return text if text in matching else matching[0]
    if matching:
        raise RequestRefused(f"{text!r} is the beginning of several nodes: {', '.join(matching)}")
    return str(NodeId.parse(text))


def _cuts(given: Sequence[str]) -> dict[str, int] | None:
    """What the command line names; None where it names nothing."""
    cuts: dict[str, int] = {}
    for text in given:
        stream, _, offset = text.rpartition("=")
        if not stream or not offset.isascii() or not offset.isdecimal():
            raise InvalidInput(f"a cut is STREAM=OFFSET, not {text!r}")
        cuts[StreamId.parse(stream).address] = int(offset)
    return cuts or None


def _signed(swarm: bytes, admin: AdminKey, kind: NoticeKind, body: bytes) -> Notice:
    return Notice(kind, body, admin.sign(signed_bytes(swarm, kind, body)))


def _revocation_lines(node: str, draft: Mapping[str, Any]) -> list[str]:
    lines = [f"revoked {node}: it is let in nowhere any more"]
    lines += [f"{stream} counts up to offset {offset}" for stream, offset in draft["cuts"]]
    lines += [] if draft["cuts"] else ["nothing that it wrote counts"]
    lines += [f"{stream} loses {count} events" for stream, count in draft["withdrawn"].items()]
    return [*lines, "give the others new keys now: `shoal rotate`"]


def _require_present(before: SwarmKey, known: Mapping[str, Any]) -> None:
    """A notice of an epoch that the swarm has left behind would reach nobody."""
    if known["epoch"] > before.epoch + 1:
        raise IdentityError(
            f"this swarm key is of epoch {before.epoch}, and the swarm is in epoch {known['epoch']}:"
            " use the newest swarm key"
        )


def _next_key(before: SwarmKey, path: Path) -> SwarmKey:
    """The key of the next epoch, kept before anything is told of it; one that was begun with is gone on with."""
    if not path.exists():
        key = next_key(before, SystemRandom())
        write_swarm_key(path, key)
        return key
    key = read_swarm_key(path)
    if (key.swarm, key.admin, key.epoch) != (before.swarm, before.admin, before.epoch + 1):
        raise IdentityError(f"{path} exists, and is not the key that follows: choose another name")
    return key


def _authorities(texts: Iterable[Sequence[str]]) -> list[Authority]:
    return [Authority(*map(bytes.fromhex, pair)) for pair in texts]


def _epochs(key: SwarmKey, former: Sequence[Authority], nodes: Iterable[NodeId]) -> Iterable[Epoch]:
    """The notices that are needed for so many members."""
    members = sorted(set(nodes))
    for start in range(0, len(members), MAX_MEMBERS):
        yield make_epoch(key, former, members[start : start + MAX_MEMBERS], SystemRandom())


def _rotation_lines(key: SwarmKey, out: str, nodes: Iterable[NodeId]) -> list[str]:
    members = sorted(set(nodes))
    return [
        f"swarm key  {out}  (epoch {key.epoch}; enrol with it from now on, and keep it off devices)",
        f"renewed    {len(members)} members; a device that is not among them must be enrolled anew",
        *(f"           {node}" for node in members),
    ]
