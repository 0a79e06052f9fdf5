"""The shared push tree: places that tell each other where they stand, over links with a latency, in virtual time."""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamport.ids import NodeId
from transport.messages import MAX_COST_US, MAX_RANK, MAX_SEQUENCE, ROOT_BYTES, Root
from transport.rooting import Rooting
from transport.roots import (
    BEAT_S,
    BETTER_BY,
    CLAIMING_S,
    FORGETTING_S,
    LOST_S,
    SAMPLES,
    WAITING_S,
    Branch,
    Place,
)

SETTLED_S = CLAIMING_S + 4 * BEAT_S
"""Until the root is one of those with the most links, and has counted on."""


class Swarm:
    """Places of nodes and the links between them."""

    def __init__(self, seed: int, nodes: int) -> None:
        self.draw = Random(seed)
        self.now = 0.0
        self.places: dict[int, Place] = {}
        self.branches: dict[tuple[int, int], Branch] = {}
        self._latency: dict[frozenset[int], float] = {}
        self._under_way: list[tuple[float, int, tuple[int, int], Branch, Root]] = []
        self._numbers = count()
        for node in range(nodes):
            self.start(node)

    def start(self, node: int) -> None:
        self.places[node] = Place(node_id(node), self.draw)
        self.places[node].shared = True

    def link(self, one: int, other: int, latency_s: float = 0.02) -> None:
        self._latency[frozenset((one, other))] = latency_s
        for here, there in ((one, other), (other, one)):
            branch = self.branches[here, there] = Branch(self.places[here])
            branch.measured(2 * latency_s)
            branch.open()

    def unlink(self, one: int, other: int) -> None:
        for pair in ((one, other), (other, one)):
            self.branches.pop(pair).close()

    def lose(self, node: int) -> None:
        for one, other in [pair for pair in self.branches if pair[0] == node]:
            self.unlink(one, other)
        del self.places[node]

    def run(self, seconds: float) -> Iterator[None]:
        """Let time pass; yields whenever something has happened."""
        self._settle()
        until = self.now + seconds
        while (due := self._next_due()) <= until:
            self.now = max(self.now, due)
            while self._under_way and self._under_way[0][0] <= self.now:
                _, _, pair, target, told = heappop(self._under_way)
                if self.branches.get(pair) is target:
                    target.hear(told)
            self._settle()
            yield
        self.now = until

    def _next_due(self) -> float:
        times = [place.next_due for place in self.places.values()]
        arrivals = [self._under_way[0][0]] if self._under_way else []
        return min([one for one in times if one is not None] + arrivals)

    def _settle(self) -> None:
        for node, place in self.places.items():
            place.settle(self.now)
            self._say(node)

    def pass_time(self, seconds: float) -> None:
        for _ in self.run(seconds):
            pass

    def parents(self) -> dict[int, int]:
        """Who says that it got its way from whom."""
        return {
            here: there
            for (here, there), branch in self.branches.items()
            if (told := self.places[here].told_to(branch)) is not None and told.chosen
        }

    def roots(self) -> set[bytes]:
        tellers = {here: branch for (here, _), branch in self.branches.items()}
        told = [self.places[node].told_to(branch) for node, branch in tellers.items()]
        return {one.root if one is not None else b"" for one in told}

    def tree(self) -> set[frozenset[int]]:
        """The links that carry everything, at either end."""
        return {frozenset(pair) for pair, branch in self.branches.items() if branch.carries}

    def depth(self, node: int) -> int:
        parents = self.parents()
        hops = 0
        while node in parents:
            node, hops = parents[node], hops + 1
        return hops

    def _say(self, node: int) -> None:
        for (here, there), branch in self.branches.items():
            told = branch.to_say() if here == node else None
            if told is not None:
                at = self.now + self._latency[frozenset((here, there))]
                target = self.branches[there, here]
                heappush(self._under_way, (at, next(self._numbers), (there, here), target, told))


def node_id(node: int) -> NodeId:
    return NodeId(bytes([node]) * 32)


