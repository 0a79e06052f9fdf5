"""Which addresses are told to whom, and what is made of those that are heard."""

import pytest

from tests.lamport.keys import member
from transport.exchange import MAX_TOLD, heard, own, tellable
from transport.network import Address, Candidate

ADA, BOB = member("ada").node, member("bob").node
FAR, NEAR = Address("10.0.0.7", 50_000), Address("127.0.0.1", 50_000)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - compared with, not bound to
def test_who_listens_everywhere_tells_its_port_and_is_placed_where_it_is_seen(host: str) -> None:
    told = own(ADA, (), Address(host, 4001))
    assert tellable([told], FAR) == (told,)
    assert heard([told], ADA, FAR) == [Candidate(ADA, (Address("10.0.0.7", 4001),))]


def test_an_announced_address_is_told_in_the_place_of_the_one_listened_at() -> None:
    announced = (Address("plant.example", 14_001),)
    told = own(ADA, announced, Address("0.0.0.0", 4001))  # noqa: S104 - compared with, not bound to
    assert heard([told], ADA, FAR) == [Candidate(ADA, announced)]


def test_a_host_is_left_open_only_of_oneself() -> None:
    assert heard([Candidate(BOB, (Address("", 4001),))], ADA, FAR) == []


def test_loopback_addresses_stay_on_the_loopback() -> None:
    local = Candidate(BOB, (Address("127.0.0.1", 4001), Address("localhost", 4001)))
    assert tellable([local], FAR) == ()
    assert heard([local], ADA, FAR) == []
    assert tellable([local], NEAR) == (local,)
    assert heard([local], ADA, NEAR) == [local]


def test_so_many_are_told_at_once() -> None:
    many = [Candidate(BOB, (Address(f"10.0.1.{number}", 1),)) for number in range(100)]
    assert len(tellable(many, FAR)) == MAX_TOLD
