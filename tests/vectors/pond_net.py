"""Vectors about several nodes: each publishes, and hands all it knows to another."""

from collections.abc import Mapping
from typing import Any

from lamport.chain import MAX_SEALED_EVENTS
from lamport.offsets import missing
from tests.vectors.pond_places import Places, Timetable
from tests.vectors.pond_stage import Stage, canonical, quiescence


class _Sharing(Places):
    """The places of one node among several: a stream is labelled by whoever writes it."""

    def label_as(self, stages: Mapping[str, Stage]) -> None:
        """Take over the labels of all nodes."""
        for name, stage in stages.items():
            self._labels[stage.node.log.stream] = f"{name}-0"


async def fault_of(vector: Mapping[str, Any]) -> str | None:
    """What is not as the vector says."""
    labels = [f"{name}-0" for name in vector["nodes"]]
    stages = {
        name: Stage(_Sharing(labels, f"{name}-0", (), Timetable({}))) for name in vector["nodes"]
    }
    try:
        for stage in stages.values():
            await stage.start()
        for stage in stages.values():
            assert isinstance(stage.places, _Sharing), "made above"
            stage.places.label_as(stages)
        for step in vector["script"]:
            await _play(stages, step)
            await quiescence()
        return await _difference(vector, stages)
    finally:
        for stage in stages.values():
            await stage.stop()


async def _play(stages: Mapping[str, Stage], step: list[Any]) -> None:
    match step:
        case ["emit", name, tags, payload]:
            await stages[name].node.publish(tags, payload)
        case ["sync", source, target]:
            await _sync(stages[source], stages[target])
        case _:
            raise NotImplementedError(f"no step {step[0]!r} is known")


async def _sync(source: Stage, target: Stage) -> None:
    log = source.node.log
    for lacking in missing(target.node.offsets, source.node.offsets):
        first = lacking.first
        while first <= lacking.last:
            sealed = await log.served_range(lacking.stream, first, MAX_SEALED_EVENTS)
            assert sealed is not None, "it holds them"
            await target.node.log.receive(sealed)
            first = sealed.seal.offset + 1


async def _difference(vector: Mapping[str, Any], stages: Mapping[str, Stage]) -> str | None:
    for name, wanted in vector["expectPerNode"].items():
        stage = stages[name]
        [given] = vector["fishes"].values()
        shown = await stage.node.pond.current_state(stage.fish(given))
        if canonical(shown) != canonical(wanted):
            return f"at {name} the state is {canonical(shown)}, not {canonical(wanted)}"
    return None
