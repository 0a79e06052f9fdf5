"""Pictures and texts of runs, from notes made by hand and from drawn ones."""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from simulations.gist import MAX_ARROWS, MAX_CAPTIONS, MAX_LANES, MAX_MARKS, gist
from simulations.paint import state_colours
from simulations.picture import draw_svg
from simulations.telling import MAX_ROWS, WIDTH, draw_text
from simulations.trace import Kind, Note

SVG = "{http://www.w3.org/2000/svg}"


def links(at: float, left: str, right: str, text: str) -> list[Note]:
    """All links between the devices of two groups, both ways."""
    pairs = [(one, other) for one in left for other in right]
    return [
        Note(at, one, Kind.LINK, text, other) for pair in pairs for one, other in (pair, pair[::-1])
    ]


PARTED = [
    *(Note(0.0, name, Kind.START, "1") for name in "abc"),
    Note(1.0, "a", Kind.EVENT, "1/a:0"),
    *(Note(1.0, name, Kind.STATE, "work 11111111") for name in "abc"),
    Note(2.0, "", Kind.OPERATION, "The link to c fails."),
    *links(2.0, "ab", "c", "cut"),
    Note(3.0, "a", Kind.EVENT, "2/a:1"),
    Note(3.001, "a", Kind.STATE, "work 22222222"),
    Note(3.01, "b", Kind.MESSAGE, "1 events", "a", 3.0),
    Note(3.02, "b", Kind.RECEIVED, "2/a:1", "a"),
    Note(3.021, "b", Kind.STATE, "work 22222222"),
    Note(3.03, "c", Kind.LOST, "", "a", 3.0),
    Note(500.0, "b", Kind.POWER_CUT),
    Note(510.0, "b", Kind.START, "2"),
    *links(600.0, "ab", "c", "open"),
    Note(600.1, "c", Kind.RECEIVED, "2/a:1", "a"),
    Note(600.2, "c", Kind.STATE, "work 22222222"),
]


def drawn(notes: Sequence[Note], title: str = "a run", devices: Sequence[str] = ()) -> ET.Element:
    return ET.fromstring(draw_svg(notes, title=title, devices=devices))  # noqa: S314 - our own text


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if element.get("class") == name]


def tooltip(element: ET.Element) -> str:
    return element.findtext(f"{SVG}title") or ""


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def top_and_bottom(element: ET.Element) -> tuple[float, float]:
    top = float(element.get("y", ""))
    return top, top + float(element.get("height", ""))


def height_of(root: ET.Element, kind: str, said: str) -> float:
    """How far down a mark stands."""
    [mark] = [one for one in of_class(root, kind) if said in tooltip(one)]
    return float(mark.get("transform", "").rstrip(")").split()[-1])


def test_each_device_has_one_lane_and_its_name() -> None:
    root = drawn(PARTED)
    assert [tooltip(lane) for lane in of_class(root, "lane")] == [
        f"device {name}" for name in "abc"
    ]
    assert {"a", "b", "c"} <= set(texts(root))


def test_lanes_stand_in_the_order_that_is_asked_for() -> None:
    root = drawn(PARTED, devices=["c", "x"])
    assert [tooltip(lane)[-1] for lane in of_class(root, "lane")] == ["c", "x", "a", "b"]


def test_what_is_lost_has_a_cross_and_what_arrives_an_arrow() -> None:
    root = drawn(PARTED)
    [lost] = of_class(root, "lost")
    assert tooltip(lost).startswith("lost: a → c")
    [message] = of_class(root, "message")
    assert tooltip(message).startswith("a → b: 1 events")


def test_equal_digests_have_equal_colours_and_others_others() -> None:
    fills: dict[str, set[str]] = {}
    for stripe in of_class(drawn(PARTED), "state"):
        fills.setdefault(tooltip(stripe).split()[-1], set()).add(stripe.get("fill", ""))
    assert set(fills) == {"11111111", "22222222"}
    assert all(len(colours) == 1 for colours in fills.values())
    assert fills["11111111"] != fills["22222222"]


def test_a_thousand_states_have_a_thousand_colours() -> None:
    digests = [f"{number:08x}" for number in range(1000)]
    colours = state_colours(digests + digests)
    assert len(set(colours.values())) == len(colours) == 1000
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours.values())


def test_a_partition_is_one_band_from_the_cut_to_the_healing() -> None:
    root = drawn(PARTED)
    [band] = of_class(root, "partition")
    assert tooltip(band) == "partition: a b | c, 2.000 s to 10:00.000"
    top, bottom = top_and_bottom(band.findall(f"{SVG}rect")[0])
    assert height_of(root, "event", "1/a:0") < top < height_of(root, "event", "2/a:1")
    assert height_of(root, "start", "start 2") < bottom
    assert bottom < height_of(root, "received", "c: received")
    assert len(of_class(root, "wall")) == 1


