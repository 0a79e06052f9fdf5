"""A run as text: the same as its picture, for terminals and for what a failing test prints.

One row for each thing that happened, with a column for each device. A device's cell shows what happened there and which
states its fish show: equal letters are equal states. What is told is chosen by `simulations.gist`, as for pictures.

The way of a note: `gist` -> a `_Row`, which says what changes in which cells -> a line.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_letters
from typing import NamedTuple

from simulations.gist import TIMES, Arrow, Band, Gist, Mark, Span, gist
from simulations.layout import QUIET_S
from simulations.trace import Kind, Note

MAX_ROWS = 160
"""Rows of one text: about three screens; the first and the last are kept."""

WIDTH = 120
"""Letters of a line."""

CELLS = 60
WIDEST, NARROWEST = 12, 6
"""Letters that all cells may take, and that one takes; devices that do not fit are told in words alone."""

TIME = 11

RUNNING, OFF = "│", "┊"
GLYPHS: Mapping[Kind, str] = {
    Kind.EVENT: "●",
    Kind.RECEIVED: "•",
    Kind.START: "o",
    Kind.STOP: "┴",
    Kind.CRASH: "!",
    Kind.POWER_CUT: "!",
    Kind.DISK: "D",
    Kind.CLOCK: "C",
}
WORDS: Mapping[Kind, str] = {
    Kind.EVENT: "{node} writes {text}",
    Kind.RECEIVED: "{node} receives {text}",
    Kind.START: "{node} starts",
    Kind.STOP: "{node} stops",
    Kind.CRASH: "{node} crashes",
    Kind.POWER_CUT: "{node} loses its power",
    Kind.DISK: "disk of {node}: {text}",
    Kind.CLOCK: "clock of {node}: {text}",
}
OUTAGES = frozenset((Kind.STOP, Kind.CRASH, Kind.POWER_CUT))


class _Row(NamedTuple):
    """One line: what is said, at which device with which glyph, and between which two devices."""

    at: float
    words: str
    node: str = ""
    glyph: str = ""
    arrow: Arrow | None = None
    state: Span | None = None
    is_off: bool | None = None


@dataclass(slots=True)
class _Table:
    """The cells as they are at the row that is written now."""

    devices: Sequence[str]
    fish: Sequence[str]
    cell: int
    letters: Mapping[str, str]
    is_off: dict[str, bool]
    states: dict[str, dict[str, str]] = field(default_factory=dict)

    def line(self, row: _Row) -> str:
        """The row, with what it changes."""
        if row.is_off is not None:
            self.is_off[row.node] = row.is_off
        if row.is_off:
            self.states.pop(row.node, None)
        if row.state is not None:
            self.states.setdefault(row.node, {})[row.state.fish] = self.letters[row.state.digest]
        cells = "".join(self._cell(name, row) for name in self.devices)
        if row.arrow is not None:
            cells = self._with_arrow(cells, row.arrow)
        return _fit(f"{moment(row.at):>{TIME}}  {cells}{row.words}")

    def _cell(self, name: str, row: _Row) -> str:
        glyph = OFF if self.is_off[name] else RUNNING
        shown = self.states.get(name, {})
        states = "".join(shown.get(fish, " ") for fish in self.fish)
        return f"{row.glyph if name == row.node and row.glyph else glyph} {states}"[
            : self.cell - 1
        ].ljust(self.cell)

    def _with_arrow(self, cells: str, arrow: Arrow) -> str:
        """The line from one device's column to the other's."""
        if not {arrow.source, arrow.target} <= set(self.devices):
            return cells
        source, target = (self.devices.index(name) for name in (arrow.source, arrow.target))
        left, right = sorted((source * self.cell, target * self.cell))
        shaft = ("x" if arrow.lost else "─") * (right - left - 2)
        shaft = f"{shaft}>" if source < target else f"<{shaft}"
        if arrow.lost:
            shaft = shaft.replace("x", "╌")
            shaft = f"{shaft[: len(shaft) // 2]}x{shaft[len(shaft) // 2 + 1 :]}"
        return cells[: left + 1] + shaft + cells[right:]


def draw_text(notes: Sequence[Note], *, title: str, devices: Sequence[str] = ()) -> str:
    """The notes of a run, in the order of time, as text; `devices` says in which order the columns stand."""
    told = gist(notes, devices)
    shown = told.devices[: CELLS // NARROWEST]
    cell = max(NARROWEST, min(WIDEST, CELLS // max(1, len(shown))))
    letters = _letters(told)
    table = _Table(shown, told.fish, cell, letters, _off_at_first(told))
    rows = sorted(_rows(told, letters), key=lambda row: row.at)
    lines = _bounded(list(_lines(table, rows)))
    names = "".join(name[: cell - 1].ljust(cell) for name in shown)
    head = [title, "", _fit(f"{'time':>{TIME}}  {names}")]
    return "\n".join(_one_line(line) for line in (*head, *lines, *_feet(told, letters))) + "\n"


def _rows(told: Gist, letters: Mapping[str, str]) -> Iterator[_Row]:
    yield from (_Row(caption.at, f"# {caption.text}") for caption in told.captions)
    for band in told.bands:
        yield from _band_rows(band, told)
    yield from (_mark_row(mark) for mark in told.marks)
    yield from (_arrow_row(arrow) for arrow in told.arrows)
    for span in told.spans:
        words = f"{span.node} shows {span.fish} {span.digest} ({letters[span.digest]}) {span.text}"
        yield _Row(span.since, words.rstrip(), span.node, state=span)
    yield from (_Row(one.at, f"FAILED: {one.text}") for one in told.failures)


def _band_rows(band: Band, told: Gist) -> Iterator[_Row]:
    yield _Row(band.since, f"== {band.label}")
    if band.until < told.end:
        yield _Row(band.until, f"== over: {band.label}")


def _mark_row(mark: Mark) -> _Row:
    words = WORDS[mark.kind].replace("{node}", mark.node).replace("{text}", mark.text)
    if mark.times > 1:
        words += f" ({mark.times})"
    is_off = True if mark.kind in OUTAGES else False if mark.kind is Kind.START else None
    return _Row(mark.at, words, mark.node, GLYPHS[mark.kind], is_off=is_off)


def _arrow_row(arrow: Arrow) -> _Row:
    times = f" {TIMES}{arrow.times}" if arrow.times > 1 else ""
    words = f"{arrow.source} → {arrow.target}{times} {'LOST ' if arrow.lost else ''}{arrow.text}"
    if arrow.at - arrow.since > QUIET_S:
        words += f" (sent at {moment(arrow.since)})"
    return _Row(arrow.at, words.rstrip(), arrow=arrow)


def _lines(table: _Table, rows: Sequence[_Row]) -> Iterator[str]:
    before = rows[0].at if rows else 0.0
    for row in rows:
        if row.at - before > QUIET_S:
            yield f"{'⋮':>{TIME}}  {span(row.at - before)} quiet"
        before = row.at
        yield table.line(row)


def _bounded(lines: Sequence[str]) -> list[str]:
    """The first and the last, and how many are missing between them."""
    if len(lines) <= MAX_ROWS:
        return list(lines)
    half = MAX_ROWS // 2
    return [*lines[:half], f"… {len(lines) - 2 * half} rows left out", *lines[-half:]]


def _feet(told: Gist, letters: Mapping[str, str]) -> Iterator[str]:
    if letters:
        yield ""
        yield f"Letters are states of {', '.join(told.fish)}: the same letter is the same state."
    yield from (f"left out: {text}" for text in told.left_out)


def _letters(told: Gist) -> Mapping[str, str]:
    """A letter for each digest, in the order in which they are shown first; numbers when there are no more."""
    digests = dict.fromkeys(span.digest for span in told.spans)
    names: Iterable[str] = (
        *ascii_letters.swapcase(),
        *(f"{n}." for n in range(1, len(digests) + 1)),
    )
    return dict(zip(digests, names, strict=False))


def _off_at_first(told: Gist) -> dict[str, bool]:
    off = {absence.node for absence in told.absences if absence.since <= 0.0}
    return {name: name in off for name in told.devices}


def moment(at: float) -> str:
    """A moment: `12.345 s`, `10:02.345`."""
    minutes, milliseconds = divmod(round(at * 1000), 60_000)
    seconds = milliseconds / 1000
    return f"{minutes}:{seconds:06.3f}" if minutes else f"{seconds:.3f} s"


def span(seconds: float) -> str:
    """A span of time: `3.2 s`, `9.7 min`."""
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.1f} s"  # noqa: PLR2004 - a minute and a half


def _fit(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _one_line(line: str) -> str:
    """Without anything that would move the terminal's cursor, whatever names and texts contain."""
    return "".join(letter if letter.isprintable() else "?" for letter in line).rstrip()
