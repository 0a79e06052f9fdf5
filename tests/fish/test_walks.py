"""Functions that lean on the order of a set that they make, and functions that do not."""

import dataclasses
import functools
import linecache
import operator
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from fish.typed import Typed, TypedReset
from fish.walks import place_that_matters

WORDS = ("press", "mill", "saw", "oven")


def looped(words: tuple[str, ...]) -> str:
    text = ""
    for word in set(words):
        text += word
    return text


def listed(words: tuple[str, ...]) -> list[str]:
    return list({*words, "more"})


def comprehended(words: tuple[str, ...]) -> tuple[str, ...]:
    chosen = frozenset(words)
    return tuple([word.upper() for word in chosen])


def spread(words: tuple[str, ...]) -> list[str]:
    return [*set(words)]


def joined(words: tuple[str, ...]) -> str:
    return ",".join(set(words))


def popped(words: tuple[str, ...]) -> str:
    return set(words).pop()


def taken_apart(words: tuple[str, ...]) -> str:
    first, *_ = set(words)
    return first


def lengthened(words: tuple[str, ...]) -> list[str]:
    found = ["a"]
    found += set(words)
    return found


def extended(words: tuple[str, ...]) -> list[str]:
    found: deque[str] = deque()
    found.extend(set(words))
    return list(found)


def first(words: tuple[str, ...]) -> str:
    return next(iter(set(words)))


def longest(words: tuple[str, ...]) -> str:
    return max(set(words[:2]) | {"abcde"}, key=len)


def sorted_by_what_others_share(words: tuple[str, ...]) -> list[str]:
    return sorted({*words, "abcde"}, key=len)


def keyed(words: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(set(words)))


def summed(_words: tuple[str, ...]) -> float:
    return sum({0.1, 0.2, 0.3})


def folded(words: tuple[str, ...]) -> str:
    return functools.reduce(operator.add, set(words))


def the_second(words: tuple[str, ...]) -> list[str]:
    count = 0
    for _ in set(words):
        count += 1
    return list(set(words))[:count]


def shown(words: tuple[str, ...]) -> str:
    return str(set(words))


def represented(words: tuple[str, ...]) -> str:
    return repr({"of": [("all", set(words))]})


def put_into_a_text(words: tuple[str, ...]) -> str:
    return f"they are {set(words)}"


def put_into_a_text_as_it_is(words: tuple[str, ...]) -> str:
    return f"they are {frozenset(words)!r:>80}"


def formatted(words: tuple[str, ...]) -> str:
    return "{} of {all}".format("some", all=set(words))


def formatted_by_percent(words: tuple[str, ...]) -> str:
    return "some of %s" % {*words}


def formatted_by_a_map(words: tuple[str, ...]) -> str:
    return "some of {all}".format_map({"all": {*words}})


def made_longer_by_percent(words: tuple[str, ...]) -> str:
    text = "some of %s"
    text %= ({*words},)
    return text


def shared(words: tuple[str, ...]) -> str:
    twice: Any = {*words}
    for _ in range(100):
        twice = (twice, twice)
    return "{chosen} of {all[0]!s:.1}".format_map({"all": [1, twice], "chosen": {*words}})


def holding_itself_and_a_set(words: tuple[str, ...]) -> str:
    held: list[Any] = [{*words}]
    held.append((held,))
    return str(held)


def shown_within_another(words: tuple[str, ...]) -> str:
    return str({frozenset(words)})


def the_second_shown(words: tuple[str, ...]) -> str:
    size = len(str(set(words)))
    return f"{size} of {set(words)}"


LEANING: tuple[tuple[Callable[..., Any], int], ...] = (
    (looped, 2),
    (listed, 1),
    (comprehended, 2),
    (spread, 1),
    (joined, 1),
    (popped, 1),
    (taken_apart, 1),
    (lengthened, 2),
    (extended, 2),
    (first, 1),
    (longest, 1),
    (sorted_by_what_others_share, 1),
    (keyed, 1),
    (summed, 1),
    (folded, 1),
    (the_second, 4),
    (shown, 1),
    (represented, 1),
    (put_into_a_text, 1),
    (put_into_a_text_as_it_is, 1),
    (formatted, 1),
    (formatted_by_percent, 1),
    (formatted_by_a_map, 1),
    (made_longer_by_percent, 2),
    (shared, 4),
    (holding_itself_and_a_set, 3),
    (shown_within_another, 1),
    (the_second_shown, 2),
)


def ordered(words: tuple[str, ...]) -> list[str]:
    return sorted(set(words))


def asked(words: tuple[str, ...]) -> tuple[int, bool, bool, str]:
    chosen = set(words) - {"saw"}
    return len(chosen), "mill" in chosen, any(word == "oven" for word in chosen), max(chosen)


def rebuilt(words: tuple[str, ...]) -> set[str]:
    return {word.upper() for word in set(words)}


def counted(words: tuple[str, ...]) -> int:
    return sum(len(word) for word in set(words))


def of_lists(words: tuple[str, ...]) -> list[str]:
    found = list(words)
    found.pop()
    last, *rest = found
    return [last, *rest]


def alone(words: tuple[str, ...]) -> list[str]:
    return list({words[0]})


def recursive(words: tuple[str, ...], depth: int = 2, *, more: int = 1) -> int:
    return depth * more if not depth else recursive(words, depth - 1) + len(set(words))


def of_two(words: tuple[str, ...]) -> set[str]:
    return max({words[0]}, set(words), key=len)


def reduced(words: tuple[str, ...]) -> set[str]:
    return functools.reduce(operator.or_, [{word} for word in words], {"more", "most"})


