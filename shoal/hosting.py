"""Fish named on a command line: `MODULE:NAME`, looked up from the working folder first, as Python itself would."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fish.definition import Fish
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


def _fish_at(reference: str) -> tuple[Fish[Any], ...]:
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise FishNotLoaded(f"{reference!r}: fish are named MODULE:NAME")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        value = getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:  # whatever the user's module does when imported
        raise FishNotLoaded(f"{reference}: {type(error).__name__}: {error}") from error
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not found or not all(isinstance(one, Fish) for one in found):
        raise FishNotLoaded(f"{reference}: neither a Fish nor a list of them")
    return found
