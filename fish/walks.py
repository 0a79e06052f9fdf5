"""Whether a function leans on the order of a set that it makes for itself.

Texts hash differently in every process, and so the sets of texts that a reducer makes are walked in another order on
every node: what it lists, joins or picks by that order is another state there. Nothing of it shows in one process. So
the function is made once more from its source, with every place that walks over something (a loop, a comprehension, a
star, `list(...)`, `join`, `pop` ...) or makes a text of it (an f-string, `str(...)`, `format`, `%`) led through
`_Walks`, which turns sets around; called with the same inputs it must give the same. Where it does not, each place is
turned alone, until the one is found that makes the difference.

It is about the function's own lines, not about the functions it calls. A function whose source cannot be had, or is not
what runs here, is left in peace; so are lambdas.
"""

import __future__

import ast
import dataclasses
import functools
import inspect
import textwrap
import tokenize
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType
from typing import Any

from fish.turned import turned
from fish.typed import Typed, TypedReset

KNOWN_FUNCTIONS = 1_024
"""Functions that are remembered as they were made once more."""

_NAME = "__walks__"
_AGAIN = "__again__"

_WALKERS = {
    *("list", "tuple", "iter", "enumerate", "zip", "map", "filter", "min", "max", "sum"),
    *("sorted", "deque", "reduce", "join", "extend", "fromkeys"),
}
"""Names under which something may be called that walks over what it is given …"""

_FIRST, _SECOND, _BEHIND = slice(1), slice(1, 2), slice(1, None)
_WALKED: tuple[tuple[Any, slice], ...] = (
    *((one, _FIRST) for one in (list, tuple, iter, enumerate, min, max, sum, sorted, deque)),
    *((one, _SECOND) for one in (functools.reduce, filter)),
    (map, _BEHIND),
    (zip, slice(None)),
)
"""… those that do, with the arguments that they walk over; a `sorted` may be by a key that others share …"""

_SHOWERS = {"str", "repr", "ascii", "format", "format_map"}
"""… names under which something may be called that makes a text of what it is given …"""

_TAKING: dict[type[ast.operator], str] = {ast.Add: "added", ast.Mod: "put"}
"""… operators by which a name may come to hold some of what is on the right: methods of `_Walks` …"""

_METHODS = {"join", "extend", "fromkeys"}
"""… and methods of Python's own types that walk over their first argument: others' may take it as it is."""


def place_that_matters(
    function: Callable[..., Any],
    result_of: Callable[[Callable[..., Any]], object],
    expected: object,
) -> int | None:
    """The line of the function that walks over a set in an order that makes a difference; None if there is none.

    `result_of` calls it with the same inputs each time, and returns what can be compared; of the function as it is that
    gives `expected`.
    """
    every = _Walks(None)
    turned = _turned(function, every)
    if turned is None or result_of(turned) == expected:
        return None
    for line in every.met:
        if result_of(_turned(function, _Walks(line))) != expected:  # type: ignore[arg-type]  # it could be made before
            return line
    return next(iter(every.met), None)


