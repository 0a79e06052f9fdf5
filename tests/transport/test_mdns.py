"""Discovery by mDNS: hints of one's own swarm, bounded, and never a reason to fail."""

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo, ServiceStateChange

from tests.transport.diary import keep_diary
from transport import mdns
from transport.errors import PeerFault
from transport.identity import enrol, make_swarm, swarm_hint
from transport.mdns import (
    MAX_ADDRESSES,
    MAX_CANDIDATES,
    MAX_CANDIDATES_PER_HOST,
    SERVICE,
    Neighbourhood,
    announcement,
    announcing,
    candidate_of,
    own_hosts,
)
from transport.network import Address, Candidate

RANDOMNESS = random.SystemRandom()  # several runs on one machine hear each other
SWARM_KEY, _ = make_swarm(RANDOMNESS)
ALICE = enrol(SWARM_KEY, RANDOMNESS)
BOB = enrol(SWARM_KEY, RANDOMNESS)
STRANGER = enrol(make_swarm(RANDOMNESS)[0], RANDOMNESS)
LIMIT_S = 10.0
PATIENCE_S = 1.0


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene to its end; one that hangs fails."""
    asyncio.run(asyncio.wait_for(scene, LIMIT_S))


def announced(number: int = 0, hosts: tuple[str, ...] = ("10.0.0.7",), **text: Any) -> ServiceInfo:
    """Make an announcement of BOB, with other text where told; None takes a field away."""
    texts = {"txtvers": b"1", "sid": swarm_hint(BOB.swarm), "nid": str(BOB.node)} | text
    return ServiceInfo(
        SERVICE,
        f"node-{number}.{SERVICE}",
        port=4000 + number,
        properties={name: value for name, value in texts.items() if value is not None},
        parsed_addresses=list(hosts),
    )


def neighbourhood(found: list[Candidate], *, near: bool = False) -> Neighbourhood:
    return Neighbourhood(ALICE.node, ALICE.swarm, found.append, near=near)


def ignore(_: Candidate) -> None:
    """Find nothing of interest."""


def carries_multicast() -> bool:
    """Say whether a datagram to the mDNS group comes back on the loopback."""
    group, here = socket.inet_aton("224.0.0.251"), socket.inet_aton("127.0.0.1")
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with socket.socket(*kind) as receiver, socket.socket(*kind) as sender:
        receiver.settimeout(PATIENCE_S)
        receiver.bind(("", 0))
        try:
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + here)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
            sender.sendto(b"anybody?", ("224.0.0.251", receiver.getsockname()[1]))
            return receiver.recv(100) == b"anybody?"
        except OSError:
            return False


on_the_air = pytest.mark.skipif(
    not carries_multicast(), reason="this machine carries no multicast on its loopback"
)


@on_the_air
def test_two_nodes_on_the_loopback_find_each_other() -> None:
    async def scene() -> None:
        seen_by_alice: asyncio.Queue[Candidate] = asyncio.Queue()
        seen_by_bob: asyncio.Queue[Candidate] = asyncio.Queue()
        alice, bob = Address("127.0.0.1", 4001), Address("127.0.0.1", 4002)
        async with (
            announcing(STRANGER.node, STRANGER.swarm, alice, ignore),
            announcing(ALICE.node, ALICE.swarm, alice, seen_by_alice.put_nowait),
            announcing(BOB.node, BOB.swarm, bob, seen_by_bob.put_nowait),
        ):
            assert await seen_by_alice.get() == Candidate(BOB.node, (bob,))
            assert await seen_by_bob.get() == Candidate(ALICE.node, (alice,))
        assert seen_by_alice.empty()
        assert seen_by_bob.empty()

    run(scene())


@on_the_air
def test_a_node_that_comes_back_is_news_again() -> None:
    async def scene() -> None:
        found: asyncio.Queue[Candidate] = asyncio.Queue()
        address = Address("127.0.0.1", 4003)
        async with announcing(ALICE.node, ALICE.swarm, address, found.put_nowait):
            for _ in range(2):
                async with announcing(BOB.node, BOB.swarm, address, ignore):
                    assert (await found.get()).node == BOB.node

    run(scene())


def test_leaving_at_once_leaves_nothing_behind() -> None:
    async def scene() -> None:
        before = asyncio.all_tasks()
        async with announcing(ALICE.node, ALICE.swarm, Address("127.0.0.1", 4001), ignore):
            pass
        assert asyncio.all_tasks() == before

    run(scene())


def test_where_it_cannot_be_announced_there_is_a_warning_and_nothing_else() -> None:
    async def scene() -> None:
        with keep_diary() as diary:
            async with announcing(ALICE.node, ALICE.swarm, Address("203.0.113.9", 1), ignore):
                warning = await diary.next(logging.WARNING)
        assert "cannot announce 203.0.113.9:1 by mDNS" in warning
        assert "no such address" in warning
        assert "static peers go on working" in warning

    run(scene())


def test_an_announcement_of_ones_own_swarm_is_reported_once() -> None:
    found: list[Candidate] = []
    near = neighbourhood(found)
    near.note(announced())
    near.note(announced())
    assert found == [Candidate(BOB.node, (Address("10.0.0.7", 4000),))]


def test_an_announcement_that_changes_is_reported_again() -> None:
    found: list[Candidate] = []
    near = neighbourhood(found)
    near.note(announced())
    near.note(announced(hosts=("10.0.0.8",)))
    assert [candidate.addresses[0].host for candidate in found] == ["10.0.0.7", "10.0.0.8"]


@pytest.mark.parametrize("change", [ServiceStateChange.Added, ServiceStateChange.Removed])
def test_an_announcement_that_was_gone_or_begins_anew_is_news(change: ServiceStateChange) -> None:
    found: list[Candidate] = []
    near = neighbourhood(found)
    near.note(announced())
    near.hear(announced().name, ServiceStateChange.Updated)
    near.note(announced())
    assert len(found) == 1
    near.hear(announced().name, change)
    near.note(announced())
    assert len(found) == 2


def test_the_order_of_addresses_is_no_news() -> None:
    found: list[Candidate] = []
    near = neighbourhood(found)
    near.note(announced(hosts=("fd00::1", "fd00::2", "10.0.0.7", "10.0.0.8")))
    near.note(announced(hosts=("fd00::2", "fd00::1", "10.0.0.8", "10.0.0.7")))
    assert len(found) == 1


def test_other_swarms_and_the_node_itself_are_left_out() -> None:
    found: list[Candidate] = []
    near = neighbourhood(found)
    near.note(announced(sid=swarm_hint(STRANGER.swarm)))
    near.note(announced(sid=None))
    near.note(announced(nid=str(ALICE.node)))
    assert found == []


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (announced(txtvers=b"2"), "another version"),
        (announced(txtvers=None), "another version"),
        (announced(nid=None), "names no node"),
        (announced(nid="short"), "names no node"),
        (announced(nid=b"\xff" * 43), "names no node"),
        (announced(hosts=()), "leads nowhere"),
        (announced(hosts=("127.0.0.1", "::1", "224.0.0.251")), "leads nowhere"),
        (announced(number=-4000), "leads nowhere"),
    ],
)
def test_a_malformed_announcement_is_ignored(info: ServiceInfo, why: str) -> None:
    with pytest.raises(PeerFault, match=why):
        candidate_of(info, near=False)
    found: list[Candidate] = []
    neighbourhood(found).note(info)
    assert found == []


@given(text=st.binary(max_size=300))
def test_no_text_whatever_harms(text: bytes) -> None:
    found: list[Candidate] = []
    info = ServiceInfo(SERVICE, f"node.{SERVICE}", port=1, properties=text)
    neighbourhood(found).note(info)
    assert found == []


def test_only_the_loopback_counts_on_the_loopback() -> None:
    both = announced(hosts=("127.0.0.1", "10.0.0.7"))
    assert candidate_of(both, near=True).addresses == (Address("127.0.0.1", 4000),)
    assert candidate_of(both, near=False).addresses == (Address("10.0.0.7", 4000),)


def test_of_many_addresses_a_few_are_taken_ipv4_first() -> None:
    many = announced(hosts=("fd00::1", *(f"10.0.0.{number}" for number in range(20))))
    taken = candidate_of(many, near=False).addresses
    assert len(taken) == MAX_ADDRESSES
    assert not any(":" in address.host for address in taken)


def test_one_host_does_not_fill_the_table() -> None:
    found: list[Candidate] = []
    near = neighbourhood(found)
    for number in range(MAX_CANDIDATES_PER_HOST + 5):
        near.note(announced(number))
    assert len(found) == MAX_CANDIDATES_PER_HOST
    near.note(announced(99, hosts=("10.0.0.8",)))
    assert len(found) == MAX_CANDIDATES_PER_HOST + 1


@pytest.mark.parametrize("near", [True, False])
def test_the_table_is_bounded_and_has_room_again_when_one_leaves(near: bool) -> None:  # noqa: FBT001 - a test's parameter
    found: list[Candidate] = []
    heard = neighbourhood(found, near=near)
    hosts = [
        (f"{'127' if near else '10'}.0.{number // 200}.{number % 200 + 1}",)
        for number in range(300)
    ]
    for number in range(MAX_CANDIDATES + 5):
        heard.note(announced(number, hosts=hosts[number]))
    assert len(found) == MAX_CANDIDATES
    heard.hear(announced(0).name, ServiceStateChange.Removed)
    heard.note(announced(299, hosts=hosts[299]))
    assert len(found) == MAX_CANDIDATES + 1


def test_an_announcement_says_no_more_than_it_must() -> None:
    info = announcement(BOB.node, BOB.swarm, 4444, ("10.0.0.7", "fd00::7"))
    assert info.properties == {
        b"txtvers": b"1",
        b"sid": swarm_hint(BOB.swarm).encode(),
        b"nid": str(BOB.node).encode(),
    }
    assert info.name == f"{BOB.node[:16].hex()}.{SERVICE}"
    addresses = (Address("10.0.0.7", 4444), Address("fd00::7", 4444))
    assert candidate_of(info, near=False) == Candidate(BOB.node, addresses)


def test_listening_on_the_loopback_announces_only_that() -> None:
    assert own_hosts("127.0.0.1") == ("127.0.0.1",)
    assert own_hosts("::1") == ("::1",)


def test_listening_everywhere_announces_the_loopback_only_where_there_is_nothing_else() -> None:
    for everywhere in ("0.0.0.0", "::"):  # noqa: S104 - asked about, not bound to
        loopback = [ipaddress.ip_address(host).is_loopback for host in own_hosts(everywhere)]
        assert all(loopback) or not any(loopback)
    assert not any(":" in host for host in own_hosts("0.0.0.0"))  # noqa: S104 - asked about


def test_an_address_that_this_device_does_not_have_is_not_announced() -> None:
    assert own_hosts("203.0.113.9") == ()


def test_a_plug_that_was_pulled_and_put_in_again_is_noticed_although_the_addresses_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        counter = tmp_path / "eth0" / "carrier_changes"
        counter.parent.mkdir()
        counter.write_text("2\n")
        monkeypatch.setattr(mdns, "INTERFACES", tmp_path)
        monkeypatch.setattr(mdns, "RESCAN_S", 0)
        changed = mdns._until_hosts_change("127.0.0.1", ("127.0.0.1",))  # noqa: SLF001 - it waits for the system
        waiting = asyncio.create_task(changed)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        counter.write_text("4\n")
        async with asyncio.timeout(10):
            await waiting

    asyncio.run(story())
