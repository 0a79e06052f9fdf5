"""Finding nodes on the local network by multicast DNS.

Each node announces a service `_shoal._tcp.local.` and browses for those of others. An announcement
is a hint and never a proof: it says that a node *may* be found somewhere, and everybody on the
network can say so. Only the handshake proves who answers.

An announcement has the instance name (hex of the first half of the node id), host and port (SRV),
addresses (A, AAAA) and a text (TXT): `txtvers=1`, `sid` the swarm's hint, `nid` the node id. One
that comes in is resolved, its text is read, other swarms and this node itself are left out, and
what is new is reported as a `Candidate`. Numbers are bounded all the way, for anybody can make up
announcements.

Devices are often up before their network, and change it: the addresses are looked at now and then,
and when they differ everything starts anew. Where multicast cannot be had this is a warning, and
static peers go on working.

Sources: RFC 6762 (multicast DNS), RFC 6763 (service discovery).
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf import ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from lamport.errors import InvalidInput
from lamport.ids import NodeId
from transport.errors import PeerFault
from transport.identity import swarm_hint
from transport.network import Address, Candidate, Found

SERVICE = "_shoal._tcp.local."
"""The service type that nodes announce and browse for."""

MAX_CANDIDATES = 256
"""Announcements remembered; more neighbours than this are met through those that are known."""

MAX_CANDIDATES_PER_HOST = 8
"""Of them, at one host, so that one prankster does not fill the table; a test bench may run a few."""

MAX_ADDRESSES = 8
"""Addresses taken from one announcement: a device has a few interfaces."""

MAX_CHANGES = 256
"""News that wait to be looked at; what comes on top is dropped, and announced again by its node."""

RESOLVERS = 4
"""Announcements resolved at once; one whose node does not answer holds a resolver up."""

RESOLVE_TIMEOUT_MS = 3000
"""How long a node may take to tell the rest of its announcement; the answer is usually there."""

RESCAN_S = 10.0
"""How often this device's addresses are looked at."""

INTERFACES = Path("/sys/class/net")
"""Where Linux tells how often each interface lost its link or got it back."""

_GROUP = "224.0.0.251"  # RFC 6762, 3
_TEXT_VERSION = b"1"
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to

_Change = tuple[str, ServiceStateChange]

logger = logging.getLogger("shoal.transport")


@contextlib.asynccontextmanager
async def announcing(
    node: NodeId, swarm: bytes, address: Address, found: Found
) -> AsyncIterator[None]:
    """Announce the node while the context is open, and report the other nodes of its swarm.

    `address` is the one listened at: an IP address, where `0.0.0.0` and `::` stand for all of this
    device's. On the loopback only the loopback is used. Entering does not wait for the network;
    leaving says goodbye (about 0.3 s). Raises nothing: discovery that fails is logged.
    """
    on_air = asyncio.create_task(_stay_on_air(node, swarm, address, found))
    try:
        yield
    finally:
        on_air.cancel()
        await asyncio.wait([on_air])


async def _stay_on_air(node: NodeId, swarm: bytes, address: Address, found: Found) -> None:
    try:
        while True:
            hosts = own_hosts(address.host)
            await _while_hosts_last(node, swarm, address, hosts, found)
    except Exception:
        # Discovery is a hint: a node without it still works, one that it took along does not.
        logger.exception("mDNS discovery stopped at %s; static peers go on working", address)


async def _while_hosts_last(
    node: NodeId, swarm: bytes, address: Address, hosts: tuple[str, ...], found: Found
) -> None:
    try:
        async with _on_air(node, swarm, address.port, hosts, found):
            await _until_hosts_change(address.host, hosts)
    except* (OSError, RuntimeError, ZeroconfError) as group:
        logger.warning(
            "cannot announce %s by mDNS at %s (%s); static peers go on working,"
            " and it is tried again when this device's addresses change",
            address,
            ", ".join(hosts) or "no address",
            "; ".join(map(str, group.exceptions)),
        )
        await _until_hosts_change(address.host, hosts)


async def _until_hosts_change(listening: str, hosts: tuple[str, ...]) -> None:
    """Wait until this device's addresses differ, or a plug was pulled and put in again: then all is told anew."""
    plugged = _link_changes()
    while own_hosts(listening) == hosts and _link_changes() == plugged:  # noqa: ASYNC110 - the system sends no word
        await asyncio.sleep(RESCAN_S)


