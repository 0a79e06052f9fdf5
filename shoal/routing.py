"""Routes as they stand in `shoal.toml`: read, and every fault told in words.

[[routes]]
where = "'sensor' & 'press-3'"      what follows FROM in a query
stream = "sensors"
max_age_s = 604800                  each limit may be left out; without any all is kept
max_events = 100000
max_size_bytes = 50000000
"""

from collections.abc import Mapping
from typing import Any

from lamport.errors import InvalidInput
from lamport.query import parse_query
from lamport.routes import Policy, Route, Routes

_LIMITS = ("max_age_s", "max_events", "max_size_bytes")
_KEYS = ("where", "stream", *_LIMITS)


def read_routes(value: Any) -> tuple[Route, ...]:
    """The routes of a settings file; raises `ValueError` for what makes no sense, with the number of the route."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"[[routes]] tables are due, not {value!r}")  # noqa: TRY004 - one kind of fault for all settings
    try:
        return tuple(Routes(_route(number, one) for number, one in enumerate(value, 1)))
    except InvalidInput as error:
        raise ValueError(str(error)) from error


def _route(number: int, value: Any) -> Route:
    if isinstance(value, Route):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"route {number}: a table is due, not {value!r}")  # noqa: TRY004 - as above
    unknown = sorted(value.keys() - set(_KEYS))
    if unknown:
        raise ValueError(f"route {number}: unknown {unknown}; there are {sorted(_KEYS)}")
    for name in ("where", "stream"):
        if not isinstance(value.get(name), str):
            raise ValueError(f'route {number}: {name} = "…" is due')  # noqa: TRY004 - as above
    try:
        limits = {name: value[name] for name in _LIMITS if name in value}
        return Route(parse_query(f"FROM {value['where']}"), value["stream"], Policy(**limits))
    except InvalidInput as error:
        raise ValueError(f"route {number}: {error}") from error
