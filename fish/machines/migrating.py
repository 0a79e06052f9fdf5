"""An instance that goes on by newer definitions of its machine, while nothing of it is under way.

`migrate(state, context)` of each version between says where it goes on. A state that is thereby entered begins what
belongs to it (timers, services, children); its entry actions are not done, for nothing has happened. In a state that
stays, timers go on as they are, and those that only the new definition has begin. What is delayed stays due.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from fish.machines.chart import Chart, Node
from fish.machines.contexts import require_small
from fish.machines.errors import MachineThrew, text_of
from fish.machines.instance import Instance, Timer
from fish.machines.stepping import Step, attempt


def migration(
    charts: Mapping[int, Chart],
    before: Instance,
    wanted: Any,
    step: Callable[[Chart, Instance], Step],
) -> Step | str:
    """The step to the wanted version, by all between; or why there is none. `step` makes one."""
    if type(wanted) is not int or wanted not in charts or wanted <= before.version:
        return "unknown-version"
    if not before.is_settled:
        return "not-settled"
    after = before
    for version in sorted(charts):
        if before.version < version <= wanted:
            try:
                after = _taken_over(after, charts[version])
            except Exception as error:  # noqa: BLE001 - it is the user's function: whatever it raises leaves the instance as it was
                is_told = isinstance(error, MachineThrew)
                return f"error:{text_of(error) if is_told else type(error).__name__}"
    chart = charts[wanted]
    entered, stayed = _compared(charts[before.version], before, chart, after)
    after = after._replace(timers=_kept(chart, after, stayed))
    taken = step(chart, after)
    return attempt(taken.go_on, entered, stayed) or taken


def _taken_over(before: Instance, chart: Chart) -> Instance:
    """The instance under one version further."""
    rest, context = before.rest, copy.deepcopy(dict(before.context))
    if chart.machine.migrate is not None:
        rest, context = chart.machine.migrate(rest, context)
    if not isinstance(context, Mapping):
        raise MachineThrew("migrate-without-context")
    node = chart.nodes.get(rest) if rest else None
    working = [chart.nodes.get(one.state) for one in before.tokens]
    if node is None or node.leaf.is_cyclic:
        raise MachineThrew("migrate-to-no-state")
    if not all(one is not None and one.is_cyclic for one in working):
        raise MachineThrew("migrate-without-work")
    require_small(context)
    return before._replace(version=chart.machine.version, rest=node.leaf.path, context=context)


def _compared(
    old: Chart, before: Instance, chart: Chart, after: Instance
) -> tuple[list[Node], list[tuple[Node, str | None, int]]]:
    """The states that are entered, outermost first; and those that stay, with the timers they had."""
    active = {node.path: node for leaf in before.leaves for node in old.nodes[leaf].line}
    works: list[tuple[str, str | None]] = [(one.state, one.id) for one in after.tokens]
    entered: list[Node] = []
    stayed: list[tuple[Node, str | None, int]] = []
    for leaf, work in works or [(after.rest, None)]:
        for node in reversed(chart.nodes[leaf].line):
            if node.path in active:
                own = work if node.is_cyclic else None
                stayed.append((node, own, len(active[node.path].timers)))
            else:
                entered.append(node)
    return list(dict.fromkeys(entered)), list(dict.fromkeys(stayed))


def _kept(
    chart: Chart, after: Instance, stayed: list[tuple[Node, str | None, int]]
) -> tuple[Timer, ...]:
    """The timers that go on: what is delayed, and those of states that stay and still have them."""
    paths = {node.path for node, _, _ in stayed}
    return tuple(
        one
        for one in after.timers
        if one.event is not None
        or (one.state in paths and one.number < len(chart.nodes[one.state].timers))
    )