def _link_changes() -> tuple[tuple[str, str], ...]:
    """How often each interface lost its link or got it back; nothing where the system does not count that."""
    counters = sorted(INTERFACES.glob("*/carrier_changes"))
    found = []
    for counter in counters:
        with contextlib.suppress(OSError):  # it is gone meanwhile
            found.append((counter.parent.name, counter.read_text("ascii")))
    return tuple(found)


@contextlib.asynccontextmanager
async def _on_air(
    node: NodeId, swarm: bytes, port: int, hosts: tuple[str, ...], found: Found
) -> AsyncIterator[None]:
    if not hosts:
        raise OSError("this device has no such address now")
    neighbourhood = Neighbourhood(node, swarm, found, near=_near(hosts))
    changes: asyncio.Queue[_Change] = asyncio.Queue(MAX_CHANGES)
    async with (
        AsyncZeroconf(interfaces=_interfaces(hosts)) as radio,
        asyncio.TaskGroup() as group,
        AsyncServiceBrowser(radio.zeroconf, SERVICE, handlers=[_into(changes)]),
    ):
        jobs = [_resolve(radio.zeroconf, changes, neighbourhood) for _ in range(RESOLVERS)]
        jobs.append(_register(radio, announcement(node, swarm, port, hosts)))
        tasks = [group.create_task(job) for job in jobs]
        yield
        for task in tasks:
            task.cancel()


async def _register(radio: AsyncZeroconf, info: ServiceInfo) -> None:
    # Not probed for (RFC 6762, 8.1): the name is taken from the node's key, so whoever else has it
    # is this node before its restart, or somebody who wants to keep it off the air.
    await (await radio.async_register_service(info, cooperating_responders=True))


def _into(changes: asyncio.Queue[_Change]) -> Callable[..., None]:
    def hear(*, name: str, state_change: ServiceStateChange, **_: object) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            changes.put_nowait((name, state_change))

    return hear


async def _resolve(
    zeroconf: Zeroconf, changes: asyncio.Queue[_Change], neighbourhood: "Neighbourhood"
) -> None:
    while True:
        name, change = await changes.get()
        neighbourhood.hear(name, change)
        if change is not ServiceStateChange.Removed:
            info = await _resolved(zeroconf, name)
            if info is not None:
                neighbourhood.note(info)


async def _resolved(zeroconf: Zeroconf, name: str) -> ServiceInfo | None:
    try:
        info = AsyncServiceInfo(SERVICE, name)
        complete = info.load_from_cache(zeroconf) or await info.async_request(
            zeroconf, RESOLVE_TIMEOUT_MS
        )
    except (ZeroconfError, ValueError) as error:
        logger.debug("ignored the announcement %r: %r", name, error)
        return None
    return info if complete else None


class Neighbourhood:
    """What was heard of other nodes, bounded: takes announcements, reports what is new.

    `near` is whether this node is on the loopback only; others' addresses count only where they are
    in the same sphere, for a neighbour's loopback leads back to this device.
    """

    def __init__(self, node: NodeId, swarm: bytes, found: Found, *, near: bool) -> None:
        self._node = node
        self._hint = swarm_hint(swarm).encode()
        self._found = found
        self._near = near
        self._known: dict[str, Candidate] = {}

    def note(self, info: ServiceInfo) -> None:
        """Report the announcement unless it is foreign, our own, malformed, known or too many."""
        if info.properties.get(b"sid") != self._hint:
            return
        try:
            candidate = candidate_of(info, near=self._near)
        except PeerFault as fault:
            logger.debug("ignored the announcement %r: %s", info.name, fault)
            return
        if candidate.node == self._node or self._known.get(info.name) == candidate:
            return
        if self._is_crowded(info.name, candidate):
            logger.debug("ignored the announcement %r: too many", info.name)
            return
        self._known[info.name] = candidate
        self._found(candidate)

    def hear(self, name: str, change: ServiceStateChange) -> None:
        """Take note of a change: an announcement that is gone, or begins anew, will be news again."""
        if change is not ServiceStateChange.Updated:
            self._known.pop(name, None)

    def _is_crowded(self, name: str, candidate: Candidate) -> bool:
        others = [known for other, known in self._known.items() if other != name]
        if self._near:  # one host by nature
            return len(others) >= MAX_CANDIDATES
        hosts = Counter(host for known in others for host in _hosts_of(known))
        fullest = max(hosts[host] for host in _hosts_of(candidate))
        return len(others) >= MAX_CANDIDATES or fullest >= MAX_CANDIDATES_PER_HOST


