"""`shoal check`: whether a swarm protocol is well-formed, and machines do what it asks of their roles.

The file is a JSON object: the `protocol`, the `subscriptions`, and `machines` by role if there are any. The protocol's
own fields may also stand beside the others, and one `role` with its `machine` may stand for `machines`. Nothing is
needed but the file: neither a data folder nor a daemon.
"""

import json
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fish.protocols import (
    InvalidProtocol,
    Machine,
    Problem,
    Protocol,
    Subscriptions,
    check_projection,
    check_protocol,
    machine_from_json,
    protocol_from_json,
    subscriptions_from_json,
)
from shoal.errors import FileUnreadable
from shoal.strictjson import parse_json

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Largest file that is read: ten times the largest protocol that anybody would write."""

PROBLEMS_FOUND = 1
"""The exit status where something is wrong; a file that is no protocol has the status of bad input."""


class Document(NamedTuple):
    """What a file says."""

    protocol: Protocol
    subscriptions: Subscriptions
    machines: Mapping[str, Machine]


class Checked(NamedTuple):
    """What came of a check: the protocol's problems, those that only strict checking finds, and each machine's own."""

    problems: tuple[Problem, ...]
    strict: tuple[Problem, ...]
    machines: Mapping[str, tuple[Problem, ...]]


def check(arguments: Namespace) -> int:
    """Check a file and print what was found."""
    path = Path(arguments.file)
    document = document_from_json(parse_json(_read(path)))
    checked = check_document(document)
    well = not (
        checked.problems or any(checked.machines.values()) or (arguments.strict and checked.strict)
    )
    if arguments.as_json:
        print(json.dumps({"ok": well, **_to_json(checked)}, indent=2))
    else:
        print("\n".join(_lines(path, document, checked)))
    return os.EX_OK if well else PROBLEMS_FOUND


def check_document(document: Document) -> Checked:
    """Everything that is wrong with protocol, subscriptions and machines."""
    protocol, subscriptions, machines = document
    problems = check_protocol(protocol, subscriptions)
    of_machines = {
        role: check_projection(protocol, subscriptions, role, machines[role])
        for role in sorted(machines)
    }
    return Checked(
        problems,
        _beyond(problems, check_protocol(protocol, subscriptions, strict=True)),
        {role: _beyond(problems, found) for role, found in of_machines.items()},
    )


def _beyond(told: tuple[Problem, ...], found: tuple[Problem, ...]) -> tuple[Problem, ...]:
    known = set(told)
    return tuple(problem for problem in found if problem not in known)


def document_from_json(value: Any) -> Document:
    """Read what a file says.

    Raises:
        InvalidProtocol: something in it has the wrong shape or is missing; the text says where.
    """
    if not isinstance(value, dict):
        raise InvalidProtocol(
            "file", "", "an object with `protocol` and `subscriptions` is expected"
        )
    if "subscriptions" not in value:
        raise InvalidProtocol("file", "", "the field 'subscriptions' is missing: {ROLE: [TYPE]}")
    protocol = value.get("protocol", value.get("proto", value))
    return Document(
        protocol_from_json(protocol),
        subscriptions_from_json(value["subscriptions"]),
        dict(_machines(value)),
    )


def _machines(value: dict[str, Any]) -> Iterator[tuple[str, Machine]]:
    machines = value.get("machines", {})
    if not isinstance(machines, dict):
        raise InvalidProtocol("file", "machines", "an object of machines by role is expected")
    if "machine" in value:
        if not isinstance(value.get("role"), str):
            raise InvalidProtocol("file", "role", "the role of the `machine` is expected, a text")
        machines = {**machines, value["role"]: value["machine"]}
    for role, machine in machines.items():
        try:
            yield role, machine_from_json(machine)
        except InvalidProtocol as error:
            raise error.of(role) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FileUnreadable(f"cannot read {path} ({error.strerror}): name a file") from error
    if len(data) > MAX_FILE_BYTES:
        raise FileUnreadable(f"{path} is larger than {MAX_FILE_BYTES} bytes: check its parts")
    return data


def _to_json(checked: Checked) -> dict[str, Any]:
    return {
        "problems": [problem.to_json() for problem in checked.problems],
        "strict": [problem.to_json() for problem in checked.strict],
        "machines": {
            role: [problem.to_json() for problem in problems]
            for role, problems in checked.machines.items()
        },
    }


def _lines(path: Path, document: Document, checked: Checked) -> Iterator[str]:
    steps = len(document.protocol.transitions)
    yield f"{path}: {_counted(steps, 'transition')}, {_verdict(checked.problems, 'well-formed')}"
    yield from _told(checked.problems)
    if checked.strict:
        yield f"beyond that, strictly: {_counted(len(checked.strict), 'problem')}"
        yield from _told(checked.strict)
    for role, problems in checked.machines.items():
        yield f"machine of {role}: {_verdict(problems, 'as the protocol asks')}"
        yield from _told(problems, machine=True)


def _verdict(problems: tuple[Problem, ...], good: str) -> str:
    return _counted(len(problems), "problem") if problems else good


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _told(problems: tuple[Problem, ...], *, machine: bool = False) -> Iterator[str]:
    for problem in problems:
        yield f"  {problem.kind.value}: {problem.text}"
        # The text of some kinds names only the protocol's state; who mends the machine looks for its own.
        place = f"in the machine's state {problem.state}: " if machine else ""
        yield f"    {place}{problem.advice}"
