"""What the commands of the command line do, without the parsing.

Each takes the parsed arguments and returns the exit status; errors travel as exceptions and are told in one place.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamport.errors import InvalidInput
from lamport.ids import EventKey
from lamport.retraction import signed_names
from shoal.client import Client
from shoal.control import awaited_control
from shoal.daemon import run_daemon
from shoal.errors import RequestRefused
from shoal.explaining import explanation_to_text
from shoal.folder import enrol_device, make_swarm, read_folder
from shoal.settings import load_settings
from shoal.strictjson import parse_json
from transport.keyfiles import read_admin_key, read_swarm_key, write_admin_key, write_swarm_key

ADMIN_SUFFIX = ".admin"

SHOWN_SKEW_S = 2.0
"""Wall clocks that differ by less than this are right for people."""

_FLAGS = ("listen", "api", "peers", "announce", "mdns", "fish", "upcasters")


def swarm_init(arguments: Namespace) -> int:
    """Make a swarm: its key, and the admin's."""
    path = Path(arguments.out)
    if not path.name:
        raise InvalidInput(f"{arguments.out!r} names no file: give the new key file a name")
    admin_path = path.with_name(path.name + ADMIN_SUFFIX)
    swarm_key, admin_key = make_swarm()
    write_admin_key(admin_path, admin_key)
    try:
        write_swarm_key(path, swarm_key)
    except BaseException:
        admin_path.unlink()
        raise
    print(f"swarm key  {path}  (needed to enrol devices; keep it off them)")
    print(f"admin key  {admin_path}  (keep it offline)")
    return 0


def init(arguments: Namespace) -> int:
    """Enrol this device."""
    swarm_key = read_swarm_key(Path(arguments.swarm_key))
    identity = enrol_device(Path(arguments.data), swarm_key)
    print(f"enrolled node {identity.node} in {arguments.data}")
    return 0


def run(arguments: Namespace) -> int:
    """Run the daemon."""
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
    given = vars(arguments)
    flags = {name: given[name] for name in _FLAGS if given.get(name) is not None}
    settings = load_settings(Path(arguments.data), flags, os.environ)
    asyncio.run(run_daemon(settings, _announce))
    return 0


