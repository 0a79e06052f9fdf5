"""Addresses of instances, and the tags by which the log knows them.

An address is `machine/instance`; a machine's name alone means its only instance. Everything that happens to an instance
is an event with its tag, so an address that makes no tag names nothing: the fold refuses to deliver there, because what
such an instance led to (a service's end, a timer) could never be logged.
"""

import functools
import unicodedata
from typing import Any

from fish.machines.errors import MachineThrew
from lamport.tags import tag_fault

TAG = "machine"

KNOWN_ADDRESSES = 16_384
"""Addresses that are remembered: those that events name again and again."""


def split(address: str) -> tuple[str, str]:
    """Machine and instance of an address, in the normal form that tags have."""
    machine, slash, instance = unicodedata.normalize("NFC", address).partition("/")
    return machine, instance if slash else machine


def tags_of(address: str) -> list[str]:
    """The tags of events for an instance."""
    machine, instance = split(address)
    return [f"{TAG}:{machine}", f"{TAG}:{machine}:{instance}"]


def derived(machine: str, name: Any) -> str:
    """The address of an instance that a fold names: a text or a number, such as an event's field gives.

    Raises:
        MachineThrew: events could not bear it.
    """
    if isinstance(name, bool) or not isinstance(name, str | int | float) or name == "":
        raise MachineThrew("bad-instance")
    return _derived(machine, str(name))


@functools.lru_cache(maxsize=KNOWN_ADDRESSES)
def _derived(machine: str, name: str) -> str:
    instance = unicodedata.normalize("NFC", name)
    if tag_fault(f"{TAG}:{machine}:{instance}") is not None:
        raise MachineThrew("bad-instance")
    return f"{machine}/{instance}"
