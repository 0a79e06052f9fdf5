"""Sealed mail: made from a node id alone, and read by that node alone."""

import hashlib
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from lamport.ids import NodeId
from transport.errors import MailError
from transport.identity import NodeKey
from transport.mail import MAIL_OVERHEAD_BYTES, _mail_address, open_mail, seal_mail

RANDOMNESS = random.Random(21)
ALICE, BOB = (NodeKey(RANDOMNESS.randbytes(32)) for _ in range(2))
MAIL = seal_mail(ALICE.node, b"keys", b"context", RANDOMNESS)
LOW_ORDER = [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]


@given(seed=st.binary(min_size=32, max_size=32), data=st.binary(max_size=200), drawn=st.integers())
def test_what_is_sealed_for_a_node_is_opened_with_its_key(
    seed: bytes, data: bytes, drawn: int
) -> None:
    key = NodeKey(seed)
    mail = seal_mail(key.node, data, b"context", random.Random(drawn))
    assert open_mail(key, mail, b"context") == data
    assert len(mail) == len(data) + MAIL_OVERHEAD_BYTES


@given(seed=st.binary(min_size=32, max_size=32))
def test_the_address_that_follows_from_the_id_is_that_of_the_secret(seed: bytes) -> None:
    secret = X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:32])
    assert _mail_address(NodeKey(seed).node) == secret.public_key().public_bytes_raw()


@given(place=st.integers(0, len(MAIL) - 1), change=st.integers(1, 255))
def test_altered_mail_is_not_opened(place: int, change: int) -> None:
    altered = bytearray(MAIL)
    altered[place] ^= change
    with pytest.raises(MailError):
        open_mail(ALICE, bytes(altered), b"context")


@given(length=st.integers(0, len(MAIL) - 1))
def test_truncated_mail_is_not_opened(length: int) -> None:
    with pytest.raises(MailError):
        open_mail(ALICE, MAIL[:length], b"context")


def test_nobody_else_opens_mail() -> None:
    with pytest.raises(MailError, match="for another node"):
        open_mail(BOB, MAIL, b"context")


def test_mail_is_not_passed_off_as_another_kind_of_mail() -> None:
    with pytest.raises(MailError, match="altered"):
        open_mail(ALICE, MAIL, b"another context")


def test_no_two_mails_are_alike() -> None:
    assert seal_mail(ALICE.node, b"keys", b"context", RANDOMNESS)[32:] != MAIL[32:]


@pytest.mark.parametrize("node", LOW_ORDER)
def test_for_what_is_no_key_nothing_is_sealed(node: bytes) -> None:
    with pytest.raises(MailError, match="no key"):
        seal_mail(NodeId(node), b"keys", b"context", RANDOMNESS)


@pytest.mark.parametrize("sender", LOW_ORDER)
def test_mail_with_what_is_no_one_time_key_is_not_opened(sender: bytes) -> None:
    with pytest.raises(MailError):
        open_mail(ALICE, sender + MAIL[32:], b"context")
