"""Lets a test wait for what is logged, and so for what happened."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("shoal.transport")


class Diary(logging.Handler):
    """Hands out what is logged, in order, to who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._records: asyncio.Queue[logging.LogRecord] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; called by the logger."""
        self._records.put_nowait(record)

    async def next(self, level: int = logging.INFO) -> str:
        """Wait for the next entry, which has this level; give its text."""
        record = await self._records.get()
        assert record.levelno == level
        return record.getMessage()


@contextmanager
def keep_diary() -> Iterator[Diary]:
    """Write down everything from INFO on."""
    diary = Diary()
    before = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(diary)
    try:
        yield diary
    finally:
        LOGGER.removeHandler(diary)
        LOGGER.setLevel(before)
