"""The three commands of enrolment by request: `request` and `accept` on the device, `enrol` on the admin's machine.

Standard output gets the text that goes to the other side and nothing else, so that it can be piped (into a file, a
mail, a QR code); what people should know and compare goes to standard error.
"""

import sys
from argparse import Namespace
from pathlib import Path
from random import SystemRandom

from lamport.errors import InvalidInput
from shoal.enrolment import accept_admission, request_enrolment
from transport.enrolment import Request, admit
from transport.identity import swarm_hint
from transport.keyfiles import read_swarm_key
from transport.texts import MAX_TEXT


def request(arguments: Namespace) -> int:
    """Ask for this device to be enrolled, and print the request."""
    asked = request_enrolment(Path(arguments.data), arguments.name)
    _tell(
        f"node {asked.node} asks to be enrolled: take this to `shoal enrol` on the admin's machine"
    )
    print(asked)
    return 0


def enrol(arguments: Namespace) -> int:
    """Answer a request, and print the admission."""
    swarm_key = read_swarm_key(Path(arguments.swarm_key))
    asked = Request.parse(_text(arguments.request))
    admission = admit(swarm_key, asked, SystemRandom())
    named = f", which calls itself {asked.name!r}," if asked.name else ""
    _tell(
        f"node {asked.node}{named} is admitted to the swarm {swarm_hint(swarm_key.swarm)}:"
        f" if the device shows the same id, take this to `shoal accept` there"
    )
    print(admission)
    return 0


def accept(arguments: Namespace) -> int:
    """Take the admission; from then on the device is enrolled."""
    identity = accept_admission(Path(arguments.data), _text(arguments.admission))
    hint = swarm_hint(identity.swarm)
    print(f"enrolled node {identity.node} in {arguments.data}, in the swarm {hint}")
    return 0


def _text(given: str) -> str:
    """What was given as an argument, or else on standard input."""
    if given != "-":
        return given
    if sys.stdin is None:
        raise InvalidInput("there is no standard input to read the text from")
    # One more than may be there: who gives too much is told so, and is not read to the end.
    return sys.stdin.buffer.read(MAX_TEXT + 1).decode(errors="replace")


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
