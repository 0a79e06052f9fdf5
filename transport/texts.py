"""Short texts that carry bytes from one machine to another by hand: in a mail, or as a QR code.

    shoal-KIND-VERSION-BODY        all of it letters, digits, `-` and `_`

The body is base64 (RFC 4648, section 5, without padding) of: length of the data (2), the data, and a
CRC-32 over everything before it, the beginning of the text included. So a reader can say what is
wrong: not a text of ours, another kind, another version, truncated, altered. Any one altered
character, and any run of up to five, is found for certain; that is care, not security: who must not
be able to alter a text is kept from it by what the data says.

White space anywhere does no harm: mails and terminals break lines.
"""

import base64
import re
import struct
import zlib

from transport.errors import InvalidText

MAX_TEXT = 4096
"""Longest text that is looked at, in characters, white space included; ours have up to 600."""

_LENGTH = struct.Struct("!H")
_CHECK = struct.Struct("!I")
_LENGTH_CHARACTERS = 3  # hold the 16 bits of the length
_TEXT = re.compile(r"shoal-([a-z]+)-([0-9]{1,5})-(.*)", re.DOTALL)
_STRAY = re.compile(r"[^A-Za-z0-9_-]")


def packed(kind: str, version: int, data: bytes) -> str:
    """Give the text for up to 65,535 bytes of data."""
    head = f"shoal-{kind}-{version}-"
    body = _LENGTH.pack(len(data)) + data
    return head + _encoded(body + _check(head, body))


def unpacked(kind: str, version: int, text: str) -> bytes:
    """Give the data of a text of this kind and version; raise `InvalidText`, saying what is wrong."""
    if len(text) > MAX_TEXT:
        raise InvalidText(f"this is no {kind}: it is longer than {MAX_TEXT} characters")
    text = "".join(text.split())
    body = _body(kind, version, text)
    data = _decoded(kind, body)
    head = text[: -len(body)]
    if data[-_CHECK.size :] != _check(head, data[: -_CHECK.size]):
        raise InvalidText(f"the {kind} was altered on its way: copy all of it again")
    return data[_LENGTH.size : -_CHECK.size]


def _body(kind: str, version: int, text: str) -> str:
    found = _TEXT.fullmatch(text)
    if found is None:
        shown = f"begins {text[:16]!r}" if text else "is empty"
        raise InvalidText(f"this is no {kind}: it {shown}, not `shoal-{kind}-{version}-`")
    if found[1] != kind:
        raise InvalidText(f"this is no {kind} but a text that calls itself {found[1]!r}")
    if found[2] != str(version):
        raise InvalidText(
            f"this {kind} has version {found[2]}, and this Shoal reads version {version}:"
            " use the same Shoal on both machines, or copy the text again"
        )
    if stray := _STRAY.search(text):
        raise InvalidText(
            f"the {kind} was altered on its way: {stray[0]!r}, its character {stray.start() + 1},"
            " cannot be in it; copy all of it again"
        )
    return found[3]


def _decoded(kind: str, body: str) -> bytes:
    """The bytes of a body that is as long as it says, and written as we write it."""
    if len(body) < _LENGTH_CHARACTERS:
        raise InvalidText(f"the {kind} is truncated: copy all of it")
    (length,) = _LENGTH.unpack(base64.urlsafe_b64decode(f"{body[:_LENGTH_CHARACTERS]}="))
    expected = (8 * (_LENGTH.size + length + _CHECK.size) + 5) // 6
    if len(body) != expected:
        what = "truncated" if len(body) < expected else "followed by something else"
        raise InvalidText(
            f"the {kind} is {what}, or was altered on its way: behind its beginning there are"
            f" {len(body)} characters, not {expected}; copy all of it again"
        )
    data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    if _encoded(data) != body:  # stray bits in the last character
        raise InvalidText(f"the {kind} was altered on its way: copy all of it again")
    return data


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _check(head: str, body: bytes) -> bytes:
    return _CHECK.pack(zlib.crc32(head.encode() + body))