def test_a_link_that_is_bad_one_way_is_a_band_between_its_lanes() -> None:
    notes = [Note(1.0, "a", Kind.LINK, "stalled", "b"), Note(2.0, "a", Kind.LINK, "open", "b")]
    root = drawn(notes, devices="abc")
    assert [tooltip(link) for link in of_class(root, "link")] == [
        "a → b stalled, 1.000 s to 2.000 s"
    ]
    assert not of_class(root, "partition")


def test_a_pair_that_others_connect_is_no_partition() -> None:
    bands = gist([*links(1.0, "a", "b", "cut"), *links(5.0, "a", "b", "open")], "abc").bands
    assert [band.label for band in bands] == ["a ↔ b cut"]


def test_parts_that_become_more_are_bands_one_after_the_other() -> None:
    notes = [
        *links(1.0, "ab", "c", "cut"),
        *links(2.0, "a", "b", "cut"),
        *links(3.0, "abc", "abc", "open"),
    ]
    bands = gist([note for note in notes if note.node != note.peer], "abc").bands
    assert [(band.label, band.since, band.until) for band in bands] == [
        ("partition: a b | c", 1.0, 2.0),
        ("partition: a | b | c", 2.0, 3.0),
    ]


def test_a_link_that_flaps_is_one_band() -> None:
    notes = [
        Note(1.0 + number, "a", Kind.LINK, ("cut", "open")[number % 2], "b") for number in range(20)
    ]
    [band] = gist(notes, "abc").bands
    assert (band.label, band.since, band.until) == ("a → b flapping", 1.0, 20.0)


def test_a_cut_soon_after_another_is_another() -> None:
    notes = [
        *links(1.0, "a", "b", "cut"),
        *links(9.0, "a", "b", "open"),
        *links(9.5, "a", "b", "cut"),
        *links(20.0, "a", "b", "open"),
    ]
    assert [band.since for band in gist(notes).bands] == [1.0, 9.5]


def test_states_end_with_the_node_that_shows_them() -> None:
    spans = [span for span in gist(PARTED).spans if span.node == "b"]
    assert [(span.digest[0], span.since, span.until) for span in spans] == [
        ("1", 1.0, 3.021),
        ("2", 3.021, 500.0),
    ]
    assert [(gone.since, gone.until) for gone in gist(PARTED).absences if gone.node == "b"] == [
        (500.0, 510.0)
    ]


def test_routine_is_left_out_and_said_to_be() -> None:
    pings = [Note(float(at), "b", Kind.MESSAGE, "ping", "a", at - 0.01) for at in range(5, 100)]
    root = drawn([*PARTED[:5], *pings])
    assert not of_class(root, "message")
    assert any(text.startswith("left out: 95 messages of routine") for text in texts(root))


def test_what_is_much_alike_in_a_moment_is_one_arrow_and_one_dot() -> None:
    notes = [Note(1 + n / 1000, "a", Kind.EVENT, f"{n}/a:{n}") for n in range(9)]
    notes += [Note(2 + n / 1000, "b", Kind.MESSAGE, "1 events", "a", 1.9) for n in range(9)]
    told = gist(notes)
    assert [(mark.text, mark.times) for mark in told.marks] == [("0/a:0 … 8/a:8", 9)]
    assert [arrow.times for arrow in told.arrows] == [9]


def test_a_message_lost_again_and_again_is_lost_once() -> None:
    notes = [Note(1 + n / 5, "b", Kind.LOST, "", "a", 0.9) for n in range(50)]
    assert len(gist(notes).arrows) == 1


def test_labels_of_a_lane_never_touch_and_time_never_goes_up() -> None:
    notes = [Note(1 + n / 20, "a", Kind.EVENT, f"{n}/a:{n}") for n in range(60)]
    root = drawn([*notes, Note(400.0, "a", Kind.EVENT, "99/a:99")])
    heights = [
        float(one.get("transform", "").rstrip(")").split()[-1]) for one in of_class(root, "event")
    ]
    assert len(heights) == 61
    assert min(after - before for before, after in pairwise(heights)) >= 12
    assert len(of_class(root, "break")) == 2, "on the axis and on the lane"


def test_a_failure_is_said_at_the_end() -> None:
    notes = [*PARTED, Note(601.0, "", Kind.FAILURE, "law 8: x differs")]
    assert "law 8: x differs" in texts(drawn(notes))
    assert "FAILED: law 8: x differs" in draw_text(notes, title="t")


