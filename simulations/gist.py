"""What of a run is worth showing.

A run of a minute has ten thousand notes, most of them of a swarm that is content. A picture of all would show nothing;
`gist` therefore groups what belongs together, leaves out what only says "still here", and says what it left out.

The way of a note: `gist` -> an `Arrow`, `Mark`, `Band`, `Span` or `Caption` -> drawn by `simulations.picture`, or
told by `simulations.telling`.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple, TypeVar

from simulations.trace import Kind, Note

MAX_LANES = 24
"""Devices shown; beyond that no lane leaves room for a name."""

MAX_ARROWS = 300
MAX_MARKS = 300
MAX_CAPTIONS = 120
MAX_BANDS = 120
MAX_SPANS = 600
"""What is shown of each; beyond that neither an eye nor a browser follows, and a picture must not grow with its run."""

MAX_LINK_CHANGES = 400
"""Moments at which the links are looked at; each costs a walk over all pairs."""

FLAP_S = 1.5
"""A link that is bad again so soon, and that several times, flaps; it is shown as bad all the while."""

MAX_FISH = 4
"""Fish whose states are shown beside each lane."""

WINDOWS_S = (0.04, 0.2, 1.0, 5.0, 30.0, 300.0, 3600.0)
"""What follows its like at one place within this time is shown as one; the first with which all fits is taken."""

MAX_GROUP = 1000
"""Of how many at most one is made, so that traffic without a pause is still seen to go on."""

FEW = 3
"""So many dots beside each other are still shown one by one."""

NEAR_S = 0.25
"""For so long after something happened the talk of the links is shown; later it is routine."""

ROUTINE = frozenset(
    (
        "x",
        "handshake",
        "hello",
        "greeting",
        "heads",
        "ping",
        "pong",
        "goodbye",
        "announcement",
        "announcements",
    )
)
ALWAYS_ROUTINE = "mark"
"""What is confirmed was shown when it was said."""

WEIGHTY = "event"
"""A message that says this stands for those that it is grouped with."""

TIMES = "\N{MULTIPLICATION SIGN}"

CUT = frozenset(("cut", "flapping"))

LIFE = (Kind.START, Kind.STOP, Kind.CRASH, Kind.POWER_CUT)
MARKS = frozenset((*LIFE, Kind.DISK, Kind.CLOCK, Kind.EVENT, Kind.RECEIVED))
STIRRING = frozenset((Kind.CRASH, Kind.POWER_CUT, Kind.EVENT, Kind.RECEIVED, Kind.LINK))
MANY = frozenset((Kind.EVENT, Kind.RECEIVED))

_Item = TypeVar("_Item")


class Arrow(NamedTuple):
    """A message, or several of one pair in a short time."""

    since: float
    at: float
    source: str
    target: str
    text: str
    lost: bool = False
    times: int = 1


class Mark(NamedTuple):
    """Something that happened at a device."""

    at: float
    node: str
    kind: Kind
    text: str
    author: str = ""
    times: int = 1


class Band(NamedTuple):
    """While links were bad: groups that could not talk, or one pair and in what way."""

    since: float
    until: float
    groups: tuple[tuple[str, ...], ...]
    condition: str
    both_ways: bool = True

    @property
    def is_partition(self) -> bool:
        """Whether the swarm was in parts, and not only a link bad."""
        return self.condition == "partition"

    @property
    def label(self) -> str:
        """What it is, in a few words."""
        if self.is_partition:
            return "partition: " + " | ".join(" ".join(group) for group in self.groups)
        (source,), (target,) = self.groups
        return f"{source} {'↔' if self.both_ways else '→'} {target} {self.condition}"


class Span(NamedTuple):
    """While a device showed one state of a fish."""

    since: float
    until: float
    node: str
    fish: str
    digest: str
    text: str = ""


class Absence(NamedTuple):
    """While no node ran on a device."""

    since: float
    until: float
    node: str


class Caption(NamedTuple):
    """What the story or the plan does."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Gist:
    """What is worth showing of a run, each list in the order of time."""

    devices: tuple[str, ...]
    fish: tuple[str, ...]
    begin: float
    end: float
    arrows: tuple[Arrow, ...]
    marks: tuple[Mark, ...]
    bands: tuple[Band, ...]
    spans: tuple[Span, ...]
    absences: tuple[Absence, ...]
    captions: tuple[Caption, ...]
    failures: tuple[Caption, ...]
    left_out: tuple[str, ...]