def root_of(node: int) -> bytes:
    return bytes([node]) * ROOT_BYTES


def reached(links: set[frozenset[int]], start: int) -> set[int]:
    seen, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        near = {node for link in links if here in link for node in link} - seen
        seen |= near
        waiting += near
    return seen


def drawn(seed: int, nodes: int) -> Swarm:
    swarm = Swarm(seed, nodes)
    for node in range(1, nodes):
        near = swarm.draw.sample(range(node), min(node, swarm.draw.randint(1, 3)))
        for other in near:
            swarm.link(node, other, swarm.draw.uniform(0.001, 0.1))
    return swarm


def circled(parents: dict[int, int]) -> bool:
    for start in parents:
        node, seen = start, {start}
        while node in parents:
            node = parents[node]
            if node in seen:
                return True
            seen.add(node)
    return False


def line(nodes: int, *, settled: bool = True) -> Swarm:
    swarm = Swarm(1, nodes)
    for node in range(nodes - 1):
        swarm.link(node, node + 1)
    if settled:
        swarm.pass_time(SETTLED_S)
    return swarm


def test_until_a_root_is_known_every_link_carries_everything() -> None:
    swarm = line(3, settled=False)
    assert all(branch.carries for branch in swarm.branches.values())
    assert all(branch.to_say() is None for branch in swarm.branches.values())


def test_in_a_small_swarm_nobody_is_told_of_a_root() -> None:
    swarm = line(2, settled=False)
    for place in swarm.places.values():
        place.shared = False
        assert not place.settle(CLAIMING_S)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 14))
def test_all_agree_on_one_root_and_what_is_left_is_a_tree_that_reaches_everybody(
    seed: int, nodes: int
) -> None:
    swarm = drawn(seed, nodes)
    swarm.pass_time(SETTLED_S)
    assert len(swarm.roots()) == 1
    assert len(swarm.tree()) == nodes - 1
    assert reached(swarm.tree(), 0) == set(range(nodes))
    assert all(
        branch.carries == swarm.branches[there, here].carries
        for (here, there), branch in swarm.branches.items()
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 12))
def test_ways_never_run_in_a_circle_while_links_come_and_go(seed: int, nodes: int) -> None:
    swarm = drawn(seed, nodes)
    swarm.pass_time(SETTLED_S)
    [root] = swarm.roots()
    for _ in range(6):
        pairs = sorted({(min(pair), max(pair)) for pair in swarm.branches})
        if pairs and swarm.draw.random() < 0.6:
            swarm.unlink(*swarm.draw.choice(pairs))
        one, other = swarm.draw.sample(range(nodes), 2)
        if (one, other) not in swarm.branches:
            swarm.link(one, other, swarm.draw.uniform(0.001, 0.1))
        for _ in swarm.run(swarm.draw.uniform(0.01, 0.5)):
            if swarm.roots() == {root}:
                assert not circled(swarm.parents())


def test_the_root_is_in_the_midst_of_the_most_links() -> None:
    swarm = Swarm(1, 8)
    for node in (0, 1, 2, 4, 5, 6, 7):
        swarm.link(3, node)
    swarm.link(6, 7)
    swarm.pass_time(SETTLED_S)
    assert swarm.roots() == {root_of(3)}


def test_the_shortest_way_is_taken_and_a_little_shorter_one_is_not_worth_a_change() -> None:
    swarm = Swarm(1, 3)
    for node in range(3):
        swarm.link(node, (node + 1) % 3, 0.02)
    swarm.pass_time(SETTLED_S)
    [root] = swarm.roots()
    one, other = (node for node in range(3) if root_of(node) != root)
    assert one not in swarm.parents().values()
    chief = root[0]
    swarm.unlink(one, chief)
    swarm.link(one, chief, 0.2)
    swarm.pass_time(BEAT_S)
    assert swarm.parents()[one] == other
    swarm.unlink(one, chief)
    swarm.link(one, chief, 0.044)
    swarm.pass_time(BEAT_S)
    assert swarm.parents()[one] == other
    swarm.unlink(one, chief)
    swarm.link(one, chief, 0.02)
    swarm.pass_time(BEAT_S)
    assert swarm.parents()[one] == chief


