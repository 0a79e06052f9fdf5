"""Revoking and rotating with real nodes: who is cut off, what counts, and who gets the new keys."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fish import Fish
from lamport import Tag
from lamport.errors import CorruptRange, NodeRevoked
from lamport.ids import NodeId
from lamport.notices import Notice, NoticeKind, signed_bytes
from shoal.membership import draft_revocation, known_members
from shoal.node import Node
from tests.shoal.swarm import Device, Home, converged, linked, make_homes, unlinked, until
from transport.epochs import authority_of, make_epoch
from transport.identity import AdminKey, SwarmKey, enrol, make_swarm, rotate

X = "x"
LIST: Fish[tuple[Any, ...]] = Fish(
    "list", Tag(X), (), lambda known, event, _metadata: (*known, event)
)


def signed(node: Node, admin: AdminKey, kind: NoticeKind, body: bytes) -> Notice:
    swarm = node._identity.swarm  # noqa: SLF001 - what the admin's machine reads in the folder
    return Notice(kind, body, admin.sign(signed_bytes(swarm, kind, body)))


async def revoked(by: Node, admin: AdminKey, node: NodeId, *, nothing: bool = False) -> Notice:
    draft = await draft_revocation(by, node, {} if nothing else None)
    notice = signed(by, admin, NoticeKind.REVOCATION, draft.revocation.encode())
    await by.learn(notice)
    return notice


async def rotated(by: Node, admin: AdminKey, key: SwarmKey) -> SwarmKey:
    fresh = rotate(key, random.Random(key.epoch + 7))
    epoch = make_epoch(fresh, [authority_of(key)], known_members(by).nodes, random.Random(8))
    await by.learn(signed(by, admin, NoticeKind.EPOCH, epoch.encode()))
    return fresh


def swarm(folder: Path, names: str) -> tuple[SwarmKey, AdminKey, list[Home]]:
    key, admin = make_swarm(random.Random(names))
    return key, admin, make_homes(folder, names, key)


async def has_epoch(number: int, *devices: Device) -> None:
    for device in devices:
        await until(lambda node=device.node: node.status().epoch == number)  # type: ignore[misc]


async def payloads(device: Device) -> list[Any]:
    return [event.payload async for event in device.node.query(Tag(X))]


def test_a_revoked_node_is_cut_off_and_counts_as_far_as_the_admin_knew(tmp_path: Path) -> None:
    async def story() -> None:
        _, admin, (one, two, three) = swarm(tmp_path, "ABT")
        async with AsyncExitStack() as stack:
            a = await stack.enter_async_context(one.started())
            b = await stack.enter_async_context(two.started([a.node.listening]))
            async with three.started([b.node.listening]) as thief:
                await linked(b.node, a.node, thief.node)
                await thief.publish(X, "honest")
                await converged(a, b, thief)
                assert await a.node.pond.current_state(LIST) == ("honest",)
                a.node.peers.cut(b.node.id)
                b.node.peers.cut(a.node.id)
                await unlinked(a.node, b.node)
                await thief.publish(X, "stolen")
                await converged(b, thief)
                assert await b.node.pond.current_state(LIST) == ("honest", "stolen")
                await revoked(a.node, admin, thief.node.id)
                a.node.peers.heal()
                b.node.peers.heal()
                await until(lambda: thief.node.id in b.node.status().revoked)
                await unlinked(b.node, thief.node)
                for device in (a, b):
                    assert await device.node.pond.current_state(LIST) == ("honest",)
                    assert await payloads(device) == ["honest"]
                    assert list(device.node.status().revoked) == [thief.node.id]
                assert a.node.offsets == b.node.offsets
                assert not b.node.status().missing
        async with two.started() as b, three.started([b.node.listening]) as thief:
            assert await payloads(b) == ["honest"]
            assert await b.node.pond.current_state(LIST) == ("honest",)
            await until(lambda: bool(told(thief)))
            assert "this node was revoked" in told(thief)
            assert not b.node.peers.linked

    asyncio.run(story())


def told(device: Device) -> str:
    return " ".join(
        [one.last_error for one in device.node.peers.status()]
        + list(device.node.peers.unreached().values())
    )


def test_a_node_that_hears_of_its_own_revocation_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        _, admin, (one, two) = swarm(tmp_path, "AT")
        async with one.started() as a, two.started() as b:
            await b.publish(X, 1)
            notice = await revoked(a.node, admin, b.node.id)
            await b.node.learn(notice)
            assert await payloads(b) == []
            with pytest.raises(NodeRevoked, match="revoked"):
                await b.publish(X, 2)
            with pytest.raises(CorruptRange):
                await b.node.learn(Notice(1, notice.body, bytes(64)))

    asyncio.run(story())


def test_a_rotation_reaches_all_and_those_who_were_away_and_no_revoked_node(tmp_path: Path) -> None:
    async def story() -> None:
        key, admin, (one, two, away, lost) = swarm(tmp_path, "ABCT")
        async with AsyncExitStack() as stack:
            a = await stack.enter_async_context(one.started())
            b = await stack.enter_async_context(two.started([a.node.listening]))
            for home in (away, lost):
                async with home.started([a.node.listening]) as device:
                    await linked(a.node, device.node)
                    await device.publish(X, device.node.id.short)
                    await converged(a, b, device)
            await revoked(a.node, admin, lost.identity.node)
            fresh = await rotated(a.node, admin, key)
            await has_epoch(1, a, b)
            late = await stack.enter_async_context(away.started([b.node.listening]))
            await has_epoch(1, late)
            await linked(late.node, b.node)
            await late.publish(X, "late")
            await converged(a, b, late)
            # Somebody new knows the new epoch alone, and verifies what was written in the old one.
            (tmp_path / "D").mkdir(mode=0o700)
            newcomer = Home(tmp_path / "D", enrol(fresh, random.Random(9)))
            d = await stack.enter_async_context(newcomer.started([b.node.listening]))
            await converged(a, b, late, d)
            assert len(await payloads(d)) == 3
            thief = await stack.enter_async_context(lost.started([a.node.listening]))
            await until(lambda: "revoked" in told(thief))
            assert not thief.node.peers.linked
        # Started again, all of them still know.
        async with one.started() as a, away.started([a.node.listening]) as late:
            assert (a.node.status().epoch, late.node.status().epoch) == (1, 1)
            await linked(a.node, late.node)

    asyncio.run(story())


def test_a_node_that_a_stolen_swarm_key_makes_is_let_in_before_the_rotation_only(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        key, admin, (one, two) = swarm(tmp_path, "AB")
        (tmp_path / "E").mkdir(mode=0o700)
        forged = Home(tmp_path / "E", enrol(key, random.Random(11)))
        async with one.started() as a, two.started([a.node.listening]) as b:
            await linked(a.node, b.node)
            await rotated(a.node, admin, key)
            await has_epoch(1, a, b)
            async with forged.started([a.node.listening]) as eve:
                await until(lambda: "enrol it anew" in told(eve))
                assert not eve.node.peers.linked
                assert eve.node.id not in a.node.peers.linked

    asyncio.run(story())


def test_rotating_twice_reaches_a_device_that_missed_both(tmp_path: Path) -> None:
    async def story() -> None:
        key, admin, (one, two) = swarm(tmp_path, "AB")
        async with one.started() as a:
            async with two.started([a.node.listening]) as b:
                await linked(a.node, b.node)
            fresh = await rotated(a.node, admin, key)
            await rotated(a.node, admin, fresh)
            await has_epoch(2, a)
            async with two.started([a.node.listening]) as b:
                await has_epoch(2, b)
                b.node.peers.cut(a.node.id)
                await unlinked(a.node, b.node)
                b.node.peers.heal()
                await linked(a.node, b.node)

    asyncio.run(story())


def test_who_has_newer_keys_dials_who_was_away_and_brings_them(tmp_path: Path) -> None:
    async def story() -> None:
        key, admin, (one, two) = swarm(tmp_path, "AB")
        async with one.started() as a, two.started([a.node.listening]) as b:
            await linked(a.node, b.node)
        async with one.started() as a:
            notice = make_epoch(
                rotate(key, random.Random(5)),
                [authority_of(key)],
                [one.identity.node, two.identity.node],
                random.Random(6),
            )
            await a.node.learn(signed(a.node, admin, NoticeKind.EPOCH, notice.encode()))
            await has_epoch(1, a)
        async with two.started() as b, one.started([b.node.listening]) as a:
            assert (a.node.status().epoch, b.node.status().epoch) == (1, 0)
            await linked(a.node, b.node)
            await has_epoch(1, b)

    asyncio.run(story())
