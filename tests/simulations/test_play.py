"""Seeds, plans and what is made of a failure."""

from pathlib import Path

import pytest

from lamport.clock import LamportClock
from simulations.errors import SimulationError
from simulations.plan import HARDSHIPS, Plan, draw_plan
from simulations.play import play, shrunk


@pytest.mark.parametrize("seed", range(1, 13))
def test_a_seed_keeps_all_laws(seed: int) -> None:
    outcome = play(draw_plan(seed, seconds=30))
    assert not outcome.failure
    assert outcome.commits > 0


def test_a_seed_is_drawn_and_played_the_same_again() -> None:
    plan = draw_plan(5, seconds=20)
    assert plan == draw_plan(5, seconds=20)
    assert play(plan).digest == play(plan).digest != play(draw_plan(6, seconds=20)).digest


def test_seeds_draw_every_kind_of_hardship_and_leave_every_kind_out() -> None:
    drawn = [set(draw_plan(seed, seconds=1).options) for seed in range(40)]
    assert set.union(*drawn) == set(HARDSHIPS)
    assert not set.intersection(*drawn)


def test_a_saved_plan_is_the_same_plan(tmp_path: Path) -> None:
    plan = draw_plan(7, seconds=20)
    (tmp_path / "plan.json").write_text(plan.to_json(), "utf-8")
    assert Plan.read(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text, "utf-8")
    with pytest.raises(SimulationError, match="no plan"):
        Plan.read(tmp_path / "plan.json")


def test_a_planted_bug_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is not raised by what is received breaks causality."""
    monkeypatch.setattr(LamportClock, "raised", lambda self, _lamport: self)
    plan = next(plan for plan in map(draw_plan, range(1, 50)) if play(plan).failure)
    assert "law 5" in play(plan).failure
    small = shrunk(plan, lambda fewer: "law 5" in play(fewer).failure)
    assert len(small.operations) <= 2
    assert "law 5" in play(small).failure
