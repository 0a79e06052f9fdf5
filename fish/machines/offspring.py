"""The children of one machine: whom its invokes have borne, who ends with a state, and how they are reached.

A child of a plain state is kept by the id of its invoke, for as long as the machine lives: it may be sent to when its
state is left. Of a cyclic state's invoke there is one child for each work id (`Worker`). It goes when the id is closed:
the child itself lives on, unless it stops with its state, but a machine that works for years keeps no list of them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fish.machines.addresses import derived
from fish.machines.chart import CHILD_DONE, Chart, Node
from fish.machines.instance import Instance, Link, Token, Worker, child_address

WORK = "work"
"""The field of `done.child.ID` that says to which work id the child belongs."""


class Offspring(NamedTuple):
    """The children of a machine at one point of a step."""

    children: tuple[tuple[str, str], ...]
    workers: tuple[Worker, ...]

    def plus(self, invoke: str, address: str, token: Token | None) -> "Offspring":
        """With another child; of a plain state's invoke the newest counts."""
        if token is None:
            children = {**dict(self.children), invoke: address}
            return self._replace(children=tuple(children.items()))
        return self._replace(workers=(*self.workers, Worker(token, invoke, address)))

    def minus(self, node: Node, work: str | None) -> tuple["Offspring", list[str]]:
        """Without the children that stop when a state is left, and their addresses."""
        ending = _ending(node)
        if not ending:
            return self, []
        if work is None:
            children = dict(self.children)
            gone = [children.pop(one) for one in ending if one in children]
            return self._replace(children=tuple(children.items())), gone
        token = Token(work, node.path)
        over = [one for one in self.workers if one.token == token and one.invoke in ending]
        staying = tuple(one for one in self.workers if one not in over)
        return self._replace(workers=staying), [one.address for one in over]

    def of_open(self, tokens: tuple[Token, ...]) -> tuple[Worker, ...]:
        """The children of work ids that are open at the end of a step."""
        return self.workers and tuple(one for one in self.workers if one.token in tokens)

    def reached(self, target: str, work: str | None) -> str | None:
        """Where somebody is: the child of this work, one of a plain state, or an address as it is."""
        for one in self.workers:
            if (one.invoke, one.token.id) == (target, work):
                return one.address
        return dict(self.children).get(target) or _elsewhere(target)


def address_of(machine: str, name: Any, path: str, link: Link) -> str:
    """The address of a child: by its name, or by what has begun it.

    Raises:
        MachineThrew: events could not bear the name.
    """
    if name is None:
        return child_address(machine, link.address, path, link.entry, link.invoke)
    return derived(machine, name)


def done(parent: Link, output: Any) -> dict[str, Any]:
    """What a parent is told of a child's end."""
    told = {"type": CHILD_DONE + parent.invoke, "output": output}
    return told if parent.work is None else {**told, WORK: parent.work}


def work_of(event: Mapping[str, Any]) -> str | None:
    """The work id that an event concerns as it is the end of its child."""
    work = event.get(WORK) if event["type"].startswith(CHILD_DONE) else None
    return work if isinstance(work, str) else None


def stopping(chart: Chart, instance: Instance) -> list[str]:
    """The addresses of the children that stop when a machine is stopped, as the states are left that it is in."""
    around = [node for leaf in instance.leaves for node in chart.nodes[leaf].line]
    plain = {id_ for node in around if not node.is_cyclic for id_ in _ending(node)}
    return [
        *(address for invoke, address in instance.children if invoke in plain),
        *(
            one.address
            for one in instance.workers
            if one.invoke in _ending(chart.nodes[one.token.state])
        ),
    ]


def _ending(node: Node) -> list[str]:
    """The invokes of the children that stop when a state is left."""
    jobs = [(job.id, job.definition.persistent) for job in node.jobs]
    return [id_ for id_, child in jobs if child is not None and child.stops_on_exit]


def _elsewhere(target: str) -> str | None:
    machine, slash, instance = target.partition("/")
    return derived(machine, instance) if slash else None
