"""Enrolment by two texts: the device that asked becomes a member, and nothing else comes of them."""

import base64
import dataclasses
import random
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import InvalidInput
from lamport.ids import NodeId
from transport.enrolment import (
    MAX_ADMISSION,
    MAX_NAME_BYTES,
    MAX_REQUEST,
    Admission,
    Request,
    admit,
)
from transport.errors import IdentityError, InvalidText
from transport.identity import (
    Identity,
    NodeKey,
    enrol,
    make_swarm,
    rotate,
    sign_as_authority,
    verify_certificate,
    verify_signature,
)
from transport.texts import packed, unpacked

ALPHABET = string.ascii_letters + string.digits + "-_"
RANDOMNESS = random.Random(22)
SWARM_KEY, ADMIN_KEY = make_swarm(RANDOMNESS)
OTHER_SWARM_KEY, _ = make_swarm(RANDOMNESS)
KEY, OTHER_KEY = (NodeKey(RANDOMNESS.randbytes(32)) for _ in range(2))
ADMISSION = admit(SWARM_KEY, Request(KEY.node), RANDOMNESS)
SEEDS = st.binary(min_size=32, max_size=32)
NAMES = st.text(
    st.characters(codec="utf-8").filter(str.isprintable), max_size=MAX_NAME_BYTES
).filter(lambda name: len(name.encode()) <= MAX_NAME_BYTES)


@given(seed=SEEDS, name=NAMES)
def test_a_request_comes_back_as_it_was(seed: bytes, name: str) -> None:
    request = Request(NodeKey(seed).node, name)
    assert Request.parse(str(request)) == request
    assert len(str(request)) <= MAX_REQUEST
    assert set(str(request)) <= set(ALPHABET)


@given(seed=SEEDS, drawn=st.integers(), epochs=st.integers(0, 3))
def test_an_admission_comes_back_and_makes_the_identity_that_enrolling_at_once_makes(
    seed: bytes, drawn: int, epochs: int
) -> None:
    randomness = random.Random(drawn)
    swarm_key, admin = make_swarm(randomness)
    for _ in range(epochs):
        swarm_key = rotate(swarm_key, randomness)
    key = NodeKey(seed)
    admission = admit(swarm_key, Request(key.node), randomness)
    text = str(admission)
    assert Admission.parse(text) == admission
    assert len(text) <= MAX_ADMISSION
    assert set(text) <= set(ALPHABET)
    made, direct = Admission.parse(text).identity(key), enrol(swarm_key, randomness, seed)
    assert made == dataclasses.replace(direct, certificate=made.certificate)
    assert verify_certificate(made.certificate, direct.authority) == direct.node
    assert made.admin == admin.public


@pytest.mark.parametrize(
    ("text", "parse"),
    [(str(Request(KEY.node, "tablet")), Request.parse), (str(ADMISSION), Admission.parse)],
    ids=["request", "admission"],
)
def test_every_altered_character_is_refused(text: str, parse: Callable[[str], object]) -> None:
    others = f"{ALPHABET} .ä"
    for place, character in enumerate(text):
        for by in set(others) - {character}:
            with pytest.raises(InvalidText):
                parse(text[:place] + by + text[place + 1 :])


@pytest.mark.parametrize("parse", [Request.parse, Admission.parse])
@given(
    text=st.text() | st.sampled_from([str(ADMISSION), str(Request(KEY.node))]), cut=st.integers(1)
)
def test_truncated_texts_and_other_texts_are_refused(
    parse: Callable[[str], object], text: str, cut: int
) -> None:
    with pytest.raises(InvalidText):
        parse(text[: -1 - cut % (len(text) + 1)])


def test_one_text_is_not_taken_for_the_other() -> None:
    with pytest.raises(InvalidText, match="no admission but a text that calls itself 'request'"):
        Admission.parse(str(Request(KEY.node)))
    with pytest.raises(InvalidText, match="no request but a text that calls itself 'admission'"):
        Request.parse(str(ADMISSION))


@given(place=st.integers(0, 426), change=st.integers(1, 255))
def test_whoever_alters_an_admission_and_mends_its_check_is_refused_nevertheless(
    place: int, change: int
) -> None:
    data = bytearray(unpacked("admission", 1, str(ADMISSION)))
    assert len(data) == 427
    data[place] ^= change
    with pytest.raises(InvalidText):
        Admission.parse(packed("admission", 1, bytes(data))).identity(KEY)