HOSTILE = '<script>alert("&")</script>\x00\x1b[2J\ud800'


def test_hostile_names_are_text() -> None:
    notes = [
        Note(0.0, HOSTILE, Kind.START, "1"),
        Note(1.0, HOSTILE, Kind.EVENT, HOSTILE),
        Note(1.0, HOSTILE, Kind.STATE, HOSTILE),
        Note(1.2, "b", Kind.MESSAGE, HOSTILE, HOSTILE, 1.1),
        Note(1.5, "", Kind.OPERATION, HOSTILE),
        Note(2.0, HOSTILE, Kind.LINK, HOSTILE, "b"),
        Note(3.0, "", Kind.FAILURE, HOSTILE),
    ]
    root = drawn(notes, title=HOSTILE)
    assert not list(root.iter(f"{SVG}script"))
    svg = draw_svg(notes, title=HOSTILE)
    svg.encode()
    assert "<script" not in svg
    text = draw_text(notes, title=HOSTILE)
    assert "\x1b" not in text
    assert "\x00" not in text


def test_nothing_is_fetched_from_outside() -> None:
    svg = draw_svg(PARTED, title="a run")
    assert re.findall(r"[a-z]+=\S*http", svg) == ['xmlns="http']
    assert svg.count("http") == 1
    assert "href" not in svg
    assert "@import" not in svg


@pytest.mark.parametrize("notes", [[], PARTED[:1], [Note(1.0, "", Kind.OPERATION, "")]])
def test_little_is_drawn_too(notes: list[Note]) -> None:
    drawn(notes)
    assert draw_text(notes, title="t").startswith("t\n")


def everything(count: int, devices: int) -> Iterator[Note]:
    """Notes of all kinds, drawn from a seed."""
    draw = random.Random(count)
    names = [f"n{number}" for number in range(devices)]
    kinds = [*Kind, Kind.MESSAGE, Kind.MESSAGE, Kind.EVENT, Kind.STATE]
    at = 0.0
    for number in range(count):
        at += draw.expovariate(100)
        kind = draw.choice(kinds)
        node, peer = draw.sample(names, 2)
        text = {
            Kind.STATE: f"work {draw.getrandbits(32):08x}",
            Kind.LINK: draw.choice(["cut", "open", "stalled", "slow"]),
        }.get(kind, f"{number}/{node}:{number}")
        yield Note(at, node, kind, text, peer, max(0.0, at - draw.random()))


def test_a_picture_does_not_grow_with_its_run() -> None:
    small, large = (drawn(list(everything(count, 8))) for count in (20_000, 100_000))
    for root in (small, large):
        assert len(of_class(root, "message") + of_class(root, "lost")) <= MAX_ARROWS
        assert (
            sum(
                len(of_class(root, kind.replace(" ", "-")))
                for kind in Kind
                if kind not in ("lost", "message", "state", "link", "failure")
            )
            <= MAX_MARKS
        )
        assert len(list(root.iter())) < 12_000
        assert float(root.get("width", "")) <= 1200
        assert float(root.get("height", "")) < 30_000
        assert any(text.startswith("left out: ") for text in texts(root))
    assert len(gist(list(everything(20_000, 8))).captions) <= MAX_CAPTIONS
    lines = draw_text(list(everything(100_000, 8)), title="t").splitlines()
    assert len(lines) < MAX_ROWS + 20
    assert any("rows left out" in line for line in lines)


def test_more_devices_than_fit_are_counted() -> None:
    notes = [Note(1.0, f"n{number}", Kind.START, "1") for number in range(100)]
    root = drawn(notes)
    assert len(of_class(root, "lane")) == MAX_LANES
    assert "left out: 76 devices" in texts(root)


def test_the_same_notes_give_the_same_picture() -> None:
    notes = list(everything(2000, 6))
    assert draw_svg(notes, title="t") == draw_svg(notes, title="t")
    assert draw_text(notes, title="t") == draw_text(notes, title="t")


def test_the_text_names_events_arrows_bands_and_states() -> None:
    text = draw_text(PARTED, title="a run")
    for said in (
        "a writes 1/a:0",
        "a writes 2/a:1",
        "b receives 2/a:1",
        "a → b 1 events",
        "a → c LOST",
        "== partition: a b | c",
        "== over: partition: a b | c",
        "b loses its power",
        "a shows work 22222222 (B)",
        "# The link to c fails.",
        "quiet",
    ):
        assert said in text
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_the_text_shows_at_each_row_who_differs() -> None:
    [row] = [line for line in draw_text(PARTED, title="t").splitlines() if "b loses" in line]
    assert re.search(r"│ B +! +│ A", row)
