"""How pictures look: colours, letters and shapes, and the few elements of SVG that are made of them.

They stand apart from `simulations.picture`, which says what stands where, so that each changes without the other.
Whatever text comes in (names, payloads, errors) goes through `xml_text`, so that it is text and never markup.
"""

import re
from collections.abc import Iterable, Mapping
from colorsys import hls_to_rgb
from html import escape

from simulations.trace import Kind

BACKGROUND, INK, PALE, LANE = "#fcfcfa", "#1f2a37", "#6b7480", "#9aa3ad"
MESSAGE, HEAVY, LOST, ALARM, EVENT = "#b3c0d1", "#4f7cac", "#d1495b", "#c1121f", "#1d3557"
PARTITION, WALL = "#f0efea", "#a8a69c"
CONDITIONS: Mapping[str, str] = {
    "cut": "#a8a69c",
    "stalled": "#d98e04",
    "slow": "#8a6fb0",
    "flapping": "#a8a69c",
}

PALETTE = (
    *("#f2b705", "#3a86c8", "#d1495b", "#2a9d6f", "#8d5bbf", "#16a3b8", "#e58fb1", "#8a9a1b"),
    *("#2f4b7c", "#a8623a", "#7fc97f", "#b0b7c3"),
)
"""Colours of states, well apart from each other; beyond these others are made, which are not so well apart."""

RECENT = 3
"""A new state's colour is as far as can be from those of so many states before it."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
SMALL, NORMAL, LARGE = 10.5, 12.0, 15.0
TITLES = (20.0, 17.0, 14.0)
"""Sizes of the title; the first in which it fits."""

WIDTH_OF_LETTER = 0.6
"""Of the size of the letter: an estimate that is rather too wide."""

MAX_TEXT = 300
"""Letters of a caption or failure that are shown."""

BOLT = "m-2 -9h6l-3 6h4l-9 11 3 -8h-4z"
SHAPES: Mapping[Kind, str] = {
    Kind.EVENT: f'<circle r="4.4" fill="{EVENT}"/>',
    Kind.RECEIVED: f'<circle r="2.6" fill="{EVENT}" stroke="{BACKGROUND}" stroke-width="0.8"/>',
    Kind.START: f'<circle r="5" fill="{BACKGROUND}" stroke="{INK}" stroke-width="1.8"/>',
    Kind.STOP: f'<path d="M-6 0h12" stroke="{INK}" stroke-width="2.4"/>',
    Kind.CRASH: f'<path d="{BOLT}" fill="#e07a1f" stroke="{BACKGROUND}" stroke-width="0.8"/>',
    Kind.POWER_CUT: f'<path d="{BOLT}" fill="{ALARM}" stroke="{BACKGROUND}" stroke-width="0.8"/>',
    Kind.CLOCK: (
        f'<circle r="5.6" fill="{BACKGROUND}" stroke="#7a4a9e" stroke-width="1.5"/>'
        '<path d="M0 -3.6V0L2.6 1.8" fill="none" stroke="#7a4a9e" stroke-width="1.3"/>'
    ),
    Kind.DISK: (
        f'<path d="M-5 -5h8l2 2v8h-10zM-2.6 -5v3.4h4.4v-3.4" fill="{BACKGROUND}"'
        ' stroke="#9a6b1f" stroke-width="1.4"/>'
    ),
}
"""Around 0, 0, which is a point of a lane."""

UNPRINTABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def state_colours(digests: Iterable[str]) -> dict[str, str]:
    """A colour for each digest, no two the same; states that follow each other get colours far apart.

    The first colour is derived from its digest, and the others from the order in which states come, which is the order
    of time; so the same run has the same colours.
    """
    colours: dict[str, str] = {}
    free = list(PALETTE)
    for number, digest in enumerate(dict.fromkeys(digests)):
        recent = list(colours.values())[-RECENT:]
        if recent and free:
            colours[digest] = max(
                free, key=lambda one: min(_distance(one, other) for other in recent)
            )
        elif free:
            colours[digest] = free[int.from_bytes(digest.encode()) % len(free)]
        else:
            colours[digest] = _further(number, set(colours.values()))
        free = [one for one in free if one != colours[digest]]
    return colours


def _distance(one: str, other: str) -> float:
    """How different two colours look, roughly: green counts most, blue least."""
    parts = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), (3, 4, 2), strict=True)
    return sum(weight * (a - b) ** 2 for a, b, weight in parts)


def _further(number: int, used: set[str]) -> str:
    """Hues by the golden angle are as far from each other as their number allows."""
    while True:
        lightness = (0.42, 0.58, 0.72)[number % 3]
        rgb = hls_to_rgb(number * 0.381966 % 1.0, lightness, 0.35 + number % 7 * 0.05)
        colour = "#" + "".join(f"{round(part * 255):02x}" for part in rgb)
        if colour not in used:
            return colour
        number += 1


def definitions() -> str:
    """Arrow heads and hatchings."""
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" markerHeight="{size}"'
        f' markerUnits="userSpaceOnUse" orient="auto"><path d="M0 1L8 4L0 7z" fill="{colour}"/></marker>'
        for name, colour, size in (("heavy", HEAVY, 8), ("light", MESSAGE, 7))
    )
    hatches = [_hatch("cut", WALL, 6, 2.4, "#e3e1d9")]
    hatches += [
        _hatch(f"link-{name}", colour, 9, 1.4, "none") for name, colour in CONDITIONS.items()
    ]
    return f"<defs>{heads}{''.join(hatches)}</defs>"


def _hatch(name: str, colour: str, step: int, wide: float, ground: str) -> str:
    return (
        f'<pattern id="{name}" width="{step}" height="{step}" patternUnits="userSpaceOnUse"'
        f' patternTransform="rotate(45)"><rect width="{step}" height="{step}" fill="{ground}"/>'
        f'<path d="M0 0V{step}" stroke="{colour}" stroke-width="{wide}"/></pattern>'
    )


def label(
    x: float,
    y: float,
    text: str,
    *,
    size: float = NORMAL,
    anchor: str = "start",
    fill: str = INK,
    weight: str = "",
    style: str = "",
    halo: bool = False,
) -> str:
    """A line of text; with a halo it can be read across lines."""
    more = "" if anchor == "start" else f' text-anchor="{anchor}"'
    more += f' font-weight="{weight}"' if weight else ""
    more += f' font-style="{style}"' if style else ""
    more += f' stroke="{BACKGROUND}" stroke-width="3" paint-order="stroke"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}"{more}>{xml_text(text)}</text>'


def text_width(text: str, size: float) -> float:
    """How wide a line of text may be at most, mostly."""
    return len(text) * size * WIDTH_OF_LETTER


def tip(text: str) -> str:
    """What is shown when the pointer rests on the element around it."""
    return f"<title>{xml_text(shortened(text, MAX_TEXT))}</title>"


def xml_text(text: str) -> str:
    """Text as it may stand in XML, whatever it is."""
    return escape(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def shortened(text: str, letters: int) -> str:
    """The text, cut off if it has more letters."""
    return text if len(text) <= letters else text[: max(1, letters - 1)] + "…"