def test_an_admission_is_for_the_device_that_asked_and_no_other() -> None:
    why = f"for the device {KEY.node.short}…, and this one is {OTHER_KEY.node.short}…"
    with pytest.raises(InvalidText, match=why):
        ADMISSION.identity(OTHER_KEY)


def test_an_admission_is_signed_by_the_authority_that_it_names() -> None:
    claim = ADMISSION.claim
    for forged in (
        sign_as_authority(OTHER_SWARM_KEY, claim.signed_data(KEY.node)),
        ADMIN_KEY.sign(claim.signed_data(KEY.node)),
        sign_as_authority(SWARM_KEY, claim.signed_data(OTHER_KEY.node)),
    ):
        with pytest.raises(InvalidText, match="forged"):
            Admission(claim, forged).identity(KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"serial": bytes(17)},
        {"serial": b"\xff" * 17},
        {"signature": bytes(64)},
        {"sealed": bytes(112)},
    ],
    ids=["no serial number", "another serial number", "no signature", "no mail"],
)
def test_what_an_authority_signed_that_makes_no_member_is_refused(
    changes: dict[str, bytes],
) -> None:
    claim = ADMISSION.claim._replace(**changes)  # type: ignore[arg-type]  # bytes, all of them
    signature = sign_as_authority(SWARM_KEY, claim.signed_data(KEY.node))
    with pytest.raises(InvalidText, match="does not hold"):
        Admission(claim, signature).identity(KEY)


def test_neither_text_holds_a_secret_in_the_clear() -> None:
    member = enrol(SWARM_KEY, RANDOMNESS, KEY.seed)
    sent = unpacked("admission", 1, str(ADMISSION)) + unpacked("request", 1, str(Request(KEY.node)))
    secrets = SWARM_KEY.key, ADMIN_KEY.seed, KEY.seed, member.hello_server, member.hello_client
    for secret in secrets:
        assert secret not in sent
        assert base64.b64encode(secret) not in sent
        assert secret[:8] not in sent


def test_an_admitted_device_keeps_nothing_that_can_sign_a_certificate() -> None:
    made = ADMISSION.identity(KEY)
    for secret in (made.seed, made.hello_server, made.hello_client):
        assert not verify_signature(
            NodeId(ADMISSION.claim.authority), enrolled_by(secret).sign(b"data"), b"data"
        )
        forged = enrol(dataclasses.replace(SWARM_KEY, key=secret), RANDOMNESS)
        with pytest.raises(IdentityError):
            dataclasses.replace(forged, authority=made.authority)


def enrolled_by(seed: bytes) -> Identity:
    return enrol(OTHER_SWARM_KEY, RANDOMNESS, seed)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "\x00", "a" * 41, "ä" * 21, "\ud800"])
def test_a_name_is_short_and_can_be_printed(name: str) -> None:
    with pytest.raises(InvalidInput, match="a device's name"):
        Request(KEY.node, name)


@pytest.mark.parametrize(
    "data", [b"", KEY.node[:31], KEY.node + b"\xff", KEY.node + b"\n", KEY.node + b"a" * 41]
)
def test_a_request_that_shoal_would_not_make_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidText, match="the request was not made by Shoal"):
        Request.parse(packed("request", 1, data))


def test_an_admission_of_another_length_is_refused() -> None:
    data = unpacked("admission", 1, str(ADMISSION))
    for odd in (data[:-1], data + b"\0", b""):
        with pytest.raises(InvalidText, match="another length"):
            Admission.parse(packed("admission", 1, odd))


def test_what_is_no_key_is_not_admitted() -> None:
    with pytest.raises(InvalidText, match="not made by Shoal"):
        admit(SWARM_KEY, Request(NodeId(bytes(32))), RANDOMNESS)


def test_an_epoch_that_no_admission_can_hold_is_refused() -> None:
    with pytest.raises(IdentityError, match="epoch is above 4294967295"):
        admit(dataclasses.replace(SWARM_KEY, epoch=2**32), Request(KEY.node), RANDOMNESS)