def valued(words: tuple[str, ...]) -> set[str]:
    return dict.fromkeys(words, set(words))[words[0]]  # noqa: RUF024 - nobody changes it


def shown_alone(words: tuple[str, ...]) -> list[str]:
    nobody: set[str] = set()
    size = len(str(set(words)))
    return [f"{size} { {words[0]} } {nobody}", repr(frozenset(nobody)), str(set(words[:1]))]


def shown_in_its_order(words: tuple[str, ...]) -> str:
    return f"{sorted(set(words))} and {len(set(words)) % 3} and {len(str(set(words)))}"


def holding_itself(words: tuple[str, ...]) -> str:
    held: list[Any] = [words]
    held.append(held)
    return f"{held} {b'%s' % words[0].encode()!r} {'onetwo'}"


class Team:
    """Its methods have the names of those that walk."""

    def __init__(self, *names: str) -> None:
        self.names = {*names}

    def join(self, others: set[str]) -> set[str]:
        return self.names | others

    def __mod__(self, others: set[str]) -> set[str]:
        return others

    def __iadd__(self, others: set[str]) -> Self:
        self.names |= others
        return self


def added(words: tuple[str, ...]) -> set[str]:
    team = Team("more")
    team += set(words)
    return team.names


class Rest:
    """It is not a text that is divided here."""

    def __init__(self, *names: str) -> None:
        self.names = {*names}

    def __imod__(self, others: set[str]) -> Self:
        self.names &= others
        return self


def divided(words: tuple[str, ...]) -> tuple[set[str], int]:
    rest = Rest("mill")
    rest %= set(words)
    number = 7
    number %= len({*words})
    return rest.names, number


def length_of_what_holds_itself(words: tuple[str, ...]) -> int:
    held: list[Any] = [{*words}]
    held.append(held)
    held.append(({*words}, held))
    return len(str(held))


def what_is_no_text(words: tuple[str, ...]) -> str:
    return type(Team() % set(words)).__name__


def of_its_own(words: tuple[str, ...]) -> set[str]:
    return Team("more").join(set(words))


def named_twice(words: tuple[str, ...]) -> int:
    first, *_ = chosen = set(words)
    return len(chosen | {first})


def around(offset: int) -> Callable[..., Any]:
    def inner(words: tuple[str, ...]) -> list[str]:
        return list(set(words))[offset:]

    return inner


class Board:
    """A reducer may be a method."""

    start = 1

    def rows(self, words: tuple[str, ...]) -> list[str]:
        return list(set(words))[self.start :]


REDUCER: Any = listed
TYPED: Any = Typed(REDUCER, (), ())


@dataclasses.dataclass
class Shelf:
    """A dataclass of somebody else, with a method of this name."""

    rows: int = 1

    def __call__(self, words: tuple[str, ...]) -> list[str]:
        return self.reduce(words)

    def reduce(self, words: tuple[str, ...]) -> list[str]:
        return sorted(words)[self.rows :]


SHELF: Any = Shelf()


def looked(function: Callable[..., Any]) -> int | None:
    def result_of(one: Callable[..., Any]) -> object:
        called: Any = one.reduce if isinstance(one, Typed) else one
        result = called(WORDS)
        return repr(sorted(result) if isinstance(result, set) else result)

    return place_that_matters(function, result_of, result_of(function))


@pytest.mark.parametrize(("function", "line"), LEANING)
def test_whoever_leans_on_the_order_of_a_set_is_told_at_which_line(
    function: Callable[..., Any], line: int
) -> None:
    assert looked(function) == function.__code__.co_firstlineno + line


@pytest.mark.parametrize(
    "function",
    [
        *(ordered, asked, rebuilt, counted, of_lists, alone, recursive, len),
        *(of_two, reduced, valued, of_its_own, added, named_twice),
        *(shown_alone, shown_in_its_order, holding_itself, what_is_no_text),
        *(divided, length_of_what_holds_itself),
    ],
)
def test_whoever_does_not_is_left_in_peace(function: Callable[..., Any]) -> None:
    assert looked(function) is None


@pytest.mark.parametrize(
    "function",
    [
        around(1),
        Board().rows,
        functools.partial(around(0)),
        TYPED,
    ],
)
def test_it_is_found_behind_closures_methods_and_partials(function: Callable[..., Any]) -> None:
    assert looked(function) is not None


def test_a_dataclass_that_is_called_is_left_in_peace() -> None:
    assert looked(SHELF) is None


def test_resets_of_typed_events_are_looked_at() -> None:
    def is_reset(words: Any, _metadata: Any) -> bool:
        first, *_, last = set(words)
        return bool(first < last)

    typed: Any = TypedReset(is_reset, (), ())
    expected = is_reset(WORDS, None)
    assert place_that_matters(typed, _reset, expected) is not None


def _reset(typed: Any) -> bool:
    return bool(typed.is_reset(WORDS, None))


def test_a_source_that_was_broken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    space: dict[str, Any] = {}
    whole = "def fold(words):\n    return [*{*words}]\n"
    exec(compile(whole, str(path), "exec"), space)  # noqa: S102 - as an import would
    path.write_text("def fold(words):\n    return (1,\n")
    assert looked(space["fold"]) is None


def test_a_source_that_is_not_what_runs_here_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "changed.py"
    text = "def fold(words):\n    return list(set(words))\n"
    path.write_text(text)
    space: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), space)  # noqa: S102 - as an import would
    assert looked(space["fold"]) == 2
    path.write_text("def fold(words):\n    return [*set(words)]\n")
    linecache.clearcache()
    again: dict[str, Any] = {}
    exec(compile(text.replace("list", "tuple"), str(path), "exec"), again)  # noqa: S102 - as above
    assert looked(again["fold"]) is None