def gist(notes: Sequence[Note], devices: Sequence[str] = ()) -> Gist:
    """What is worth showing of these notes, which are in the order of time."""
    everybody = _everybody(notes, devices)
    shown = everybody[:MAX_LANES]
    end = max((note.at for note in notes), default=0.0)
    absences = tuple(_absences(notes, shown, end))
    all_fish = tuple(dict.fromkeys(_state(note)[0] for note in notes if note.kind is Kind.STATE))
    fish = all_fish[:MAX_FISH]
    stirring, routine = _without_routine(notes, frozenset(shown))
    arrows, arrows_out = _arrows(stirring)
    marks, marks_out = _marks(notes, frozenset(shown))
    bands, bands_out = _kept(_bands(notes, shown, end), MAX_BANDS)
    spans, spans_out = _spans(notes, shown, fish, absences, end)
    captions, captions_out = _kept(_captions(notes), MAX_CAPTIONS)
    left_out = (
        (len(everybody) - len(shown), "devices"),
        (len(all_fish) - len(fish), "fish"),
        (routine, "messages of routine (pings and heads while nothing happens)"),
        (arrows_out, "arrows in the middle of the run"),
        (marks_out, "dots in the middle of the run"),
        (bands_out, "cuts in the middle of the run"),
        (spans_out, "states that did not last"),
        (captions_out, "operations in the middle of the run"),
    )
    return Gist(
        shown,
        fish,
        min((note.since or note.at for note in notes), default=0.0),
        end,
        arrows,
        marks,
        bands,
        spans,
        absences,
        captions,
        tuple(Caption(note.at, note.text) for note in notes if note.kind is Kind.FAILURE)[-1:],
        tuple(f"{count} {what}" for count, what in left_out if count > 0),
    )


def _everybody(notes: Sequence[Note], devices: Sequence[str]) -> tuple[str, ...]:
    seen = dict.fromkeys(devices)
    for note in notes:
        seen.setdefault(note.node)
        seen.setdefault(note.peer)
    return tuple(name for name in seen if name)


