"""A run as a picture: a space-time diagram in one SVG, for people who want to see what a partition does.

Every device has a lane, time goes down. What is shown is chosen by `simulations.gist`, and how far down it stands is
worked out by `simulations.layout`; here it gets its place from left to right, its shape and its colour. The SVG needs
nothing from outside (no scripts, fonts or links) and paints its own background, so it can stand in any document.

The way of a note: `gist` -> `_placed`, which gives it a height -> one function per layer, from bands at the back to
labels in front -> an element of text.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from simulations.gist import TIMES, WEIGHTY, Arrow, Band, Caption, Gist, Mark, gist
from simulations.layout import Item, Scale, make_scale
from simulations.paint import (
    ALARM,
    BACKGROUND,
    CONDITIONS,
    FONT,
    HEAVY,
    INK,
    LANE,
    LARGE,
    LOST,
    MAX_TEXT,
    MESSAGE,
    NORMAL,
    PALE,
    PALETTE,
    PARTITION,
    SHAPES,
    SMALL,
    TITLES,
    WIDTH_OF_LETTER,
    definitions,
    label,
    shortened,
    state_colours,
    text_width,
    tip,
    xml_text,
)
from simulations.telling import moment, span
from simulations.trace import Kind, Note

WIDTH = 1180
CAPTION_WIDTH, AXIS_WIDTH, EDGE = 220.0, 86.0, 24.0
CAPTION_LETTERS = 35
WIDEST_GAP, SPARE_RIGHT = 210.0, 120.0
LABELLED_GAP = 92.0
"""Lanes that are closer have labels only in their tooltips."""

WALL_AT = 0.2
"""How far left of a lane the wall stands that cuts it off, in gaps."""

LINE = 15.0
STRIPE, STRIPE_GAP = 6.0, 2.0
HIGH = 900.0
"""A picture higher than this has the names of the devices below as well."""

MARK_HEIGHTS: Mapping[Kind, float] = {Kind.RECEIVED: 6.0, Kind.EVENT: 13.0}
MARK_HEIGHT, GROUP_HEIGHT, NOTICE_HEIGHT = 17.0, 14.0, 23.0


def draw_svg(notes: Sequence[Note], *, title: str, devices: Sequence[str] = ()) -> str:
    """The notes of a run, in the order of time, as an SVG; `devices` says in which order the lanes stand."""
    told = gist(notes, devices)
    page = _placed(told, title)
    layers = (
        _partitions(page),
        _bad_links(page),
        _lanes(page),
        _stripes(page),
        _breaks(page),
        _axis(page),
        _arrows(page),
        _marks(page),
        _notices(page),
        _captions(page),
        _failure(page),
        _names(page),
        _heading(page),
        _footer(page),
    )
    body = "\n".join(line for layer in layers for line in layer)
    size = f'width="{page.width:.0f}" height="{page.height:.0f}" viewBox="0 0 {page.width:.0f} {page.height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}"'
        f' font-size="{NORMAL:g}" fill="{INK}">\n<title>{xml_text(title)}</title>\n{definitions()}\n'
        f'<rect width="100%" height="100%" fill="{BACKGROUND}"/>\n{body}\n</svg>\n'
    )


@dataclass(frozen=True, slots=True)
class _Page:
    """Where everything stands."""

    gist: Gist
    title: str
    scale: Scale
    places: Mapping[Mark | Caption, float]
    colours: Mapping[str, str]
    lanes: Mapping[str, float]
    gap: float
    axis: float
    width: float
    top: float
    bottom: float
    height: float
    legend: Sequence[Sequence[tuple[float, str, str]]]
    failure: Sequence[str]

    def y(self, at: float) -> float:
        return self.scale.y(at)

    @property
    def label_offset(self) -> float:
        """How far right of a lane its labels begin: behind the stripes."""
        return 9.0 + len(self.gist.fish) * (STRIPE + STRIPE_GAP)

    @property
    def letters(self) -> int:
        """Letters that fit beside a lane."""
        room = min(self.gap, SPARE_RIGHT + 40.0) - self.label_offset - 26.0
        return max(4, int(room / (SMALL * WIDTH_OF_LETTER)))

    @property
    def left(self) -> float:
        return min(self.lanes.values(), default=self.axis) - 34.0

    @property
    def right(self) -> float:
        return max(self.lanes.values(), default=self.axis) + 34.0


def _placed(told: Gist, title: str) -> _Page:
    axis = EDGE + AXIS_WIDTH + (CAPTION_WIDTH if told.captions else 0.0)
    first, count = axis + 56.0, max(1, len(told.devices))
    gap = min(WIDEST_GAP, (WIDTH - first - SPARE_RIGHT) / max(1, count - 1))
    lanes = {name: first + number * gap for number, name in enumerate(told.devices)}
    width = min(WIDTH, max(760.0, first + (count - 1) * gap + SPARE_RIGHT))
    colours = state_colours(shown.digest for shown in told.spans)
    legend = _wrapped(_legend(told), width - 2 * EDGE)
    names_at = 64.0 + LINE * 1.4 * len(legend)
    scale, places = _scaled(told, names_at + 42.0)
    failure = [line for one in told.failures for line in _lines(one.text, int(width / 8))]
    bottom = scale.bottom + 22.0
    below = LINE * (len(failure) + len(told.left_out)) + (34.0 if bottom > HIGH else 0.0)
    height = bottom + below + 46.0
    return _Page(
        told, title, scale, places, colours, lanes, gap, axis, width,
        names_at, bottom, height, legend, failure,
    )  # fmt: skip


def _scaled(told: Gist, top: float) -> tuple[Scale, Mapping[Mark | Caption, float]]:
    """The scale of time, and the height of each mark and caption."""
    captions = ((one, Item(one.at, "", LINE * len(_caption(one)) + 7.0)) for one in told.captions)
    marks = ((one, Item(one.at, f"lane {one.node}", _mark_height(one))) for one in told.marks)
    notices = (
        (None, Item(band.since, "notices", NOTICE_HEIGHT, clears=True)) for band in told.bands
    )
    every: list[tuple[Mark | Caption | None, Item]] = [*captions, *marks, *notices]
    every.sort(key=lambda pair: pair[1].at)
    scale = make_scale(
        [item for _, item in every],
        [(arrow.since, arrow.at) for arrow in told.arrows],
        _moments(told),
        top,
    )
    pairs = zip(every, scale.places, strict=True)
    return scale, {one: place for (one, _), place in pairs if one is not None}


def _mark_height(mark: Mark) -> float:
    return GROUP_HEIGHT if mark.times > 1 else MARK_HEIGHTS.get(mark.kind, MARK_HEIGHT)


def _moments(told: Gist) -> Iterator[float]:
    yield from (told.begin, told.end)
    for stretches in (told.bands, told.spans, told.absences):
        for stretch in stretches:
            yield from (stretch.since, stretch.until)


# Layers


def _partitions(page: _Page) -> Iterator[str]:
    for band in page.gist.bands:
        if band.is_partition:
            top, height = page.y(band.since), page.y(band.until) - page.y(band.since)
            box = f'x="{page.left:.1f}" y="{top:.1f}" width="{page.right - page.left:.1f}" height="{height:.1f}"'
            yield f'<g class="partition">{tip(_during(band))}<rect {box} rx="5" fill="{PARTITION}"/>'
            yield from _walls(page, band, top, height)
            yield "</g>"


def _walls(page: _Page, band: Band, top: float, height: float) -> Iterator[str]:
    """A wall between neighbouring lanes that cannot talk, near the right one, where no labels are."""
    group_of = {name: number for number, group in enumerate(band.groups) for name in group}
    wide = min(22.0, page.gap * 0.2)
    for one, other in pairwise(page.gist.devices):
        if group_of[one] != group_of[other]:
            x = page.lanes[other] - page.gap * WALL_AT - wide / 2
            yield (
                f'<rect class="wall" x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}"'
                f' height="{height:.1f}" fill="url(#cut)"/>'
            )


def _bad_links(page: _Page) -> Iterator[str]:
    for band in page.gist.bands:
        if not band.is_partition:
            xs = sorted(page.lanes[name] for group in band.groups for name in group)
            top, height = page.y(band.since), max(2.0, page.y(band.until) - page.y(band.since))
            fill = f'fill="url(#{_pattern(band.condition)})" opacity="0.6"'
            yield (
                f'<rect class="link" x="{xs[0] + 3:.1f}" y="{top:.1f}" width="{xs[-1] - xs[0] - 6:.1f}"'
                f' height="{height:.1f}" {fill}>{tip(_during(band))}</rect>'
            )


def _pattern(condition: str) -> str:
    """The hatching of a band; a condition is a text of the run and never goes into an attribute itself."""
    if condition == "partition":
        return "cut"
    return f"link-{condition if condition in CONDITIONS else 'cut'}"


def _during(band: Band) -> str:
    return f"{band.label}, {moment(band.since)} to {moment(band.until)}"


def _lanes(page: _Page) -> Iterator[str]:
    for name, x in page.lanes.items():
        gone = [one for one in page.gist.absences if one.node == name]
        yield f'<g class="lane">{tip(f"device {name}")}'
        at = page.top + 30.0
        for one in gone:
            yield from _lane(x, at, page.y(one.since) if one.since > page.gist.begin else at, "")
            at = page.y(one.until)
            yield from _lane(
                x,
                max(page.y(one.since), page.top + 30.0),
                at,
                ' stroke-dasharray="1.5 6" class="off"',
            )
        yield from _lane(x, at, page.bottom, "" if not _ends_off(page, name) else ' opacity="0"')
        yield "</g>"


def _ends_off(page: _Page, name: str) -> bool:
    return any(one.node == name and one.until >= page.gist.end for one in page.gist.absences)


def _lane(x: float, top: float, bottom: float, style: str) -> Iterator[str]:
    if bottom > top:
        yield f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{LANE}" stroke-width="1.6"{style}/>'


def _stripes(page: _Page) -> Iterator[str]:
    columns = {fish: number for number, fish in enumerate(page.gist.fish)}
    for shown in page.gist.spans:
        x = page.lanes[shown.node] + 5.0 + columns[shown.fish] * (STRIPE + STRIPE_GAP)
        top, last = page.y(shown.since), shown.until >= page.gist.end
        bottom = page.bottom if last else page.y(shown.until)
        said = f"{shown.node} shows {shown.fish} {shown.digest} {shown.text}".rstrip()
        yield (
            f'<rect class="state" x="{x:.1f}" y="{top:.1f}" width="{STRIPE:g}"'
            f' height="{max(1.0, bottom - top):.1f}" fill="{page.colours[shown.digest]}">{tip(said)}</rect>'
        )


def _breaks(page: _Page) -> Iterator[str]:
    """A torn edge across axis and lanes where a quiet stretch was cut short."""
    for one in page.scale.breaks:
        y = (page.y(one.since) + page.y(one.until)) / 2
        for x in (page.axis, *page.lanes.values()):
            yield (
                f'<path class="break" d="M{x - 6:.1f} {y + 1:.1f}l4 -5 4 5 4 -5M{x - 6:.1f} {y + 6:.1f}l4 -5 4 5 4 -5"'
                f' fill="none" stroke="{PALE}" stroke-width="1.1"/>'
            )
        text = f"{span(one.until - one.since)} quiet"
        yield label(
            page.axis - 10, y + 4, text, size=SMALL, anchor="end", fill=PALE, style="italic"
        )


def _axis(page: _Page) -> Iterator[str]:
    x, top = page.axis, page.y(page.gist.begin)
    yield f'<path d="M{x:.1f} {top:.1f}V{page.bottom:.1f}" stroke="{PALE}" stroke-width="1"/>'
    free, quiet = top - 1, [(page.y(one.since), page.y(one.until)) for one in page.scale.breaks]
    for at, y in zip(page.scale.moments, page.scale.heights, strict=True):
        if y >= free and not any(since + 8 < y < until - 8 for since, until in quiet):
            yield f'<path d="M{x - 4:.1f} {y:.1f}h8" stroke="{PALE}"/>'
            yield label(x - 8, y + 4, moment(at), size=SMALL, anchor="end", fill=PALE)
            free = y + 22


def _arrows(page: _Page) -> Iterator[str]:
    rooms = _Rooms()
    for arrow in page.gist.arrows:
        yield from _lost(page, arrow) if arrow.lost else _message(page, arrow, rooms)


def _ends_of(page: _Page, arrow: Arrow) -> tuple[float, float, float, float]:
    x, to = page.lanes[arrow.source], page.lanes[arrow.target]
    inset = 4.0 if to > x else -4.0
    return x, page.y(arrow.since), to - inset, page.y(arrow.at)


def _message(page: _Page, arrow: Arrow, rooms: "_Rooms") -> Iterator[str]:
    x, y, to_x, to_y = _ends_of(page, arrow)
    heavy = WEIGHTY in arrow.text
    colour, wide = (HEAVY, 1.6) if heavy else (MESSAGE, 1.1)
    yield (
        f'<path class="message" d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{colour}" stroke-width="{wide}"'
        f' marker-end="url(#{"heavy" if heavy else "light"})">{tip(_said(arrow))}</path>'
    )
    if arrow.times > 1 and page.gap >= LABELLED_GAP:
        for part in (0.55, 0.62, 0.48, 0.68):
            at = (x + (to_x - x) * part, y + (to_y - y) * part - 2)
            if rooms.take(*at, 22.0, 10.0):
                yield label(*at, f"{TIMES}{arrow.times}", size=9.0, anchor="middle", fill=PALE)
                return


def _lost(page: _Page, arrow: Arrow) -> Iterator[str]:
    """A message that did not come ends where its cross is."""
    x, y, to_x, to_y = _ends_of(page, arrow)
    end_x = (
        max(x, to_x) if to_x > x else x
    ) - page.gap * WALL_AT  # where a wall is, if there is one
    end_y = y + (to_y - y) * (end_x - x) / (to_x - x)
    yield (
        f'<g class="lost" stroke="{LOST}" fill="none">{tip(_said(arrow))}'
        f'<path d="M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}" stroke-width="1.1"/>'
        f'<path d="M{end_x - 4:.1f} {end_y - 4:.1f}l8 8m0 -8l-8 8" stroke-width="2"/></g>'
    )


def _said(arrow: Arrow) -> str:
    times = f" ({arrow.times} messages)" if arrow.times > 1 else ""
    lost = "lost: " if arrow.lost else ""
    when = f"{moment(arrow.since)} to {moment(arrow.at)}"
    return f"{lost}{arrow.source} → {arrow.target}: {arrow.text or 'a message'}{times}, {when}"


class _Rooms:
    """Where small labels stand already."""

    def __init__(self) -> None:
        self._taken: dict[int, list[tuple[float, float]]] = {}

    def take(self, x: float, y: float, width: float, height: float) -> bool:
        """Take the place around a point if it is free."""
        row = int(y / height)
        for near in (row - 1, row, row + 1):
            for other_x, other_y in self._taken.get(near, ()):
                if abs(x - other_x) < width and abs(y - other_y) < height:
                    return False
        self._taken.setdefault(row, []).append((x, y))
        return True


# Marks

SAYINGS: Mapping[Kind, str] = {
    Kind.EVENT: "{text}",
    Kind.START: "start {text}",
    Kind.STOP: "stop",
    Kind.CRASH: "crash",
    Kind.POWER_CUT: "power cut",
    Kind.CLOCK: "clock {text}",
    Kind.DISK: "disk {text}",
}


def _marks(page: _Page) -> Iterator[str]:
    for mark in page.gist.marks:
        x, y = page.lanes[mark.node], page.places[mark]
        said = _mark_label(mark)
        kind = mark.kind.replace(" ", "-")
        yield (
            f'<g class="{kind}" transform="translate({x:.1f} {y:.1f})">{tip(_mark_said(mark))}{SHAPES[mark.kind]}</g>'
        )
        if said and page.gap >= LABELLED_GAP:
            yield label(
                x + page.label_offset, y + 3.8, shortened(said, page.letters), size=SMALL, halo=True
            )


def _mark_label(mark: Mark) -> str:
    """What stands beside it; a first start and what is received one by one go without words."""
    if mark.kind is Kind.START and mark.text == "1":
        return ""
    if mark.times > 1:
        return f"{mark.times} {'received' if mark.kind is Kind.RECEIVED else 'events'}"
    return SAYINGS.get(mark.kind, "").replace("{text}", mark.text)


def _mark_said(mark: Mark) -> str:
    by = f" by {mark.author}" if mark.author else ""
    many = f" ({mark.times})" if mark.times > 1 else ""
    return f"{mark.node}: {mark.kind} {mark.text}{by}{many}, {moment(mark.at)}"


# Words


def _notices(page: _Page) -> Iterator[str]:
    """What a band is, at its beginning, where nothing else stands."""
    taken: dict[float, float] = {}
    for band in page.gist.bands:
        y = page.y(band.since)
        if band.is_partition:
            x, anchor = page.left + 6, "start"
        else:
            xs = [page.lanes[name] for group in band.groups for name in group]
            x, anchor = sum(xs) / len(xs), "middle"
        row = taken.get(y, 0.0)
        taken[y] = row + 13.0
        yield label(
            x,
            y + 13 + row,
            band.label,
            size=SMALL,
            anchor=anchor,
            weight="600",
            fill="#6d6a5f",
            halo=True,
        )


def _caption(caption: Caption) -> list[str]:
    return _lines(caption.text, CAPTION_LETTERS)


def _captions(page: _Page) -> Iterator[str]:
    for caption in page.gist.captions:
        y = page.places[caption]
        for number, line in enumerate(_caption(caption)):
            yield label(EDGE, y + 4 + number * LINE, line)


def _failure(page: _Page) -> Iterator[str]:
    for one in page.gist.failures:
        y = page.y(one.at)
        yield (
            f'<path class="failure" d="M{page.axis - 4:.1f} {y:.1f}H{page.right:.1f}"'
            f' stroke="{ALARM}" stroke-width="2"/>'
        )
    for number, line in enumerate(page.failure):
        y = page.bottom + (34.0 if page.bottom > HIGH else 0.0) + LINE * (number + 1)
        yield label(EDGE, y, line, fill=ALARM, weight="600")


def _names(page: _Page) -> Iterator[str]:
    ys = [page.top + 20.0] + ([page.bottom + 18.0] if page.bottom > HIGH else [])
    size = LARGE if page.gap >= LABELLED_GAP else SMALL
    letters = max(2, int(page.gap / (size * WIDTH_OF_LETTER)) - 1)
    for y in ys:
        for name, x in page.lanes.items():
            yield label(x, y, shortened(name, letters), size=size, anchor="middle", weight="700")


def _heading(page: _Page) -> Iterator[str]:
    size = next(
        (one for one in TITLES if text_width(page.title, one) < page.width - 2 * EDGE), TITLES[-1]
    )
    letters = int((page.width - 2 * EDGE) / (size * WIDTH_OF_LETTER))
    yield label(EDGE, 36, shortened(page.title, letters), size=size, weight="700")
    for row, entries in enumerate(page.legend):
        y = 62.0 + row * LINE * 1.4
        for x, shape, text in entries:
            yield f'<g transform="translate({EDGE + x + 7:.1f} {y - 4:.1f})">{shape}</g>'
            yield label(EDGE + x + 22, y, text, size=SMALL, fill=PALE)


def _footer(page: _Page) -> Iterator[str]:
    for number, text in enumerate(page.gist.left_out):
        y = page.height - 14 - (len(page.gist.left_out) - 1 - number) * LINE
        yield label(EDGE, y, f"left out: {text}", size=SMALL, fill=PALE, style="italic")


# The legend


def _legend(told: Gist) -> Iterator[tuple[str, str]]:
    """A shape and what it means, for whatever is in the picture."""
    kinds = {mark.kind for mark in told.marks}
    meanings = {
        Kind.EVENT: "event: lamport/author:offset",
        Kind.RECEIVED: "received",
        Kind.START: "start",
        Kind.CRASH: "crash",
        Kind.POWER_CUT: "power cut",
    }
    yield from ((SHAPES[kind], text) for kind, text in meanings.items() if kind in kinds)
    yield from _legend_of_messages(told)
    for condition in dict.fromkeys(band.condition for band in told.bands):
        meaning = "cut off" if condition == "partition" else f"link {condition}"
        yield (
            f'<rect x="-7" y="-6" width="15" height="12" fill="url(#{_pattern(condition)})"/>',
            meaning,
        )
    if told.fish:
        swatches = "".join(
            f'<rect x="{-7 + number * 8}" y="-6" width="6" height="12" fill="{PALETTE[number]}"/>'
            for number in range(2)
        )
        yield swatches, f"state of {', '.join(told.fish)} (same colour: same state)"


def _legend_of_messages(told: Gist) -> Iterator[tuple[str, str]]:
    if any(WEIGHTY in arrow.text for arrow in told.arrows if not arrow.lost):
        yield (
            f'<path d="M-8 -2L7 2" stroke="{HEAVY}" stroke-width="1.6" marker-end="url(#heavy)"/>',
            "events",
        )
    if any(WEIGHTY not in arrow.text and not arrow.lost for arrow in told.arrows):
        yield (
            f'<path d="M-8 -2L7 2" stroke="{MESSAGE}" marker-end="url(#light)"/>',
            "other messages",
        )
    if any(arrow.lost for arrow in told.arrows):
        yield f'<path d="M-4 -4l8 8m0 -8l-8 8" stroke="{LOST}" stroke-width="2"/>', "lost"


def _wrapped(
    entries: Iterable[tuple[str, str]], width: float
) -> Sequence[Sequence[tuple[float, str, str]]]:
    """The entries in rows that are not wider than this, each with its place from the left."""
    rows: list[list[tuple[float, str, str]]] = [[]]
    x = 0.0
    for shape, text in entries:
        wide = 22.0 + text_width(text, SMALL) + 16.0
        if rows[-1] and x + wide > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, shape, text))
        x += wide
    return rows


def _lines(text: str, letters: int) -> list[str]:
    return textwrap.wrap(shortened(text, MAX_TEXT), letters) or [""]
