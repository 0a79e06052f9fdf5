"""A card that was copied and written twice: proofs spread, liars with forged ones are found, and laws hold."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

import lamport.adopting
from lamport.chain import CheckedRange, Keys, SealedRange, chained
from lamport.codec import encode_draft, encode_event, verify_event
from lamport.event import Draft
from lamport.forks import (
    CheckedProof,
    ForkProof,
    branch_of,
    readdressed,
)
from lamport.ids import StreamId
from simulations.device import Device
from simulations.errors import LawBroken
from simulations.laws import Auditor
from simulations.loop import run_simulated
from simulations.planted import Bug, planted
from simulations.stories import PART
from simulations.world import World


def unverified(proof: ForkProof, _keys: Keys) -> CheckedProof:
    """What its bytes say, without a look at seals and hashes."""
    one, other = (
        readdressed(
            CheckedRange(
                half,
                tuple(
                    verify_event(half.stream, n, data)
                    for n, data in enumerate(half.events, half.first)
                ),
            ),
            branch_of(proof.hash, half),
        )
        for half in (proof.one, proof.other)
    )
    return CheckedProof(proof, (one, other))


NOT_VERIFIED = Bug(
    "a fork proof is not verified", lamport.adopting, "check_proof", lambda _: unverified
)


def resealed(before: bytes, half: SealedRange, data: bytes) -> SealedRange:
    """The range with another first event, and the hash that is due; only the signature tells."""
    events = (data, *half.events[1:])
    seal = replace(half.seal, hash=chained(before, events), clock=99)
    return replace(half, events=events, seal=seal)


def forging(device: Device) -> None:
    """Let a device hand on proofs in which it has altered what the author wrote."""
    forks: Any = device.node.log.forks
    right = forks.proof_of

    async def proof_of(branch: StreamId) -> ForkProof | None:
        proof = await right(branch)
        lamport = verify_event(proof.stream, proof.one.first, proof.one.events[0]).lamport
        one, other = (
            resealed(proof.hash, half, encode_event(lamport, 0, encode_draft(Draft(("part",), n))))
            for n, half in enumerate((proof.one, proof.other))
        )
        return ForkProof(proof.hash, one, other)

    forks.proof_of = proof_of


async def lied_to() -> World:
    """The last device knows one history, and hears of the other from a liar alone; then from others."""
    world = World(3, 4)
    Auditor(world).watch()
    async with asyncio.timeout(600), world.started():
        a, b, liar, last = world.nodes
        await a.publish(PART, "first")
        await world.run(seconds=1)
        copy = await world.clone(a)
        with world.partition((a, b), (liar, last, copy)):
            for number in range(2):
                await a.publish(PART, f"by the original {number}")
                await copy.publish(PART, f"by the copy {number}")
            await world.run(seconds=5)
            world.separate((last,), (a, b, liar, copy))
        await world.run(seconds=15)
        assert all(len(one.node.status().forks) == 1 for one in (a, b, liar, copy))
        assert last.node.status().forks == ()
        forging(liar)
        world.separate((last,), (a, b, copy))
        world.join((last,), (a, b, liar, copy))
        await world.run(seconds=10)
        world.check()
        assert last.node.status().forks == ()
        [why] = [one.last_error for one in last.node.peers.status() if one.node == liar.node.id]
        # Why the link ended, or why a further attempt did.
        assert "not its author's" in why or "banned" in why
        world.join((last,), (a, b, copy))
        await world.run(seconds=15)
        assert last.node.status().forks == b.node.status().forks != ()
        assert last.node.offsets == b.node.offsets
        world.check()
    return world


def test_a_late_comer_bans_who_sends_a_forged_proof_and_learns_the_true_one_from_others() -> None:
    run_simulated(lied_to(), random.Random(1))


def test_a_proof_that_is_not_verified_is_found_by_the_laws() -> None:
    with planted(NOT_VERIFIED), pytest.raises(LawBroken, match="law 4"):
        run_simulated(lied_to(), random.Random(1))


async def told_to_a_full_disk() -> None:
    """The last device knows what both histories begin with, and hears of them when its disk is full."""
    world = World(3, 3)
    async with world.started():
        a, b, last = world.nodes
        await a.publish(PART, "first")
        await world.run(seconds=1)
        copy = await world.clone(a)
        with world.partition((a, b), (last,), (copy,)):
            for number in range(2):
                await a.publish(PART, f"by the original {number}")
                await copy.publish(PART, f"by the copy {number}")
            await world.run(seconds=5)
            world.separate((last,), (a, b, copy))
        await world.run(seconds=15)
        last.fill_disk()
        world.join((last,), (b,))
        await world.run(seconds=10)
        assert last.node.status().forks == ()
        last.fill_disk(full=False)
        await world.run(seconds=5)
        assert last.node.status().forks == b.node.status().forks != ()
        assert world.equal


def test_a_proof_that_comes_to_a_full_disk_is_taken_in_when_there_is_room() -> None:
    run_simulated(told_to_a_full_disk(), random.Random(1))