def _kept(items: Iterable[_Item], limit: int) -> tuple[tuple[_Item, ...], int]:
    """The first and the last if there are more than can be shown, and how many are missing."""
    every = tuple(items)
    if len(every) <= limit:
        return every, 0
    return every[: limit // 2] + every[-(limit // 2) :], len(every) - limit


# Messages


def is_routine(text: str) -> bool:
    """Whether a message says nothing but that somebody is still there."""
    words = re.findall(r"[a-z]+", text.lower())
    return bool(words) and all(word in ROUTINE for word in words)


def _without_routine(notes: Sequence[Note], shown: frozenset[str]) -> tuple[list[Arrow], int]:
    """Messages between those shown, and how many were left out because nothing was going on."""
    arrows, routine, stirred = [], 0, float("-inf")
    for note in _once(notes):
        if note.kind in STIRRING:
            stirred = note.at
        elif note.kind not in (Kind.MESSAGE, Kind.LOST) or not {note.node, note.peer} <= shown:
            continue
        elif note.text == ALWAYS_ROUTINE or (note.at - stirred > NEAR_S and is_routine(note.text)):
            routine += 1
        else:
            arrows.append(_arrow(note))
    return arrows, routine


def _once(notes: Iterable[Note]) -> Iterator[Note]:
    """Without the later losses of the same bytes: what is lost is sent again until it gets through."""
    lost: dict[tuple[str, str], float] = {}
    for note in notes:
        if note.kind is Kind.LOST and lost.get((note.peer, note.node)) == note.since:
            continue
        if note.kind is Kind.LOST:
            lost[note.peer, note.node] = note.since
        yield note


def _arrow(note: Note) -> Arrow:
    since = min(note.since, note.at)
    return Arrow(since, note.at, note.peer, note.node, note.text, note.kind is Kind.LOST)


def _arrows(arrows: Sequence[Arrow]) -> tuple[tuple[Arrow, ...], int]:
    grouped: Sequence[Arrow] = arrows
    for window_s in WINDOWS_S:
        grouped = _grouped(
            arrows,
            key=lambda arrow: (arrow.source, arrow.target, arrow.lost),
            together=lambda last, arrow, window_s=window_s: (  # type: ignore[misc]
                max(arrow.at - last.at, abs(arrow.since - last.since)) < window_s
            ),
            merged=_one_arrow,
        )
        if len(grouped) <= MAX_ARROWS:
            break
    return _kept(sorted(grouped, key=lambda arrow: (arrow.at, arrow.since)), MAX_ARROWS)


def _one_arrow(group: Sequence[Arrow]) -> list[Arrow]:
    """One for all: the first that carries something, with the texts of all."""
    first = next((arrow for arrow in group if WEIGHTY in arrow.text), group[0])
    return [first._replace(text=_counted(arrow.text for arrow in group), times=len(group))]


def _counted(texts: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    said = [f"{text} {TIMES}{count}" if count > 1 else text for text, count in counts.items()]
    said.sort(key=lambda text: WEIGHTY not in text)
    return ", ".join(said[:FEW]) + (
        f" and {len(said) - FEW} other kinds" if len(said) > FEW else ""
    )


def _grouped(
    items: Iterable[_Item],
    *,
    key: Callable[[_Item], object],
    together: Callable[[_Item, _Item], bool],
    merged: Callable[[Sequence[_Item]], list[_Item]],
) -> list[_Item]:
    """Items of one key that stand together with the last of their group, made into fewer."""
    groups: list[list[_Item]] = []
    open_groups: dict[object, list[_Item]] = {}
    for item in items:
        group = open_groups.get(key(item))
        if group is not None and len(group) < MAX_GROUP and together(group[-1], item):
            group.append(item)
        else:
            open_groups[key(item)] = group = [item]
            groups.append(group)
    return [one for group in groups for one in merged(group)]


# What happens at devices


def _marks(notes: Sequence[Note], shown: frozenset[str]) -> tuple[tuple[Mark, ...], int]:
    marks = [
        Mark(note.at, note.node, note.kind, note.text, note.peer)
        for note in notes
        if note.kind in MARKS and note.node in shown
    ]
    grouped: Sequence[Mark] = marks
    for window_s in WINDOWS_S:
        grouped = _grouped(
            marks,
            key=lambda mark: (mark.node, mark.kind, mark.author),
            together=lambda last, mark, window_s=window_s: (  # type: ignore[misc]
                mark.kind in MANY and mark.at - last.at < window_s
            ),
            merged=_one_mark,
        )
        if len(grouped) <= MAX_MARKS:
            break
    return _kept(sorted(grouped, key=lambda mark: mark.at), MAX_MARKS)


def _one_mark(group: Sequence[Mark]) -> list[Mark]:
    if len(group) <= FEW:
        return list(group)
    text = f"{group[0].text} … {group[-1].text}"
    return [group[0]._replace(text=text, times=len(group))]


def _absences(notes: Sequence[Note], shown: Sequence[str], end: float) -> Iterator[Absence]:
    """Where lanes have no node: until the first start, and from each end to the next start."""
    lives: dict[str, list[Note]] = {name: [] for name in shown}
    for note in notes:
        if note.kind in LIFE and note.node in lives:
            lives[note.node].append(note)
    for name, life in lives.items():
        off: float | None = 0.0 if life and life[0].kind is Kind.START else None
        for note in life:
            if note.kind is not Kind.START:
                off = note.at if off is None else off
            elif off is not None:
                if off < note.at:
                    yield Absence(off, note.at, name)
                off = None
        if off is not None:
            yield Absence(off, end, name)


def _captions(notes: Sequence[Note]) -> Iterator[Caption]:
    for note in notes:
        if note.kind is Kind.OPERATION:
            yield Caption(note.at, f"{note.node}: {note.text}" if note.node else note.text)


# States


def _state(note: Note) -> tuple[str, str, str]:
    """Fish, digest, and whatever else is said of the state. A fish's name may have blanks."""
    found = re.fullmatch(r"(.*?) ([0-9a-f]{8})(?: (.*))?", note.text, re.DOTALL)
    return (found[1], found[2], found[3] or "") if found else (note.text, "", "")


def _spans(
    notes: Sequence[Note],
    shown: Sequence[str],
    fish: Sequence[str],
    absences: Sequence[Absence],
    end: float,
) -> tuple[tuple[Span, ...], int]:
    ends = {name: [gone.since for gone in absences if gone.node == name] for name in shown}
    changes: dict[tuple[str, str], list[Span]] = {(name, one): [] for name in shown for one in fish}
    for note in notes:
        if note.kind is Kind.STATE and (note.node, _state(note)[0]) in changes:
            one, digest, text = _state(note)
            until = _first_from(ends[note.node], note.at, end)
            changes[note.node, one].append(Span(note.at, until, note.node, one, digest, text))
    every = [span for column in changes.values() for span in _ended(column)]
    spans = every
    for window_s in WINDOWS_S:
        if len(spans) <= MAX_SPANS:
            break
        spans = [span for column in changes.values() for span in _ended(_lasting(column, window_s))]
    kept, _ = _kept(sorted(spans), MAX_SPANS)
    return kept, len(every) - len(kept)


def _first_from(moments: Sequence[float], at: float, otherwise: float) -> float:
    place = bisect_left(moments, at)
    return moments[place] if place < len(moments) else otherwise


def _ended(changes: Sequence[Span]) -> Iterator[Span]:
    """Each until the next other one; the same state shown again goes on."""
    groups = groupby(changes, key=lambda span: (span.digest, span.until))
    firsts = [next(same) for _, same in groups]
    for span, after in pairwise(firsts):
        yield span._replace(until=min(span.until, after.since))
    yield from firsts[-1:]


def _lasting(changes: Sequence[Span], window_s: float) -> list[Span]:
    """Without those that the next one replaces within the window."""
    pairs = pairwise(changes)
    lasting = [one for one, after in pairs if after.since - one.since >= window_s]
    return lasting + list(changes[-1:])


# Links


def _bands(notes: Sequence[Note], shown: Sequence[str], end: float) -> list[Band]:
    """What was bad between whom, as few bands as say it: a swarm in parts is one band."""
    under_way: dict[tuple[object, ...], Band] = {}
    over: list[Band] = []
    for since, until, bad in _link_times(notes, shown, end):
        now = {
            (band.groups, band.condition, band.both_ways): band._replace(since=since, until=until)
            for band in _bad_now(bad, shown)
        }
        over += [band for key, band in under_way.items() if key not in now]
        under_way = {
            key: under_way[key]._replace(until=until) if key in under_way else band
            for key, band in now.items()
        }
    return sorted((*over, *under_way.values()), key=lambda band: (band.since, band.until))


def _link_times(
    notes: Sequence[Note], shown: Sequence[str], end: float
) -> Iterator[tuple[float, float, dict[tuple[str, str], str]]]:
    """From when until when which directed links were how, for each stretch in which nothing changes."""
    bad: dict[tuple[str, str], str] = {}
    changes = _link_changes(notes, frozenset(shown))
    moments = [(at, list(same)) for at, same in groupby(changes, key=lambda change: change[0])]
    untils = [*(at for at, _ in moments[1:]), end]
    for (since, same), until in zip(moments[:MAX_LINK_CHANGES], untils, strict=False):
        for _, condition, pair in same:
            bad.pop(pair, None)
            if condition:
                bad[pair] = condition
        yield since, until, bad


def _link_changes(
    notes: Sequence[Note], shown: frozenset[str]
) -> list[tuple[float, str, tuple[str, str]]]:
    """When which link became how, in the order of time; no condition is a good one."""
    changes: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for note in notes:
        if note.kind is Kind.LINK and {note.node, note.peer} <= shown:
            condition = "" if note.text == "open" else note.text
            changes.setdefault((note.node, note.peer), []).append((note.at, condition))
    steady = [
        (at, condition, pair)
        for pair, of_pair in changes.items()
        for at, condition in _without_flapping(of_pair)
    ]
    return sorted(steady, key=lambda change: change[0])


def _without_flapping(changes: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """The changes of one link, without the moments in which it was good while it flapped."""

    def is_short(number: int) -> bool:
        if not 0 < number < len(changes) - 1 or changes[number][1]:
            return False
        return changes[number + 1][0] - changes[number][0] < FLAP_S

    def is_flap(number: int) -> bool:
        return is_short(number) and (is_short(number - 2) or is_short(number + 2))

    for number, (at, condition) in enumerate(changes):
        if not is_flap(number):
            flaps = is_flap(number - 1) or is_flap(number + 1)
            yield at, "flapping" if condition and flaps else condition


def _bad_now(bad: Mapping[tuple[str, str], str], shown: Sequence[str]) -> Iterator[Band]:
    groups = _groups(bad, shown)
    if len(groups) > 1:
        yield Band(0.0, 0.0, groups, "partition")
    group_of = {name: group for group in groups for name in group}
    for (source, target), condition in sorted(bad.items()):
        if group_of[source] is not group_of[target]:
            continue
        both_ways = bad.get((target, source)) == condition
        if not both_ways or source < target:
            yield Band(0.0, 0.0, ((source,), (target,)), condition, both_ways)


def _groups(
    bad: Mapping[tuple[str, str], str], shown: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Who can reach whom, if only one way and by others; in the order of the lanes."""
    group_of = {name: name for name in shown}
    for one in shown:
        for other in shown:
            if _is_cut(bad, one, other):
                continue
            joined, gone = group_of[one], group_of[other]
            group_of = {name: joined if to == gone else to for name, to in group_of.items()}
    heads = dict.fromkeys(group_of.values())
    return tuple(tuple(name for name in shown if group_of[name] == head) for head in heads)


def _is_cut(bad: Mapping[tuple[str, str], str], one: str, other: str) -> bool:
    return {bad.get((one, other)), bad.get((other, one))} <= CUT