def test_who_loses_its_way_gets_everything_from_all_until_it_has_another() -> None:
    swarm = line(4)
    [root] = swarm.roots()
    ends = [node for node in (0, 3) if root_of(node) != root]
    end = max(ends, key=swarm.depth)
    parent = swarm.parents()[end]
    swarm.link(end, root[0], 0.5)
    swarm.pass_time(2.0)
    assert not swarm.branches[end, root[0]].carries
    swarm.unlink(end, parent)
    swarm.pass_time(0.05)
    assert swarm.branches[end, root[0]].carries
    swarm.pass_time(BEAT_S)
    assert swarm.parents()[end] == root[0]


def test_a_root_that_is_gone_is_replaced_and_not_believed_in_again() -> None:
    swarm = drawn(3, 10)
    for node in range(10):  # so that it hangs together without any one of them
        if (node, (node + 1) % 10) not in swarm.branches:
            swarm.link(node, (node + 1) % 10)
    swarm.pass_time(SETTLED_S)
    [root] = swarm.roots()
    swarm.lose(root[0])
    swarm.pass_time(LOST_S + SETTLED_S)
    [new] = swarm.roots()
    assert new != root
    assert len(swarm.tree()) == len(swarm.places) - 1
    swarm.pass_time(FORGETTING_S)
    assert swarm.roots() == {new}


def test_a_root_that_starts_anew_counts_on_from_where_it_was() -> None:
    swarm = line(5)
    [root] = swarm.roots()
    near = [there for here, there in swarm.branches if here == root[0]]
    swarm.lose(root[0])
    swarm.pass_time(1.0)
    swarm.start(root[0])
    for node in near:
        swarm.link(root[0], node)
    swarm.pass_time(1.0)
    assert swarm.roots() == {root}
    assert len(swarm.tree()) == 4
    swarm.pass_time(2 * BEAT_S)
    assert swarm.roots() == {root}
    assert len(swarm.tree()) == 4


def test_who_has_a_few_links_more_than_the_root_becomes_the_root() -> None:
    swarm = line(3)
    [root] = swarm.roots()
    other = next(node for node in (0, 2) if root_of(node) != root)
    for node in range(3, 3 + BETTER_BY + 2):
        swarm.start(node)
        swarm.link(other, node)
    swarm.pass_time(2 * BEAT_S)
    assert swarm.roots() == {root_of(other)}


def test_a_newer_sequence_waits_for_the_parent_and_not_for_ever() -> None:
    place = Place(node_id(1), Random(1))
    place.shared = True
    parent, other = Branch(place), Branch(place)
    for branch in (parent, other):
        branch.open()
        branch.measured(0.02)
    parent.hear(Root(9, root_of(2), 5, 0, chosen=False))
    other.hear(Root(9, root_of(2), 5, 50_000, chosen=False))
    place.settle(0.0)
    assert place.told_to(parent) == Root(9, root_of(2), 5, 15_000, chosen=True)
    other.hear(Root(9, root_of(2), 6, 50_000, chosen=False))
    place.settle(BEAT_S / 2)
    assert place.told_to(parent) == Root(9, root_of(2), 5, 15_000, chosen=True)
    assert place.next_due == BEAT_S / 2 + WAITING_S
    place.settle(BEAT_S / 2 + WAITING_S)
    assert place.told_to(other) == Root(9, root_of(2), 6, 65_000, chosen=True)


def two_ways() -> tuple[Place, Branch, Branch]:
    """A place with a parent that is the root, and another neighbour that is further from it."""
    place = Place(node_id(1), Random(1))
    place.shared = True
    parent, other = Branch(place), Branch(place)
    for branch in (parent, other):
        branch.open()
    parent.hear(Root(9, root_of(2), 5, 0, chosen=False))
    other.hear(Root(9, root_of(2), 5, 100_000, chosen=False))
    place.settle(0.0)
    return place, parent, other


