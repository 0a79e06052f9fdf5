"""A machine's chart for people: as Mermaid text, and as an SVG picture.

Both are drawn from the prepared chart, so that what is drawn is what runs. In the picture states stand below each other
in the order of the definition, with what they do written into them; arrows downwards run on the right, upwards on
the left. Cyclic states have a double border.
"""

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from fish.machines.chart import Chart, Edge, Node
from fish.machines.definition import Machine

LINE, PAD, GAP, WIDTH, LANE, LABEL = 18, 10, 26, 220, 14, 170
"""Pixels: a line of text, the rim of a box, between boxes, a box, between arrows, an arrow's label."""


LETTER = 7.5
"""Pixels: a letter of a name, rather too many."""

_MEANT = frozenset('"#;:<>{}%&|`\\')
"""Characters that have a meaning in Mermaid texts."""


class Arrow(NamedTuple):
    """One transition as drawn; without a target it stays in its state."""

    source: Node
    target: Node | None
    label: str


def mermaid(machine: Machine) -> str:
    """The chart as Mermaid text (`stateDiagram-v2`)."""
    chart = Chart(machine)
    lines = ["stateDiagram-v2", *_mermaid_states(chart.root, 1)]
    drawn = arrows(chart)
    for arrow in drawn:
        if arrow.target is not None and arrow.source.parent is not None:
            label = _text(arrow.label)
            lines.append(f"    {_id(arrow.source)} --> {_id(arrow.target)} : {label}")
    if anywhere := _anywhere(chart, drawn):
        beside = _id(next(iter(chart.root.children.values())))
        texts = [f"        {_text(text)}" for text in anywhere]
        lines += [f"    note right of {beside}", *texts, "    end note"]
    return "\n".join(lines) + "\n"


def _mermaid_states(node: Node, depth: int) -> Iterator[str]:
    indent = "    " * depth
    if node.state.initial is not None:
        yield f"{indent}[*] --> {_id(node.children[node.state.initial])}"
    for child in node.children.values():
        name = f"{child.name} (work ids)" if child.is_cyclic else child.name
        if child.children:
            yield f'{indent}state "{_text(name)}" as {_id(child)} {{'
            yield from _mermaid_states(child, depth + 1)
            yield f"{indent}}}"
        else:
            yield f'{indent}state "{_text(name)}" as {_id(child)}'
        if child.state.is_final:
            yield f"{indent}{_id(child)} --> [*]"


def _text(text: str) -> str:
    """A text as Mermaid takes it: what would mean something to it, or to a page around it, by its number."""
    return "".join(f"#{ord(one)};" if one in _MEANT else one for one in text)


def _id(node: Node) -> str:
    """An identifier that Mermaid takes: letters and digits as they are, all else by its number."""
    return "s_" + "".join(one if one.isalnum() else f"_{ord(one):x}_" for one in node.path)


def arrows(chart: Chart) -> list[Arrow]:
    """All transitions, in the order of the definition."""
    found: list[Arrow] = []
    for node in chart.nodes.values():
        for type_, edges in node.handlers.items():
            if edges is None:
                found.append(Arrow(node, None, f"{type_} (forbidden)"))
            found += [_arrow(edge, type_) for edge in edges or ()]
        found += [_arrow(edge, "always") for edge in node.always]
        for after, (_, edge) in zip(node.state.after, node.timers, strict=True):
            delay = f"{after.delay} s" if isinstance(after.delay, int | float) else "…"
            found.append(_arrow(edge, f"after {delay}"))
    return found


def _arrow(edge: Edge, label: str) -> Arrow:
    return Arrow(edge.source, edge.target, label if edge.guard is None else f"{label} [guard]")


class _Box(NamedTuple):
    """Where a state stands."""

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]


def svg(machine: Machine) -> str:
    """The chart as an SVG picture."""
    chart = Chart(machine)
    drawn = arrows(chart)
    boxes: dict[str, _Box] = {}
    lanes = len([one for one in drawn if one.target is not None])
    longest = max((len(one.label) for one in drawn if one.target is not None), default=0)
    room = max(LABEL, round(LETTER * longest))
    beside = room + LANE * (lanes + 1)
    left = PAD + beside
    bottom = GAP + LINE * len(_anywhere(chart, drawn))
    for child in chart.root.children.values():
        bottom = _place(child, left, bottom, drawn, boxes) + GAP
    right = max(box.x + box.width for box in boxes.values())
    width = right + beside + PAD
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f"<title>{escape(machine.id)}</title>",
        *_ARROW_HEAD,
        *(_drawn_box(chart.nodes[path], box) for path, box in boxes.items()),
        *_drawn_anywhere(chart, drawn, left),
        *_drawn_arrows(drawn, boxes, left - room, right + room),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


