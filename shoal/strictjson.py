"""JSON as it is defined: no NaN, no infinities; a text that is none is the caller's fault."""

import json
import math
from typing import Any, NoReturn

from lamport.errors import InvalidInput


def parse_json(text: str | bytes) -> Any:
    """Read a JSON text.

    Raises:
        InvalidInput: it is none; the text says where.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"no JSON: {error}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond the largest number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