class _Walks:
    """Through this goes whatever is walked over: sets come out the other way round, at one line or at all."""

    def __init__(self, line: int | None) -> None:
        self.met: dict[int, None] = {}
        """The lines where there was a set with an order."""
        self._line = line

    def __call__(self, value: Any, line: int) -> Any:
        return list(value)[::-1] if self._turns(value, line) else value

    def by(self, called: Any, line: int) -> Any:
        """A function that is about to be called: where it walks over arguments, they go through here."""
        if _shows(called):
            return lambda *given, **named: called(
                *(self.shown(one, line) for one in given),
                **{name: self.shown(one, line) for name, one in named.items()},
            )
        walked = _walked(called)
        if walked is None:
            return called

        def led(*given: Any, **named: Any) -> Any:
            values = list(given)
            if called not in (min, max) or len(values) == 1:  # of several it takes one as it is
                values[walked] = [self(one, line) for one in values[walked]]
            return called(*values, **named)

        return led

    def added(self, longer: Any, value: Any, line: int) -> Any:
        """What is added to something: a list walks over it, others may take it as it is."""
        return self(value, line) if isinstance(longer, list | deque) else value

    def shown(self, value: Any, line: int) -> Any:
        """What is about to become text."""
        return turned(value, lambda one: self._turns(one, line))

    def modulo(self, left: Any, right: Any, line: int) -> Any:
        """What `left % right` gives."""
        return left % self.put(left, right, line)

    def put(self, left: Any, right: Any, line: int) -> Any:
        """The right of `left % right`: where the left is a text, it is to stand in it."""
        return self.shown(right, line) if type(left) is str else right

    def pop(self, value: Any, line: int) -> Any:
        """What `value.pop()` gives: of a set the last element and not the first."""
        if not (type(value) is set and self._turns(value, line)):
            return value.pop()
        *_, last = value
        value.remove(last)
        return last

    def _turns(self, value: Any, line: int) -> bool:
        if type(value) not in (set, frozenset) or len(value) <= 1:
            return False
        self.met[line] = None
        return self._line in (None, line)


def _walked(called: Any) -> slice | None:
    """Which arguments a function walks over; None for one that is not known to walk."""
    if isinstance(called, BuiltinMethodType) and called.__name__ in _METHODS:
        return _FIRST
    return next((walked for one, walked in _WALKED if one is called), None)


def _shows(called: Any) -> bool:
    """Whether a function makes a text of its arguments."""
    if isinstance(called, BuiltinMethodType) and type(called.__self__) is str:
        return called.__name__ in ("format", "format_map")
    return any(called is one for one in (str, repr, ascii, format))


def _turned(function: Any, walks: _Walks) -> Callable[..., Any] | None:
    """The function, with all that it walks over led through `walks`."""
    if isinstance(function, FunctionType):
        return _made_again(function, walks)
    if isinstance(function, MethodType):
        inner = _turned(function.__func__, walks)
        return None if inner is None else MethodType(inner, function.__self__)
    if isinstance(function, functools.partial):
        inner = _turned(function.func, walks)
        return inner and functools.partial(inner, *function.args, **function.keywords)
    if isinstance(function, Typed):
        inner = _turned(function.reduce, walks)
        return inner and dataclasses.replace(function, reduce=inner)
    if isinstance(function, TypedReset):
        inner = _turned(function.is_reset, walks)
        return inner and dataclasses.replace(function, is_reset=inner)
    return None


def _made_again(function: FunctionType, walks: _Walks) -> FunctionType | None:
    code = _led(function.__code__)
    if code is None:
        return None
    names = function.__code__.co_freevars
    cells = dict(zip(names, function.__closure__ or (), strict=True)) | {_NAME: CellType(walks)}
    closure = tuple(cells[name] for name in code.co_freevars)
    made = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, closure
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


@functools.lru_cache(maxsize=KNOWN_FUNCTIONS)
def _led(code: CodeType) -> CodeType | None:
    """The code with all walks led through a variable around it; None where it cannot be made."""
    try:
        lines, at = inspect.findsource(code)
        tree = ast.parse(textwrap.dedent("".join(inspect.getblock(lines[at:]))))
        imported = sorted({*_imported(ast.parse("".join(lines)))} - {"*", "__future__"})
    except (OSError, SyntaxError, tokenize.TokenError):
        return None
    match tree.body:
        case [ast.FunctionDef() as definition]:
            ast.increment_lineno(tree, at)
            definition.decorator_list, definition.name = [], _AGAIN
        case _:
            return None
    as_it_is = _compiled(definition, imported, code)
    if as_it_is is None or not _is_same(as_it_is, code):
        return None
    led = _Leading().visit(definition)
    return _compiled(ast.fix_missing_locations(led), imported, code)


