"""JSON as it is defined: no NaN, no infinities; a text that is none, or not what is due, is the caller's fault."""

import json
import math
from collections.abc import Mapping
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


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Read the JSON object that a request's body is.

    Raises:
        InvalidInput: it is none.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    return value


def text_in(body: Mapping[str, Any], name: str) -> str:
    """The text of this name; raise `InvalidInput` where there is none."""
    value = body.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name!r} must be a text")
    return value


def bytes_in(body: Mapping[str, Any], name: str) -> bytes:
    """The bytes that a text of this name gives as hexadecimal digits; raise `InvalidInput` where it gives none."""
    try:
        return bytes.fromhex(text_in(body, name))
    except ValueError:
        raise InvalidInput(f"{name!r} must be hexadecimal digits") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond the largest number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