def announcement(node: NodeId, swarm: bytes, port: int, hosts: tuple[str, ...]) -> ServiceInfo:
    """Make the announcement of a node that listens at the port of these hosts (IP addresses)."""
    instance = node[: len(node) // 2].hex()  # a DNS label has 63 bytes, the whole would need 64
    return ServiceInfo(
        SERVICE,
        f"{instance}.{SERVICE}",
        port=port,
        properties={"txtvers": _TEXT_VERSION, "sid": swarm_hint(swarm), "nid": str(node)},
        server=f"shoal-{instance}.local.",
        parsed_addresses=list(hosts),
    )


def candidate_of(info: ServiceInfo, *, near: bool) -> Candidate:
    """Read an announcement; raise `PeerFault` where it is malformed or leads nowhere."""
    if info.properties.get(b"txtvers") != _TEXT_VERSION:
        raise PeerFault("its text has another version")
    try:
        node = NodeId.parse((info.properties.get(b"nid") or b"").decode())
    except (InvalidInput, UnicodeDecodeError) as error:
        raise PeerFault("it names no node") from error
    hosts = [host for host in info.parsed_scoped_addresses() if _is_reachable(host, near=near)]
    if not info.port or not hosts:
        raise PeerFault("it leads nowhere")
    hosts = sorted(hosts, key=_ipv4_first)[:MAX_ADDRESSES]
    return Candidate(node, tuple(Address(host, info.port) for host in hosts))


def own_hosts(listening: str) -> tuple[str, ...]:
    """Give the IP addresses to announce when listening at one, or at `0.0.0.0` or `::`, sorted.

    The loopback is announced only by who listens there alone, or has nothing else.
    """
    if ipaddress.ip_address(listening).is_loopback:
        return (listening,)
    present = _present_hosts()
    if listening not in _EVERYWHERE:
        return (listening,) if listening in present else ()
    if listening == "0.0.0.0":  # noqa: S104 - compared with, not bound to
        present = {host for host in present if ":" not in host}
    far = {host for host in present if not ipaddress.ip_address(host).is_loopback}
    return tuple(sorted(far or present))


def _present_hosts() -> set[str]:
    texts = (ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    return {text if isinstance(text, str) else text[0] for text in texts}


def _near(hosts: tuple[str, ...]) -> bool:
    return all(ipaddress.ip_address(host).is_loopback for host in hosts)


def _interfaces(hosts: tuple[str, ...]) -> list[str]:
    """Give the addresses of the interfaces that carry multicast; raise `OSError` where none does.

    Asked here and not left to zeroconf, which gives up on all where one interface fails.
    """
    # Multicast on the loopback is IPv4 only, whatever is announced there.
    wanted = ("127.0.0.1",) if _near(hosts) else hosts
    refusals = {host: _multicast_refusal(host) for host in wanted}
    carrying = [host for host, refusal in refusals.items() if refusal is None]
    if not carrying:
        raise OSError("; ".join(f"{host}: {refusal}" for host, refusal in refusals.items()))
    return carrying


def _multicast_refusal(host: str) -> OSError | None:
    if ":" in host:
        return None  # zeroconf joins by interface number, and leaves out what fails
    group = socket.inet_aton(_GROUP) + socket.inet_aton(host)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except OSError as error:
        return error
    return None


def _ipv4_first(host: str) -> tuple[bool, str]:
    return ":" in host, host


def _is_reachable(host: str, *, near: bool) -> bool:
    address = ipaddress.ip_address(host)
    if address.is_unspecified or address.is_multicast:
        return False
    return address.is_loopback == near


def _hosts_of(candidate: Candidate) -> set[str]:
    return {address.host for address in candidate.addresses}
