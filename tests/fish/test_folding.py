"""Folding apart: what a cell is sent, and what is taken over from it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from fish import Fish, FishStopped
from fish.errors import IsolationError, Lost
from fish.folding import PORTION_EVENTS, Apart, Folded, Folder, Portion
from fish.oversight import InlineCell, Mark
from fish.timeline import Timeline
from lamport.event import Event
from tests.fish.memory_log import NODE, event_of
from tests.fish.ponds import LIST, named

RESET = named("reset", is_reset=lambda event, _: event == "reset")
COMMUTATIVE = named("bag", commutative=True)


class Observed(InlineCell[Portion[Any], Folded[Any]]):
    """A cell that remembers what it was sent, and is lost when it is told to be."""

    def __init__(self, fish: Fish[Any]) -> None:
        self.folder = Folder(Timeline(fish, NODE))
        super().__init__(self.work)
        self.fish = fish
        self.sent: list[tuple[bool, int]] = []
        """Of each portion, whether it had a head, and how many events."""
        self.losses: list[Lost] = []

    def work(self, portion: Portion[Any], mark: Mark) -> Folded[Any]:
        self.sent.append((portion.head is not None, len(portion.events)))
        if self.losses:
            self.life += 1
            self.folder = Folder(Timeline(self.fish, NODE))
            raise self.losses.pop()
        return self.folder(portion, mark)


class Stand:
    """A timeline, and a cell that folds into it."""

    def __init__(self, fish: Fish[Any]) -> None:
        self.timeline = Timeline(fish, NODE)
        self.cell = Observed(fish)
        self._apart = Apart(fish, self.cell)

    def fold(self, *events: Event) -> Any:
        asyncio.run(self._apart.fold(self.timeline, events))
        return self.timeline.state


def events(payloads: Sequence[Any], first: int = 0) -> list[Event]:
    return [event_of(1, n + 1, n, payload) for n, payload in enumerate(payloads, first)]


def test_a_head_is_sent_only_where_the_cell_stands_elsewhere() -> None:
    stand, story = Stand(LIST), events("abcdef")
    stand.fold(*story[:2])
    stand.fold(story[2], story[4])
    late = story[3] = event_of(2, 4, 0, "d")
    assert stand.timeline.late([late]) == late.key
    stand.timeline.rewind_to(late.key)
    stand.fold(*story[3:5])
    assert stand.fold(story[5]) == tuple("abcdef")
    assert stand.cell.sent == [(True, 2), (False, 2), (True, 2), (False, 1)]


def test_a_new_cell_is_sent_a_head_again() -> None:
    stand = Stand(LIST)
    stand.fold(*events("a"))
    stand.cell.losses = [Lost(0, "it died", stood_still=False)]
    assert stand.fold(*events("b", 1)) == ("a", "b")
    assert stand.cell.sent[1:] == [(False, 1), (True, 1)]


@pytest.mark.parametrize("stood_still", [True, False])
def test_what_came_before_the_event_it_was_lost_at_is_folded(stood_still: bool) -> None:  # noqa: FBT001 - pytest's
    stand = Stand(LIST)
    lost = Lost(2, "lost", stood_still=stood_still)
    stand.cell.losses = [lost] * (1 if stood_still else 2)
    story = events("abcd")
    with pytest.raises(FishStopped) as stopped:
        stand.fold(*story)
    assert stopped.value.key == story[2].key
    assert stand.timeline.state == ("a", "b")
    assert stand.timeline.offsets.of(story[0].stream) == 1


def test_what_is_lost_again_leaves_the_fish_where_it_stood() -> None:
    stand = Stand(LIST)
    stand.cell.losses = [Lost(1, "lost", stood_still=True)] * 2
    with pytest.raises(FishStopped):
        stand.fold(*events("abcd"))
    assert (stand.timeline.state, stand.timeline.key) == ((), None)


def test_a_reset_elsewhere_makes_what_was_before_it_irrelevant_here() -> None:
    stand = Stand(RESET)
    stand.fold(*events("abc"))
    assert stand.fold(*events(["reset", "d"], 3)) == ("reset", "d")
    assert [key.lamport for key in stand.timeline.checkpoints] == [4, 5]
    assert stand.timeline.horizon == stand.timeline.checkpoints[0]
    assert stand.fold(*events(["e", "reset"], 5)) == ("reset",)
    assert [key.lamport for key in stand.timeline.checkpoints] == [7]
    stand.cell.losses = [Lost(0, "it died", stood_still=False)]
    assert stand.fold(*events("f", 7)) == ("reset", "f")
    assert [key.lamport for key in stand.timeline.checkpoints] == [7, 8], "a new cell is told of it"


def test_what_is_covered_is_not_folded_again() -> None:
    stand = Stand(COMMUTATIVE)
    [one] = events("a")
    stand.fold(one, one)
    assert stand.fold(one) == ("a",)
    assert stand.cell.sent == [(True, 2)]


def test_a_long_way_is_gone_in_portions_and_keeps_few_checkpoints() -> None:
    def counted(state: int, _payload: Any, _metadata: Any) -> int:
        return state + 1

    fish: Fish[int] = Fish("count", LIST.where, 0, counted)
    stand, here = Stand(fish), Timeline(fish, NODE)
    story = events(range(2 * PORTION_EVENTS + 1))
    stand.fold(*story)
    here.advance(story)
    assert [size for _, size in stand.cell.sent] == [PORTION_EVENTS, PORTION_EVENTS, 1]
    assert set(stand.timeline.checkpoints) <= {story[0].key, *here.checkpoints}
    assert len(stand.timeline.checkpoints) < 32
    assert stand.timeline.calls == here.calls


def test_where_there_is_no_cell_the_fish_says_so() -> None:
    class Nowhere(Observed):
        def work(self, *_: Any) -> Folded[Any]:
            raise IsolationError("no room")

    nowhere = Nowhere(LIST)
    with pytest.raises(FishStopped, match="its isolation raised IsolationError: no room"):
        asyncio.run(Apart(LIST, nowhere).fold(Timeline(LIST, NODE), events("a")))


def test_isolation_is_no_part_of_what_a_fish_means() -> None:
    here, apart = (named("same", isolated=isolated) for isolated in (False, True))
    assert here.definition == apart.definition
