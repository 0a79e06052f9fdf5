"""What certificates look like: a form and a signature give a certificate's very bytes back."""

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from transport.certificates import (
    assembled,
    authority_form,
    member_form,
    serial_of,
    signature_of,
)
from transport.identity import authority_certificate, authority_public, enrol, make_swarm


@given(seed=st.integers())
def test_a_certificate_is_its_keys_its_serial_number_and_its_signature(seed: int) -> None:
    randomness = random.Random(seed)
    swarm_key, _ = make_swarm(randomness)
    member, public = enrol(swarm_key, randomness), authority_public(swarm_key)
    form = member_form(public, member.node, serial_of(member.certificate))
    assert assembled(form, signature_of(member.certificate)) == member.certificate
    own = authority_certificate(swarm_key)
    assert assembled(authority_form(public), signature_of(own)) == own


def test_certificates_look_as_they_did_when_the_first_devices_were_enrolled() -> None:
    randomness = random.Random(1)
    member = enrol(make_swarm(randomness)[0], randomness)
    assert fingerprint(member.certificate) == "20b33a03f320c780"
    assert fingerprint(member.authority) == "efe2738317ab38be"


def fingerprint(certificate: bytes) -> str:
    return hashlib.sha256(certificate).hexdigest()[:16]
