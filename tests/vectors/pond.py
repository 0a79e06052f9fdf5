"""Vectors of fish: each is played on a real node in memory, through its public interface.

Vectors that call themselves optional are about the inside of another implementation, and are skipped.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.vectors import pond_net, pond_tags
from tests.vectors.pond_reading import places_of
from tests.vectors.pond_stage import Stage, played
from tests.vectors.pond_steps import Play
from tests.vectors.verdict import Verdict

USUAL_LOCAL_STREAM = "LOCAL-0"


def run(path: Path) -> Iterator[Verdict]:
    """Play every vector of a file that is not optional."""
    contents = json.loads(path.read_text("utf-8"))
    local = contents.get("conventions", {}).get("default_local_stream", USUAL_LOCAL_STREAM)
    with _quiet():
        for vector in contents["vectors"]:
            if not vector.get("optional"):
                yield judge(vector, local)


@contextmanager
def _quiet() -> Iterator[None]:
    """Vectors stop fish on purpose: what is logged about that would stand between the verdicts."""
    logger = logging.getLogger("shoal.fish")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def judge(vector: Mapping[str, Any], local: str = USUAL_LOCAL_STREAM) -> Verdict:
    """Play one vector. Whatever it raises is a fault of this one, and the others go on."""
    name = str(vector.get("id"))
    try:
        return Verdict(name, _fault(vector, local))
    except Exception as error:  # noqa: BLE001 - a vector may break in every way
        return Verdict(name, f"{type(error).__name__}: {error}")


def _fault(vector: Mapping[str, Any], local: str) -> str | None:
    if "expr" in vector:
        return pond_tags.fault_of(vector)
    if "script" in vector:
        return played(pond_net.fault_of(vector))
    played(_steps(vector, local))
    return None


async def _steps(vector: Mapping[str, Any], local: str) -> None:
    stage = Stage(places_of(vector, local))
    await stage.start()
    try:
        play = Play(stage, vector["fishes"])
        for number, step in enumerate(vector["steps"], 1):
            try:
                await play.step(step)
            except Exception as error:
                raise type(error)(f"step {number} ({step['op']}): {error}") from error
    finally:
        await stage.stop()
