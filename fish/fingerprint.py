"""The fingerprint of code and values: what makes two definitions the same, in this process and in a later one.

The way of a value. What is plain tells itself by its bytes (`fish.states`). A function tells what it does (its code,
not its file nor its lines), its defaults, what it closes over, the functions of its own program that it calls by name
with what these call in turn, and the constants in capital letters that all of them name. It does not see methods of
other classes, what is called by way of a module (`rules.next_state(...)`), and other people's packages; whoever changes
those raises the version.
"""

import dataclasses
import dis
import functools
import hashlib
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

from fish.errors import StateCodecError
from fish.states import encode_state

KNOWN_CODES = 1_024
"""Functions whose code is remembered by its digest."""

_OURS = {"fish", "lamport"}
"""A new version of this program means the same by the same definition."""

_CONSTANTS = (type(None), bool, int, float, str, bytes, tuple, frozenset)


class _Helper(NamedTuple):
    """A function that another one calls."""

    function: FunctionType


_Functions = list[FunctionType | _Helper]
"""The functions met so far. Each is described once, however many others call it, and named by its number elsewhere."""


def described_by(value: object) -> bytes:
    """A digest of a value, or of the code behind it, that is the same in every process."""
    met: _Functions = []
    described = [_described(value, (), met)]
    for one in met:  # these meet others
        inside = _inside_function(one) if isinstance(one, FunctionType) else _inside_helper(one[0])
        described.append(digest(*(_described(part, (), met) for part in inside)))
    return digest(*described)


def digest(*parts: object) -> bytes:
    """One digest for each level, so that what is described may be nested as deeply as it likes."""
    return hashlib.sha256(encode_state(parts)).digest()


def _described(value: object, above: tuple[object, ...], met: _Functions) -> bytes:
    """A digest of a value, in which functions stand by their numbers.

    `above` is what is being described around it: what contains itself is not described for ever.
    """
    if isinstance(value, CodeType):
        return _code_digest(value)
    if isinstance(value, FunctionType | _Helper):
        return digest("function", _number(value, met))
    if any(value is one for one in above):
        return digest("above")
    inside = _inside(value)
    if inside is None:
        return digest("value", _name(value), _encoded(value))
    above = (*above, value)
    return digest(_name(type(value)), *(_described(part, above, met) for part in inside))


def _number(function: FunctionType | _Helper, met: _Functions) -> int:
    if function not in met:
        met.append(function)
    return met.index(function)


def _inside(value: Any) -> Iterable[object] | None:
    """What a value is made of, where that may contain code; None where its own bytes tell all there is to tell."""
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if type(value) in (list, tuple):
        return tuple(value)
    if type(value) is dict:
        return tuple(value.items())
    return None if isinstance(value, type) else _inside_object(value)


@functools.lru_cache(maxsize=KNOWN_CODES)
def _code_digest(code: CodeType) -> bytes:
    """Of ten thousand fish of one kind each has the same code."""
    return digest("code", *(_described(part, (), []) for part in _inside_code(code)))


def _inside_code(code: CodeType) -> Iterable[object]:
    """What the code does: neither its file nor its lines, which change when something else does."""
    return (
        code.co_code,
        code.co_exceptiontable,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        code.co_names,
        code.co_consts,
    )


def _inside_function(function: FunctionType) -> Iterable[object]:
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    named = list(_named_in(function))
    return function.__code__, function.__defaults__, function.__kwdefaults__, cells, named


def _named_in(function: FunctionType) -> Iterator[tuple[str, object]]:
    """What a function calls by name of its own program, and the constants that it names."""
    package = _package(function)
    for name in () if package in _OURS else _global_names(function.__code__):
        value = function.__globals__.get(name)
        called = inspect.unwrap(value) if callable(value) else value
        if isinstance(called, FunctionType) and _package(called) == package:
            yield name, _Helper(called)
        elif type(value) in _CONSTANTS and name.isupper():
            yield name, value


@functools.lru_cache(maxsize=KNOWN_CODES)
def _global_names(code: CodeType) -> tuple[str, ...]:
    """The names that are looked up outside of all functions, by this code and by what stands within."""
    names = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names.update(_global_names(const))
    return tuple(sorted(names))


def _package(function: FunctionType) -> str:
    return (function.__module__ or "").partition(".")[0]


def _inside_object(value: Any) -> Iterable[object] | None:
    """The fields of a dataclass, and the code of an object that is called like a function."""
    call = getattr(type(value), "__call__", None)  # noqa: B004 - its code is wanted
    code = [call] if isinstance(call, FunctionType) else []
    if dataclasses.is_dataclass(value):
        return (
            _name(value),
            code,
            [getattr(value, one.name, None) for one in dataclasses.fields(value)],
        )
    return (_name(value), code, _encoded(value)) if code else None


def _inside_helper(function: FunctionType) -> Iterable[object]:
    """As of any function, but not what it closes over: that may be a cache, which is filled by and by."""
    return (
        function.__code__,
        function.__defaults__,
        function.__kwdefaults__,
        list(_named_in(function)),
    )


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a variable that is assigned only later
        return False
    return True


def _encoded(value: object) -> bytes | None:
    try:
        return encode_state(value)
    except StateCodecError:
        return None


def _name(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', '')}"