_ARROW_HEAD = (
    (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
    ),
)


def _place(node: Node, x: int, y: int, drawn: list[Arrow], boxes: dict[str, _Box]) -> int:
    """Give a state and those in it their places; returns where the next may begin."""
    lines = tuple(_written(node, drawn))
    widest = max(len(one) for one in (f"● {node.name}", *lines))
    width = max(WIDTH, 2 * PAD + round(LETTER * widest))
    boxes[node.path] = _Box(
        x, y, width, 0, lines
    )  # a place in the order: what is around is drawn first
    leaving = sum(1 for one in drawn if one.source is node and one.target is not None)
    bottom = y + PAD + LINE * (1 + max(len(lines), leaving))
    right = x + width
    for child in node.children.values():
        bottom = _place(child, x + PAD, bottom + PAD, drawn, boxes)
        inner = boxes[child.path]
        right = max(right, inner.x + inner.width + PAD)
    bottom += PAD
    boxes[node.path] = _Box(x, y, right - x, bottom - y, lines)
    return bottom


def _written(node: Node, drawn: list[Arrow]) -> Iterator[str]:
    if node.entry:
        yield f"entry: {len(node.entry)} action(s)"
    if node.exit:
        yield f"exit: {len(node.exit)} action(s)"
    for job in node.jobs:
        child = job.definition.persistent
        yield f"invoke: {job.id}" if child is None else f"child: {job.id} ({child.machine})"
    yield from (one.label for one in drawn if one.source is node and one.target is None)


def _drawn_box(node: Node, box: _Box) -> str:
    rim = '<rect x="{}" y="{}" width="{}" height="{}" rx="8" fill="{}" stroke="#555"/>'
    fill = "#eee" if node.state.is_final else "#fff"
    parts = [rim.format(box.x, box.y, box.width, box.height, fill)]
    if node.is_cyclic:
        parts.append(rim.format(box.x + 3, box.y + 3, box.width - 6, box.height - 6, "none"))
    assert node.parent is not None, "the root is not drawn"
    marks = ("● " if node.parent.state.initial == node.name else "", node.name)
    texts = ("".join(marks), *box.lines)
    for number, text in enumerate(texts):
        weight = ' font-weight="bold"' if number == 0 else ' fill="#555"'
        y = box.y + PAD + LINE * number + LINE // 2
        parts.append(f'<text x="{box.x + PAD}" y="{y + 4}"{weight}>{escape(text)}</text>')
    return "\n".join(parts)


def _anywhere(chart: Chart, drawn: list[Arrow]) -> list[str]:
    """What the machine itself does about events, whatever state it is in."""
    mine = [one for one in drawn if one.source is chart.root]
    return [
        f"anywhere: {one.label}" + (f" → {one.target.path}" if one.target is not None else "")
        for one in mine
    ]


def _drawn_anywhere(chart: Chart, drawn: list[Arrow], left: int) -> Iterator[str]:
    for number, text in enumerate(_anywhere(chart, drawn)):
        yield f'<text x="{left}" y="{GAP // 2 + LINE * number + 4}">{escape(text)}</text>'


def _drawn_arrows(
    drawn: list[Arrow], boxes: dict[str, _Box], left: int, right: int
) -> Iterator[str]:
    """Arrows in lanes of their own, to the left and the right of everything else."""
    lane = 0
    leaving: dict[str, int] = {}
    for arrow in drawn:
        source, target = boxes.get(arrow.source.path), None
        if arrow.target is not None:
            target = boxes.get(arrow.target.path)
        if source is None or target is None:
            continue  # from anywhere, or without a target: written, not drawn
        lane += 1
        down = target.y > source.y
        number = leaving[arrow.source.path] = leaving.get(arrow.source.path, 0) + 1
        start, end = source.y + PAD + LINE * number, target.y + LINE // 2
        near = (source.x + source.width, target.x + target.width) if down else (source.x, target.x)
        far = right + LANE * lane if down else left - LANE * lane
        yield (
            f'<path d="M{near[0]} {start}H{far}V{end}H{near[1]}" fill="none" stroke="#555"'
            ' marker-end="url(#head)"/>'
        )
        anchor = "start" if down else "end"
        x = near[0] + 4 if down else near[0] - 4
        yield (
            f'<text x="{x}" y="{start - 3}" text-anchor="{anchor}"'
            f' font-size="11">{escape(arrow.label)}</text>'
        )
