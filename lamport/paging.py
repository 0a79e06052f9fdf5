"""How much of fresh events a page of a read may have: about as many as fit `PAGE_BYTES`, by what the last page showed.

Whoever reads slowly holds on to a page, and events may be of any size up to their limit. What a page will weigh is not
known before it is read; but events resemble those that were written beside them, and so each page says how many the
next one may have. All reads of a log learn from each other. The first page is short. Old events need none of this:
their blocks bound what is read of them.
"""

from lamport.event_table import Found

PAGE_BYTES = 1024 * 1024
"""About so much a page may weigh, as it is stored; a scan takes a few of them at once."""

FIRST_EVENTS = 128
"""So many events a page has while nothing is known of them."""

LEAST_EVENTS = 16
"""Fewer are not worth the way to the database's thread: a megabyte of the largest."""

_GROWTH = 4
"""So many times as much may be looked up behind a page that was found in blocks alone."""

_SAMPLE = 16
"""Every so many events of a page are weighed."""

_DATA = 2


class Paging:
    """The pages of one log."""

    def __init__(self) -> None:
        self._rows = FIRST_EVENTS
        self._keys = FIRST_EVENTS

    def rows(self, most: int) -> int:
        """How many fresh events the next page may have beside those in blocks, at most `most`."""
        return min(most, self._rows)

    def keys(self, most: int) -> int:
        """How many events may be looked up for the next page, wherever they stand, at most `most`."""
        return min(most, self._keys)

    def learn(self, page: Found) -> None:
        """Take note of what a page weighs."""
        # In a damaged row anything may stand.
        sizes = [len(row[_DATA]) for row in page.rows[::_SAMPLE] if isinstance(row[_DATA], bytes)]
        if sizes:
            self._rows = max(LEAST_EVENTS, PAGE_BYTES * len(sizes) // max(sum(sizes), 1))
            self._keys = self._rows
        elif page.parts:  # who looks up what is old goes on to what is not much younger
            self._keys = min(_GROWTH * self._keys, PAGE_BYTES)