def _announce(line: str) -> None:
    """Print the line of a daemon that is ready. One that nobody reads, or takes, is no reason to end."""
    try:
        print(line, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        logging.getLogger("shoal.daemon").warning("%s (it could not be printed: %s)", line, error)


def publish(arguments: Namespace) -> int:
    """Publish one event and print its key."""
    text = _standard_input() if arguments.json == "-" else arguments.json
    payload = _parsed(text)

    async def act(client: Client) -> None:
        print(await client.publish(arguments.tag, payload))

    return with_client(arguments, act)


def retract(arguments: Namespace) -> int:
    """Hide events for good, and print the retraction's key."""
    keys = [EventKey.parse(text) for text in arguments.key]
    signature = b"" if arguments.admin is None else _signed_by_admin(arguments, keys)

    async def act(client: Client) -> None:
        print(await client.retract(map(str, keys), reason=arguments.reason, signature=signature))

    return with_client(arguments, act)


def _signed_by_admin(arguments: Namespace, keys: Sequence[EventKey]) -> bytes:
    """The admin's signature on these names; the key itself does not leave this process."""
    admin = read_admin_key(Path(arguments.admin))
    return admin.sign(signed_names(read_folder(Path(arguments.data)).swarm, keys))


def query(arguments: Namespace) -> int:
    """Print the matching events, one JSON line each."""

    async def act(client: Client) -> None:
        async for event in client.query(arguments.query, order=arguments.order):
            _print_line(event)

    return with_client(arguments, act)


def tail(arguments: Namespace) -> int:
    """Print events as they come."""

    async def act(client: Client) -> None:
        lower = {} if arguments.all else (await client.status())["offsets"]
        async for event in client.subscribe(arguments.query, lower=lower):
            _print_line(event)

    return with_client(arguments, act)


def fish(arguments: Namespace) -> int:
    """Print the state of a fish and what it covers, or the names of all."""

    async def act(client: Client) -> None:
        if arguments.name is None:
            print(*await client.fish_names() or ["no fish is hosted here"], sep="\n")
        else:
            print(json.dumps(await client.fish(arguments.name), indent=2, ensure_ascii=False))

    return with_client(arguments, act)


def explain(arguments: Namespace) -> int:
    """Print the events behind the state of a fish, and the state after each."""

    async def act(client: Client) -> None:
        found = await client.explain(
            arguments.name, at=arguments.at, limit=arguments.limit, before=arguments.before
        )
        if arguments.as_json:
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            print(*explanation_to_text(found), sep="\n")

    return with_client(arguments, act)


def peers(arguments: Namespace) -> int:
    """Print the peers, or cut or heal the link to one."""

    async def act(client: Client) -> None:
        status = await client.status()
        if arguments.action == "cut":
            await client.cut(node := _resolved(arguments.node, status))
            print(f"cut off from {node}; `shoal peers heal` ends it")
        elif arguments.action == "heal":
            healed = None if arguments.node is None else _resolved(arguments.node, status)
            await client.heal(healed)
            print(f"healed: {healed or 'all peers'}")
        elif arguments.as_json:
            print(json.dumps(status["peers"], indent=2))
        else:
            print(*_peer_lines(status), sep="\n")

    if arguments.action == "cut" and arguments.node is None:
        raise InvalidInput("`shoal peers cut` needs the node to cut")
    return with_client(arguments, act)


def status(arguments: Namespace) -> int:
    """Print what the node knows of itself and its peers."""

    async def act(client: Client) -> None:
        status = await client.status()
        print(json.dumps(status, indent=2) if arguments.as_json else _status_text(status))

    return with_client(arguments, act)


def forks(arguments: Namespace) -> int:
    """Print the proven forks: streams that were written twice."""

    async def act(client: Client) -> None:
        found = (await client.status())["forks"]
        if arguments.as_json:
            print(json.dumps(found, indent=2))
        else:
            print(*_fork_lines(found) or ["no stream has two histories"], sep="\n")

    return with_client(arguments, act)


def demo(arguments: Namespace) -> int:
    """Run the demo."""
    from shoal.demo import run_demo  # noqa: PLC0415 - only the demo needs what it imports

    return asyncio.run(run_demo(mdns=arguments.mdns is not False))


def with_client(arguments: Namespace, act: Callable[[Client], Awaitable[None]]) -> int:
    """Do something beside the running daemon of the data folder; returns the exit status."""

    async def go() -> None:
        _end_when_interrupted()
        async with Client(await awaited_control(Path(arguments.data))) as client:
            await act(client)

    try:
        asyncio.run(go())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return 0


def _end_when_interrupted() -> None:
    """Let SIGINT cancel this task.

    What `asyncio.run` sets for that may be noticed only when something else happens: a signal that comes just before
    the loop goes to sleep wakes it only by the way that handlers of the loop's own have.
    """
    task = asyncio.current_task()
    assert task is not None, "it is called by a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise InvalidInput("there is no standard input to read the payload from")
    return sys.stdin.buffer.read()


def _parsed(text: str | bytes) -> Any:
    try:
        return parse_json(text)
    except InvalidInput as error:
        raise InvalidInput(
            f"the payload is {error}; a text needs quotes: '\"like this\"'"
        ) from error


def _print_line(event: Mapping[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False), flush=True)


def _resolved(text: str, status: Mapping[str, Any]) -> str:
    """The node that a text stands for: a whole id, or the unambiguous beginning of a known peer's."""
    if not text:
        raise InvalidInput("the node to cut or heal is an empty text")
    known = [peer["node"] for peer in status["peers"] if peer["node"].startswith(text)]
    if len(known) > 1:
        raise RequestRefused(f"{text!r} is the beginning of several peers: {', '.join(known)}")
    return known[0] if known else text


def _status_text(status: Mapping[str, Any]) -> str:
    horizons = status["horizons"]
    held = sum(last + 1 - horizons.get(one, 0) for one, last in status["offsets"].items())
    lines = [
        f"node     {status['node']}",
        f"listens  {status['listening']}",
        f"stream   {status['stream']}",
        f"clock    {status['lamport']}",
        f"holds    {held} events of {len(status['offsets'])} streams",
        *(
            f"           {stream}  {_span(horizons.get(stream, 0))}up to {offset}"
            for stream, offset in status["offsets"].items()
        ),
        *(f"routes   {name}  to {stream}" for name, stream in status["named"].items()),
        f"missing  {sum(status['missing'].values())} events known to exist elsewhere",
        *(f"           {stream}  {count}" for stream, count in status["missing"].items()),
        f"sync     {_sync_text(status['sync'])}",
        *(f"damaged  {why}" for why in status["damaged"].values()),
        f"hidden   {status['retracted']} retracted events",
        *_void_lines(status["voidRetractions"]),
        *(f"forked   {fork['stream']}: see `shoal forks`" for fork in status["forks"]),
        *_quarantined_lines(status["quarantined"]),
        f"epoch    {status['epoch']}",
        *_revoked_lines(status["revoked"]),
        f"fish     {', '.join(status['fish']) or 'none'}",
        *(f"           {why}" for why in status["stopped"].values()),
        *_peer_lines(status),
    ]
    return "\n".join(lines)


def _quarantined_lines(quarantined: Mapping[str, int]) -> list[str]:
    return [
        f"aside    {stream}  quarantined, its timestamps leap to {lamport}: see `shoal release`"
        for stream, lamport in quarantined.items()
    ]


def _revoked_lines(revoked: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines: list[str] = []
    for node, cuts in revoked.items():
        lines.append(f"revoked  {node}{'' if cuts else '  (nothing of it counts)'}")
        lines += [f"           {stream}  counts up to {offset}" for stream, offset in cuts.items()]
    return lines


def _void_lines(count: int) -> list[str]:
    why = "neither their author's nor the admin's: the log says whose"
    return [f"           {count} retractions hide nothing ({why})"] if count else []


def _fork_lines(forks: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for fork in forks:
        count = len(fork["branches"])
        many = "two" if count == 2 else count  # noqa: PLR2004 - its name
        lines += [
            f"author  {fork['author']}",
            f"stream  {fork['stream']}  {many} histories behind offset {fork['commonOffset']}",
        ]
        lines += [
            f"        {one['branch'][:16]}  {one['events']} events, the first is {one['firstKey']}"
            for one in fork["branches"]
        ]
    return lines


def _span(horizon: int) -> str:
    return f"from {horizon} " if horizon else ""


def _peer_lines(status: Mapping[str, Any]) -> list[str]:
    lines = [line for peer in status["peers"] for line in _lines_of_peer(peer)]
    lines += [
        f"peer     {address}  not reached: {error or 'trying'}"
        for address, error in status["unreached"].items()
    ]
    return lines or ["peer     none met yet"]


def _sync_text(sync: Mapping[str, Any]) -> str:
    """How the node stands towards its peers; what nobody can know is said as such."""
    if sync["behind"]:
        text = f"behind {len(sync['behind'])} linked peers"
    elif sync["level"]:
        text = f"in sync with {len(sync['level'])} linked peers"
    else:
        text = "unknown: no peer is linked"
    if sync["away"] and sync["level"] + sync["behind"]:
        text += f"; unknown what {len(sync['away'])} peers wrote that are away"
    return text


def _lines_of_peer(peer: Mapping[str, Any]) -> list[str]:
    """A peer, and what it is known to hold that is lacking here."""
    return [_peer_line(peer), *map(_progress_line, peer["lacking"])]


def _progress_line(one: Mapping[str, Any]) -> str:
    seconds = one["remainingSeconds"]
    left = "nothing comes" if seconds is None else f"{seconds:.0f} s left"
    pace = f"{one['eventsPerSecond']:.0f} a second, {left}"
    return (
        f"           {one['stream']}  known up to {one['known']}, held up to {one['held']},"
        f" {one['missing']} missing, {pace}"
    )


def _peer_line(peer: Mapping[str, Any]) -> str:
    if not peer["connected"]:
        state = "revoked" if peer["revoked"] else "cut" if peer["cut"] else "away"
        why = f": {peer['lastError']}" if peer["lastError"] else ""
        return f"peer     {peer['node']}  {state}{_told_text(peer)}{why}"
    traffic = f"in {peer['eventsIn']} events, {peer['bytesIn']} bytes; out {peer['eventsOut']}, {peer['bytesOut']}"
    return f"peer     {peer['node']}  connected {peer['address']}  {traffic}{_measured_text(peer)}"


def _told_text(peer: Mapping[str, Any]) -> str:
    """How old is what is known of a peer that is away."""
    seconds = peer["toldSecondsAgo"]
    return ", told nothing yet" if seconds is None else f", last told {seconds:.0f} s ago"


def _measured_text(peer: Mapping[str, Any]) -> str:
    """What was measured on a link; a wall clock that is off is worth a word."""
    parts = [f"round trip {peer['roundTripMs']:.1f} ms"] if peer["roundTripMs"] is not None else []
    skew = peer["clockSkewSeconds"] or 0.0
    if abs(skew) >= SHOWN_SKEW_S:
        parts.append(f"its clock is {abs(skew):,.0f} s {'ahead' if skew > 0 else 'behind'}")
    if peer["queued"]:
        parts.append(f"{peer['queued']} waiting to be sent")
    return "".join(f"; {part}" for part in parts)
