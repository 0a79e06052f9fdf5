"""Fish and upcasters named as MODULE:NAME."""

import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from lamport.upcasters import NO_UPCASTERS
from shoal import worker
from shoal.errors import FishNotLoaded
from shoal.hosting import load_fish, load_upcasters

FISH = """
from fish.definition import Fish
from lamport.tags import Tag

def count(state, event, metadata):
    return state + 1

one = Fish("one", Tag("a"), 0, count)
two = Fish("two", Tag("a"), 0, count)
same_name = Fish("one", Tag("b"), 0, count)
BOTH = [one, two]
PAIR = (one, two)
NONE = []
MIXED = [one, "two"]
NUMBER = 7
"""

UPCASTERS = """
from lamport.upcasters import Upcaster, Upcasters

weights = Upcasters(Upcaster("weight", 1, lambda weight: {"grams": weight["kg"] * 1000}))
LIST = [*weights]
"""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Puts a module into the working folder; returns the name it has there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(source: str) -> str:
        name = f"fish_{uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


def test_no_reference_gives_no_fish() -> None:
    assert load_fish([]) == {}


def test_a_reference_gives_the_fish_under_its_own_name() -> None:
    assert load_fish(["shoal.worker:workers"]) == {"workers": worker.workers}


def test_a_list_gives_all_its_fish() -> None:
    expected = {"workers": worker.workers, "naive-workers": worker.naive_workers}
    assert load_fish(["shoal.worker:ALL"]) == expected


def test_modules_are_found_in_the_working_folder(write: Write) -> None:
    module = write(FISH)
    assert list(load_fish([f"{module}:one", f"{module}:two"])) == ["one", "two"]
    assert list(load_fish([f"{module}:PAIR"])) == ["one", "two"]


def test_the_same_fish_may_be_named_twice(write: Write) -> None:
    module = write(FISH)
    assert list(load_fish([f"{module}:one", f"{module}:BOTH"])) == ["one", "two"]


def test_two_fish_of_one_name_are_refused(write: Write) -> None:
    module = write(FISH)
    with pytest.raises(FishNotLoaded, match=r":same_name: another fish is named 'one' already"):
        load_fish([f"{module}:one", f"{module}:same_name"])


@pytest.mark.parametrize("reference", ["", ":", "module", "module:", ":NAME", "shoal.worker.ALL"])
def test_a_reference_without_both_parts_is_refused(reference: str) -> None:
    with pytest.raises(FishNotLoaded, match="fish are named MODULE:NAME") as raised:
        load_fish([reference])
    assert repr(reference) in str(raised.value)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("no_such_module:NAME", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("shoal.worker:NAME", "AttributeError: module 'shoal.worker' has no attribute 'NAME'"),
        ("shoal.worker:ALL.first", "AttributeError"),
        ("shoal.worker:ALL:first", "AttributeError"),
        (".worker:ALL", "TypeError"),
        ("shoal/worker.py:ALL", "ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_found_is_refused_with_the_reason(reference: str, reason: str) -> None:
    with pytest.raises(FishNotLoaded) as raised:
        load_fish([reference])
    assert str(raised.value).startswith(f"{reference}: {reason}")


@pytest.mark.parametrize("name", ["NONE", "MIXED", "NUMBER", "count", "Fish"])
def test_what_is_no_fish_is_refused(write: Write, name: str) -> None:
    module = write(FISH)
    with pytest.raises(FishNotLoaded, match=rf"^{module}:{name}: neither a Fish nor a list"):
        load_fish([f"{module}:{name}"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("from fish.definition import Fish\nFish('', None, 0, print)", "InvalidFish: a fish has"),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_refused(
    write: Write, source: str, reason: str
) -> None:
    module = write(source)
    with pytest.raises(FishNotLoaded, match=rf"^{module}:NAME: {reason}"):
        load_fish([f"{module}:NAME"])


def test_upcasters_are_found_by_their_reference(write: Write) -> None:
    module = write(UPCASTERS)
    assert [one.tag for one in load_upcasters(f"{module}:weights")] == ["weight"]
    assert load_upcasters("") is NO_UPCASTERS


def test_what_is_no_registry_of_upcasters_is_refused(write: Write) -> None:
    module = write(UPCASTERS)
    with pytest.raises(FishNotLoaded, match=rf"^{module}:LIST: no Upcasters\(...\), but list"):
        load_upcasters(f"{module}:LIST")
    with pytest.raises(FishNotLoaded, match="upcasters are named MODULE:NAME"):
        load_upcasters("weights")
