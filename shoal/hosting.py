"""Fish and upcasters named on a command line: `MODULE:NAME`, looked up from the working folder first, as by Python."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fish.definition import Fish
from lamport.upcasters import NO_UPCASTERS, Upcasters
from shoal.errors import FishNotLoaded


def load_fish(references: Iterable[str]) -> dict[str, Fish[Any]]:
    """The fish that these references name, by fish name. A name may stand for one fish or a list of them.

    Raises:
        FishNotLoaded: a reference is malformed, cannot be imported, names no fish, or a fish name comes twice.
    """
    loaded: dict[str, Fish[Any]] = {}
    for reference in references:
        for fish in _fish_at(reference):
            if loaded.setdefault(fish.name, fish) is not fish:
                raise FishNotLoaded(f"{reference}: another fish is named {fish.name!r} already")
    return loaded


def load_upcasters(reference: str) -> Upcasters:
    """The upcasters that a reference names; none where it is empty.

    Raises:
        FishNotLoaded: the reference is malformed, cannot be imported, or names no `Upcasters`.
    """
    if not reference:
        return NO_UPCASTERS
    value = _value_at(reference, "upcasters are")
    if not isinstance(value, Upcasters):
        raise FishNotLoaded(f"{reference}: no Upcasters(...), but {type(value).__name__}")
    return value


def _fish_at(reference: str) -> tuple[Fish[Any], ...]:
    value = _value_at(reference, "fish are")
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not found or not all(isinstance(one, Fish) for one in found):
        raise FishNotLoaded(f"{reference}: neither a Fish nor a list of them")
    return found


def _value_at(reference: str, these: str) -> Any:
    """What a module's name stands for; `these` are (a plural and its verb) what it should name."""
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise FishNotLoaded(f"{reference!r}: {these} named MODULE:NAME")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:  # whatever the user's module does when imported
        raise FishNotLoaded(f"{reference}: {type(error).__name__}: {error}") from error