def test_sequences_that_come_quickly_one_after_the_other_are_taken_slowly() -> None:
    place, parent, _ = two_ways()
    for sequence in range(6, 100):
        parent.hear(Root(9, root_of(2), sequence, 0, chosen=False))
        place.settle(0.001 * sequence)
    told = place.told_to(parent)
    assert told is not None
    assert told.sequence == 5
    place.settle(0.006 + WAITING_S)
    told = place.told_to(parent)
    assert told is not None
    assert told.sequence == 99


def test_a_newer_sequence_does_not_wait_for_a_parent_that_is_gone() -> None:
    place, parent, other = two_ways()
    parent.close()
    other.hear(Root(9, root_of(2), 6, 100_000, chosen=False))
    place.settle(0.1)
    told = place.told_to(other)
    assert told is not None
    assert told.chosen


def test_nothing_is_waited_for_when_who_told_a_newer_sequence_is_gone() -> None:
    place, _, other = two_ways()
    other.hear(Root(9, root_of(2), 6, 100_000, chosen=False))
    place.settle(BEAT_S / 2)
    other.close()
    place.settle(BEAT_S / 2 + 0.1)
    assert place.next_due is not None
    assert place.next_due > BEAT_S / 2 + 2 * WAITING_S


@pytest.mark.parametrize(
    ("cost_us", "is_a_way"), [(MAX_COST_US - 1, False), (MAX_COST_US - 100_000, True)]
)
def test_a_way_that_is_told_to_be_as_long_as_can_be_said_is_a_way_or_none(
    cost_us: int,
    is_a_way: bool,  # noqa: FBT001 - a table
) -> None:
    place, parent, other = two_ways()
    parent.close()
    other.hear(Root(9, root_of(2), 6, cost_us, chosen=False))
    place.settle(0.1)
    told = place.told_to(other)
    assert told is not None
    assert told.chosen == is_a_way


def test_a_neighbour_that_is_further_from_the_root_than_we_were_is_not_taken_at_the_same_sequence() -> (
    None
):
    place, parent, other = two_ways()
    carried_before = other.carries
    parent.close()
    place.settle(0.1)
    told = place.told_to(other)
    assert told is not None
    assert told.cost_us is None
    assert (carried_before, other.carries) == (False, True)
    other.hear(Root(9, root_of(2), 6, 100_000, chosen=False))
    place.settle(0.2)
    told = place.told_to(other)
    assert told is not None
    assert told.chosen


def test_a_sequence_at_its_end_is_not_counted_beyond_it() -> None:
    place = Place(node_id(1), Random(1))
    place.shared = True
    branch = Branch(place)
    branch.open()
    branch.hear(Root(MAX_RANK, root_of(1), MAX_SEQUENCE, 0, chosen=True))
    told = [place.told_to(branch) for now in (0.0, BEAT_S) if place.settle(now)]
    assert {one.sequence for one in told if one is not None} == {MAX_SEQUENCE}


def test_a_round_trip_is_measured_until_one_may_be_trusted_and_the_shortest_counts() -> None:
    place = Place(node_id(1), Random(1))
    branch = Branch(place)
    wanted = [branch.wants_measuring]
    place.shared = True
    for round_trip_s in (0.5, 0.04, 0.3)[:SAMPLES]:
        wanted.append(branch.wants_measuring)
        branch.measured(round_trip_s)
    assert wanted == [False, True, True, True]
    assert branch.latency_us == 20_000
    assert not branch.wants_measuring


@pytest.mark.parametrize(("links", "authors"), [(0, 17), (5, 20), (6, 24), (25, 100)])
def test_copies_are_spared_where_they_are_at_most_one_for_every_four_authors(
    links: int, authors: int
) -> None:
    rooting = Rooting(Place(node_id(1), Random(1)), {})
    rooting.consider(authors)
    assert (rooting.spares(links), rooting.spares(authors // 4 + 1)) == (True, False)
