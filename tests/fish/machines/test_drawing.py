"""Charts as text and pictures, drawn from the definition."""

from xml.etree import ElementTree as ET

import pytest

from fish.machines import assign, cyclic, final, invoke, machine, state, to
from fish.machines.drawing import mermaid, svg

DOOR = machine(
    "door",
    initial="closed",
    states={
        "closed": state(on={"OPEN": to("open", guard="$ctx.free"), "KNOCK": None}),
        "open": state(
            initial="ajar",
            states={"ajar": state(on={"PUSH": "wide"}), "wide": state()},
            on={"CLOSE": "closed", "BREAK": "gone", "WORK": "busy"},
        ),
        "busy": cyclic(closes="ids", on={"STOP": "closed"}, invoke=invoke("hum", done="closed")),
        "gone": final(),
    },
)


def test_mermaid_names_every_state_and_every_way_between_them() -> None:
    assert mermaid(DOOR) == (
        "stateDiagram-v2\n"
        "    [*] --> s_closed\n"
        '    state "closed" as s_closed\n'
        '    state "open" as s_open {\n'
        "        [*] --> s_open_2e_ajar\n"
        '        state "ajar" as s_open_2e_ajar\n'
        '        state "wide" as s_open_2e_wide\n'
        "    }\n"
        '    state "busy (work ids)" as s_busy\n'
        '    state "gone" as s_gone\n'
        "    s_gone --> [*]\n"
        "    s_closed --> s_open : OPEN [guard]\n"
        "    s_open --> s_closed : CLOSE\n"
        "    s_open --> s_gone : BREAK\n"
        "    s_open --> s_busy : WORK\n"
        "    s_open_2e_ajar --> s_open_2e_wide : PUSH\n"
        "    s_busy --> s_closed : STOP\n"
        "    s_busy --> s_closed : done.invoke.hum\n"
    )


def test_the_picture_is_well_formed_and_shows_every_state_and_label() -> None:
    tree = ET.fromstring(svg(DOOR))  # noqa: S314 - our own output
    texts = {one.text for one in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"● closed", "open", "● ajar", "wide", "busy", "gone"} <= texts
    assert {"OPEN [guard]", "KNOCK (forbidden)", "PUSH", "STOP", "invoke: hum"} <= texts
    paths = list(tree.iter("{http://www.w3.org/2000/svg}path"))
    assert len(paths) == 1 + 7  # the arrow's head, and an arrow for each way
    width, height = (int(tree.attrib[name]) for name in ("width", "height"))
    for box in tree.iter("{http://www.w3.org/2000/svg}rect"):
        assert int(box.attrib["x"]) + int(box.attrib["width"]) <= width
        assert int(box.attrib["y"]) + int(box.attrib["height"]) <= height


def test_names_are_escaped() -> None:
    odd = machine("a<b", initial="x&y", states={"x&y": state(on={"<": to("x&y")})})
    ET.fromstring(svg(odd))  # noqa: S314 - our own output
    assert "s_x_26_y --> s_x_26_y" in mermaid(odd)


ODD = [
    'say "hi"',
    "a;b#c",
    "<b>",
    "{x}",
    "[*]",
    "end",
    "über 日本",
    "a-->b",
    "very " * 20,
    "%%",
    "`",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_break_neither_picture(name: str) -> None:
    odd = machine(
        "m", initial=name, states={name: state(on={name: "z"}), "z": state(on={"B": name})}
    )
    text = mermaid(odd)
    lines = text.splitlines()
    assert all(line.count('"') in (0, 2) for line in lines)
    assert [line.count(" : ") for line in lines].count(1) == 2
    assert not any(
        mark in line.partition(" : ")[2] for line in lines for mark in ";:{}<>" if "#" not in line
    )
    tree = ET.fromstring(svg(odd))  # noqa: S314 - our own output
    boxes = list(tree.iter("{http://www.w3.org/2000/svg}rect"))
    assert all(int(box.attrib["width"]) >= 7 * len(name) for box in boxes[:1])


def test_what_a_machine_does_anywhere_is_written_beside_it() -> None:
    calm = machine(
        "m",
        initial="a",
        on={"RESET": "a", "COUNT": to(do=assign(n=1)), "NO": None},
        states={"a": state(on={"GO": "b"}), "b": state()},
    )
    texts = [one.text for one in ET.fromstring(svg(calm)).iter() if one.text]  # noqa: S314 - our own output
    for said in ("anywhere: RESET → a", "anywhere: COUNT", "anywhere: NO (forbidden)"):
        assert said in texts
        assert said.replace(":", "#58;") in mermaid(calm)
