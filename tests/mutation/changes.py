"""Every small change that could be made to a module's source, one at a time, on the syntax tree.

Docstrings, annotations, decorators and imports are left alone: a change there is no change of behaviour, or never
unnoticed. Next: play.py.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
TWINS = {"min": "max", "any": "all", "sorted": "list", "startswith": "endswith", "upper": "lower", "rstrip": "lstrip"}
TWINS |= {other: name for name, other in TWINS.items() if name != "sorted"}
"""Calls that are exchanged for each other, functions and methods."""
DROPPED = frozenset({"strip", "rstrip", "lstrip", "upper", "lower", "removeprefix", "removesuffix", "copy"})
"""Methods whose object stands as well without them."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change: where, and the words of what was and what is now; ``tree`` is the changed module."""

    line: int
    column: int
    was: str
    now: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """The same for the same source, also when only tests changed since."""
        return f"{self.line}:{self.column} {self.was}  =>  {self.now}"


def mutants(source: str) -> Iterator[Mutant]:
    """Each mutant of a module, in the order of the source; each once."""
    tree = ast.parse(source)
    seen: set[str] = set()
    for node, put in _places(tree):
        for new in _changes(node):
            put(new)
            changed = copy.deepcopy(tree)
            put(node)
            mutant = Mutant(
                line=getattr(node, "lineno", 0),
                column=getattr(node, "col_offset", 0),
                was=_words(node),
                now=_words(new),
                tree=ast.fix_missing_locations(changed),
            )
            if mutant.was != mutant.now and mutant.name not in seen:
                seen.add(mutant.name)
                yield mutant


Put = Callable[[ast.AST], None]
Place = tuple[ast.AST, Put]


def _words(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 150 else f"{text[:100]} … {text[-48:]}"


# -- where


def _places(node: ast.AST) -> Iterator[Place]:
    """Every node below, each with how to put another in its place."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params") or isinstance(value, ast.expr_context):
            continue
        if isinstance(value, list):
            for index, child in enumerate(value):
                if isinstance(child, ast.AST) and not _left_alone(child):
                    yield child, _putter(value, index)
                    yield from _places(child)
        elif isinstance(value, ast.AST):
            yield value, _attribute_putter(node, field)
            yield from _places(value)


def _left_alone(node: ast.AST) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, ast.Import | ast.ImportFrom)


def _putter(values: list[Any], index: int) -> Put:
    def put(node: ast.AST) -> None:
        values[index] = node

    return put


def _attribute_putter(owner: ast.AST, field: str) -> Put:
    return lambda node: setattr(owner, field, node)


# -- what


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    for kinds, change in _CHANGES:
        if isinstance(node, kinds):
            for new in change(node):
                yield ast.copy_location(copy.copy(new), node)  # a copy, since it may be the node's own child


def _with(node: ast.AST, **fields: Any) -> Any:
    """The node with other fields; children are shared, since the whole tree is copied afterwards."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _without_each(values: list[Any]) -> Iterator[list[Any]]:
    for index in range(len(values)):
        yield values[:index] + values[index + 1 :]


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for index, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield _with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])


def _boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for rest in _without_each(node.values):
        yield rest[0] if len(rest) == 1 else _with(node, values=rest)


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield node.operand


def _operation(node: ast.BinOp | ast.AugAssign) -> Iterator[ast.AST]:
    if type(node.op) in OPERATIONS:
        yield _with(node, op=OPERATIONS[type(node.op)]())


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    match node.value:
        case bool():
            yield _with(node, value=not node.value)
        case int() | float():
            yield _with(node, value=node.value + 1)
        case str():
            yield _with(node, value=f"{node.value}XX")
        case bytes():
            yield _with(node, value=node.value + b"XX")


def _condition(node: ast.If | ast.IfExp | ast.While) -> Iterator[ast.AST]:
    for answer in (False,) if isinstance(node, ast.While) else (True, False):
        yield _with(node, test=ast.Constant(value=answer))


def _comprehension(node: ast.comprehension) -> Iterator[ast.AST]:
    for rest in _without_each(node.ifs):
        yield _with(node, ifs=rest)


def _loop(node: ast.For) -> Iterator[ast.AST]:
    yield _with(node, iter=ast.Tuple(elts=[], ctx=ast.Load()))


def _return(node: ast.Return) -> Iterator[ast.AST]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield _with(node, value=ast.Constant(value=None))


def _statement(node: ast.stmt) -> Iterator[ast.AST]:
    """Left out: a call for its effect, a raise, a step of a sum; a jump becomes the other one."""
    match node:
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.Raise() | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def _call(node: ast.Call) -> Iterator[ast.AST]:
    for rest in _without_each(node.keywords):
        yield _with(node, keywords=rest)
    match node.func:
        case ast.Name(id=name) if name in TWINS:
            yield _with(node, func=_with(node.func, id=TWINS[name]))
        case ast.Attribute(value=owner, attr=name):
            if name in TWINS:
                yield _with(node, func=_with(node.func, attr=TWINS[name]))
            if name in DROPPED:
                yield owner


def _slice(node: ast.Slice) -> Iterator[ast.AST]:
    for field in ("lower", "upper", "step"):
        if getattr(node, field) is not None:
            yield _with(node, **{field: None})


def _attribute(node: ast.Attribute) -> Iterator[ast.AST]:
    if node.attr == "T":  # of a matrix
        yield node.value


def _members(node: ast.Dict | ast.Set | ast.List | ast.Tuple) -> Iterator[ast.AST]:
    """One member less; of a tuple or list only where it is a table of constants."""
    if isinstance(node, ast.Dict):
        for keys, values in zip(_without_each(node.keys), _without_each(node.values), strict=True):
            yield _with(node, keys=keys, values=values)
    elif isinstance(node, ast.Set) or all(isinstance(each, ast.Constant | ast.Tuple) for each in node.elts):
        for rest in _without_each(node.elts):
            yield _with(node, elts=rest)


def _handler(node: ast.ExceptHandler) -> Iterator[ast.AST]:
    if isinstance(node.type, ast.Tuple):
        for rest in _without_each(node.type.elts):
            yield _with(node, type=_with(node.type, elts=rest))


def _match_value(node: ast.match_case) -> Iterator[ast.AST]:
    if node.guard is not None:
        yield _with(node, guard=None)


_CHANGES: tuple[tuple[Any, Callable[[Any], Iterator[ast.AST]]], ...] = (
    (ast.Compare, _compare),
    (ast.BoolOp, _boolean),
    (ast.UnaryOp, _unary),
    ((ast.BinOp, ast.AugAssign), _operation),
    (ast.Constant, _constant),
    ((ast.If, ast.IfExp, ast.While), _condition),
    (ast.comprehension, _comprehension),
    (ast.For, _loop),
    (ast.Return, _return),
    (ast.stmt, _statement),
    (ast.Call, _call),
    (ast.Slice, _slice),
    (ast.Attribute, _attribute),
    ((ast.Dict, ast.Set, ast.List, ast.Tuple), _members),
    (ast.ExceptHandler, _handler),
    (ast.match_case, _match_value),
)