def _imported(module: ast.Module) -> Iterator[str]:
    """The names that a module imports for all its functions: what is called by way of them is called in another way."""
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((one.asname or one.name).partition(".")[0] for one in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _compiled(
    definition: ast.FunctionDef, imported: Sequence[str], code: CodeType
) -> CodeType | None:
    """The code of a function that stands within another one, with the variables that it has from there."""
    around = [ast.arg(name) for name in (*code.co_freevars, _NAME)]
    arguments = ast.arguments([], around, None, [], [], None, [])
    outer = ast.FunctionDef("around", arguments, [definition], [])
    imports = [ast.Import([ast.alias(name)]) for name in imported]
    module = ast.fix_missing_locations(ast.Module([*imports, outer], []))
    try:
        compiled = compile(module, code.co_filename, "exec", dont_inherit=True, flags=_flags(code))
    except SyntaxError:
        return None
    [inner] = [one for one in compiled.co_consts if isinstance(one, CodeType)]
    found = [one for one in inner.co_consts if isinstance(one, CodeType)]
    return next((one for one in found if one.co_name == _AGAIN), None)


def _is_same(one: CodeType, other: CodeType) -> bool:
    """Whether they do the same, as far as is seen outside of the functions within."""
    plain, others = (
        [repr(const) for const in code.co_consts if not isinstance(const, CodeType | frozenset)]
        for code in (one, other)
    )
    return (one.co_code, one.co_names, plain) == (other.co_code, other.co_names, others)


def _flags(code: CodeType) -> int:
    """Of the future statements of the module, those that it was compiled with."""
    features = (getattr(__future__, name) for name in __future__.all_feature_names)
    return sum(one.compiler_flag for one in features if code.co_flags & one.compiler_flag)


class _Leading(ast.NodeTransformer):
    """Leads what is walked over through the variable."""

    def visit_For(self, node: ast.For) -> ast.AST:
        """Lead what a loop walks over."""
        self.generic_visit(node)
        node.iter = _through(node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """Lead what a comprehension walks over."""
        self.generic_visit(node)
        node.iter = _through(node.iter)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        """Lead what is spread; what is assigned to stays."""
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = _through(node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Lead what is taken apart."""
        self.generic_visit(node)
        if all(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            node.value = _through(node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """Lead what a list is made longer by, and what is put into a text."""
        self.generic_visit(node)
        method = _TAKING.get(type(node.op))
        if method is not None and isinstance(node.target, ast.Name):
            led = ast.Attribute(_walks(), method, ast.Load())
            taker = ast.Name(node.target.id, ast.Load())
            node.value = ast.copy_location(
                ast.Call(led, [taker, node.value, ast.Constant(node.lineno)], []), node
            )
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        """Lead what stands in an f-string."""
        self.generic_visit(node)
        shown = ast.Attribute(_walks(), "shown", ast.Load())
        node.value = ast.copy_location(
            ast.Call(shown, [node.value, ast.Constant(node.value.lineno)], []), node.value
        )
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Lead what may be put into a text."""
        self.generic_visit(node)
        if not isinstance(node.op, ast.Mod):
            return node
        modulo = ast.Attribute(_walks(), "modulo", ast.Load())
        return ast.copy_location(
            ast.Call(modulo, [node.left, node.right, ast.Constant(node.lineno)], []), node
        )

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Lead what is given to what walks over it."""
        self.generic_visit(node)
        called = node.func
        name = getattr(called, "attr", getattr(called, "id", None))
        if name == "pop" and isinstance(called, ast.Attribute) and not (node.args or node.keywords):
            method = ast.Attribute(_walks(), "pop", ast.Load())
            return ast.copy_location(
                ast.Call(method, [called.value, ast.Constant(node.lineno)], []), node
            )
        if name in _WALKERS | _SHOWERS:
            by = ast.Attribute(_walks(), "by", ast.Load())
            node.func = ast.copy_location(
                ast.Call(by, [called, ast.Constant(node.lineno)], []), node
            )
        return node


def _through(node: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Call(_walks(), [node, ast.Constant(node.lineno)], []), node)


def _walks() -> ast.Name:
    return ast.Name(_NAME, ast.Load())
