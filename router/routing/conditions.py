"""Conditions in the Common Expression Language: checked when they are read, explained when they are decided.

``Condition`` wraps cel-python and adds what a route needs: names and functions are checked at the start, numbers of
different types compare (as the CEL specification says; cel-python 0.5 does not), an absent attribute is named instead
of raised, and the work is bounded. Reasons quote the expression and never a value from a header, but for the few code
words of ``SHOWN``. Next: condition_values.py (what it works on), rules.py (routes and series).
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import celpy
from celpy import celtypes
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError, Evaluator
from lark import Token, Tree

from medai.router.errors import SettingsError
from medai.router.routing.condition_values import NODES_A_STEP, OPERATORS, STEP_LIMIT, TRACE, TooMuchWork, Trace
from medai.router.routing.identifying import identifies

LENGTH_LIMIT = 2000
DEPTH_LIMIT = 300
"""Of the syntax tree: a pair of brackets takes about ten, and cel-python recurses four frames deep for each."""
NESTING_LIMIT = 2

MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
METHODS = frozenset({"startsWith", "endsWith", "contains", "matches", "size"})
FUNCTIONS = frozenset({"has", "size", "int", "double", "string", "bool", "matches"})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a condition came to: ``value`` is None where it could not be decided; ``reason`` says why."""

    value: bool | None
    reason: str


class Condition:
    """One compiled expression over the variables ``names``; an empty text is always true.

    Raises SettingsError that names ``place`` (as ``routes.chest.when``), the line, the column and the fault.
    """

    def __init__(self, text: str, *, names: frozenset[str], place: str) -> None:
        self.text = text.strip() or "true"
        self._place = place
        if len(self.text) > LENGTH_LIMIT:
            raise SettingsError(f"{place}: {len(self.text)} characters, at most {LENGTH_LIMIT} are allowed")
        tree = self._parse()
        _Check(self.text, place, names).whole(tree)
        environment = _environment()
        self._parts = [(self._source(part), environment.program(part, OPERATORS)) for part in _conjuncts(tree)]

    def test(self, scope: Mapping[str, Any]) -> Outcome:
        """Decide it for the variables in ``scope`` (name -> Record or Items). Never raises for what data hold.

        The parts of a top-level ``&&`` are decided in order and the first false one is the reason; an undecidable
        part matters only where none is false, as CEL says.
        """
        undecided: Outcome | None = None
        for source, program in self._parts:
            outcome = self._part(source, program, scope)
            if outcome.value is False:
                return outcome
            undecided = undecided or (outcome if outcome.value is None else None)
        always = self.text == "true"
        return undecided or Outcome(value=True, reason="every study" if always else f"{_one_line(self.text)} is true")

    def _part(self, source: str, program: Any, scope: Mapping[str, Any]) -> Outcome:
        trace = Trace()
        token = TRACE.set(trace)
        try:
            value = program.evaluate(dict(scope))
        except TooMuchWork:
            return Outcome(
                value=None, reason=f"{source} cannot be decided: it looks at more than {STEP_LIMIT} elements"
            )
        except (
            CELEvalError,
            TypeError,
            ValueError,
            KeyError,
            ArithmeticError,
            IndexError,
            AttributeError,
            RecursionError,
        ):
            # cel-python lets some of Python's own errors through; their texts quote values, so they are not repeated.
            return Outcome(value=None, reason=_why_undecided(source, trace))
        finally:
            TRACE.reset(token)
        if not isinstance(value, celtypes.BoolType):
            return Outcome(value=None, reason=f"{source} cannot be decided: it is neither true nor false")
        known = "; ".join(
            f"{name} is {word}" for name, word in sorted(trace.shown.items()) if name.startswith("study.")
        )
        note = f" ({known})" if known and not value else ""
        return Outcome(value=bool(value), reason=f"{source} is {'true' if value else 'false'}{note}")

    def _parse(self) -> Tree[Token]:
        try:
            return _environment().compile(self.text)
        except CELParseError as error:
            ends = getattr(getattr(error.__context__, "token", None), "type", "") == "$END"
            place = None if ends else _place(error)
            # Where the text ends too early, the parser points at the last word that it could read.
            line, column = place or (self.text.count("\n") + 1, len(self.text.splitlines()[-1]) + 1)
            raise fault(self._place, self.text, line, column, _syntax_hint(self.text, line, column)) from error
        except RecursionError as error:
            raise SettingsError(f"{self._place}: too deeply nested") from error

    def _source(self, part: Tree[Token]) -> str:
        return _one_line(self.text[part.meta.start_pos : part.meta.end_pos])


def fault(place: str, text: str, line: int, column: int, what: str) -> SettingsError:
    """A SettingsError that shows the place in the expression with a caret."""
    source = text.splitlines()[line - 1] if text else ""
    return SettingsError(f"{place}: line {line}, column {column}: {what}\n    {source}\n    {' ' * (column - 1)}^")


def _place(error: BaseException | None) -> tuple[int, int] | None:
    """Line and column at which the parser stopped; before a literal only the lexer's error, further down, has them."""
    while error is not None:
        line, column = getattr(error, "line", None), getattr(error, "column", None)
        if line and column and line > 0 and column > 0:
            return line, column
        error = error.__context__
    return None


def _syntax_hint(text: str, line: int, column: int) -> str:
    rest = text.splitlines()[line - 1][column - 1 :]
    before = text.splitlines()[line - 1][: column - 1].rstrip()
    if rest.startswith("="):
        return "write == to compare"
    word = re.match(r"(and|or|not|AND|OR|NOT)\b", rest)
    if word:
        return f"write {({'and': '&&', 'or': '||', 'not': '!'})[word.group().lower()]} for {word.group()!r}"
    if re.search(r"\b(not|NOT)$", before):
        return "write ! for 'not'"
    return "the expression ends too early" if not rest.strip() else "this is not an expression"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _why_undecided(source: str, trace: Trace) -> str:
    reasons = [_absence(name, places) for name, places in trace.absent.items()] + trace.mismatches
    why = "; ".join(dict.fromkeys(reasons)) or "an operator or function does not fit the values"
    return f"{source} cannot be decided: {why}"


def _absence(name: str, places: list[str]) -> str:
    if not places:
        return f"{name} is absent"
    listed = f"{', '.join(places[:5])} and {len(places) - 5} more" if len(places) > 5 else ", ".join(places)
    return f"{name} is absent in {listed}"


@functools.cache
def _environment() -> celpy.Environment:
    # At the level debug cel-python logs every value that it meets, patient names among them.
    logging.getLogger("celpy").setLevel(logging.WARNING)
    return celpy.Environment(runner_class=_Runner)


class _Counted(Evaluator):
    """cel-python's evaluator, which counts what it does: also the elements of lists that are in the expression."""

    def sub_evaluator(self, ast: Tree[Token]) -> Evaluator:
        """What a macro evaluates for each element."""
        return _Counted(ast, activation=self.activation)

    def evaluate(self, context: Any = None) -> Any:
        """The whole expression, or a macro's for one element."""
        TRACE.get().charge(1)
        return super().evaluate(context)

    def visit_children(self, tree: Tree[Token]) -> list[Any]:
        """A part of the expression."""
        TRACE.get().charge(1 / NODES_A_STEP)
        return super().visit_children(tree)


class _Runner(celpy.InterpretedRunner):
    def evaluate(self, context: Any) -> Any:
        return _Counted(ast=self.ast, activation=self.new_activation()).evaluate(context)


def _conjuncts(tree: Tree[Token]) -> list[Tree[Token]]:
    """The parts of a top-level ``a && b && c``, in order; the tree itself where it is something else."""
    node = tree
    for name in ("expr", "conditionalor"):
        if node.data != name or len(node.children) != 1:
            return [tree]
        node = _child(node, 0)
    parts: list[Tree[Token]] = []
    while node.data == "conditionaland" and len(node.children) == 2:
        parts.append(_child(node, 1))
        node = _child(node, 0)
    return [node, *reversed(parts)]


def _child(tree: Tree[Token], index: int) -> Tree[Token]:
    child = tree.children[index]
    if not isinstance(child, Tree):
        raise TypeError("a token where the grammar has a rule")
    return child


class _Check:
    """Finds, before any study comes, unknown names, attributes that identify, and functions that are not CEL's."""

    def __init__(self, text: str, place: str, names: frozenset[str]) -> None:
        self._text = text
        self._place = place
        self._names = names

    def whole(self, tree: Tree[Token]) -> None:
        depths = [(tree, 1)]
        while depths:
            node, depth = depths.pop()
            if depth > DEPTH_LIMIT:
                raise SettingsError(f"{self._place}: too deeply nested; split it by && or make two routes of it")
            depths += [(child, depth + 1) for child in node.children if isinstance(child, Tree)]
        self._walk(tree, self._names, 0)

    def _walk(self, tree: Tree[Token], names: frozenset[str], nesting: int) -> None:
        kind = str(tree.data)
        if kind == "ident":
            self._variable(tree, names)
        elif kind in ("dot_ident", "dot_ident_arg", "member_object"):
            raise self._fault(tree, "this form of CEL is not supported in routes")
        elif kind in ("member_dot", "member_index"):
            self._attribute(tree)
        elif kind == "ident_arg":
            self._allowed(tree, str(tree.children[0]), FUNCTIONS)
        elif kind == "member_dot_arg":
            name = str(tree.children[1])
            self._allowed(tree, name, MACROS | METHODS)
            if name in MACROS:
                return self._macro(tree, name, names, nesting)
            if name == "matches":
                self._pattern(tree)
        for child in tree.children:
            if isinstance(child, Tree):
                self._walk(child, names, nesting)
        return None

    def _macro(self, tree: Tree[Token], name: str, names: frozenset[str], nesting: int) -> None:
        arguments = _child(tree, 2).children if len(tree.children) > 2 else []
        if len(arguments) != 2:
            raise self._fault(tree, f"{name} takes a name and a condition: series.{name}(s, s.SliceThickness <= 3)")
        if nesting >= NESTING_LIMIT:
            raise self._fault(tree, f"at most {NESTING_LIMIT} of {', '.join(sorted(MACROS))} may be nested")
        variable = self._text[_child(_child(tree, 2), 0).meta.start_pos : _child(_child(tree, 2), 0).meta.end_pos]
        if not re.fullmatch(r"[A-Za-z_]\w*", variable):
            raise self._fault(tree, f"the first argument of {name} is a name, as in series.{name}(s, …)")
        self._walk(_child(tree, 0), names, nesting)
        self._walk(_child(_child(tree, 2), 1), names | {variable}, nesting + 1)

    def _variable(self, tree: Tree[Token], names: frozenset[str]) -> None:
        name = str(tree.children[0])
        if name not in names:
            raise self._fault(tree, f"{name!r} is not known here; use {' or '.join(sorted(names, reverse=True))}")

    def _attribute(self, tree: Tree[Token]) -> None:
        part = tree.children[1]
        name = self._text[part.meta.start_pos : part.meta.end_pos] if isinstance(part, Tree) else str(part)
        name = re.sub(r"""^[rR]?(["'])(.*)\1$""", r"\2", name)
        if identifies(name):
            raise self._fault(tree, f"{name} identifies a patient (DICOM PS3.15 Annex E): routes can't ask for it")

    def _allowed(self, tree: Tree[Token], name: str, known: frozenset[str]) -> None:
        if name not in known:
            raise self._fault(tree, f"there is no function {name!r}; there are {', '.join(sorted(known))}")

    def _pattern(self, tree: Tree[Token]) -> None:
        arguments = _child(tree, 2) if len(tree.children) > 2 else None
        source = self._text[arguments.meta.start_pos : arguments.meta.end_pos] if arguments else ""
        if not re.fullmatch(r"""[rR]?("[^"\n]*"|'[^'\n]*')""", source):
            return  # computed: it is known only when a study comes
        token = TRACE.set(Trace())
        try:
            _environment().program(_environment().compile(f'"".matches({source})')).evaluate({})
        except CELEvalError as error:
            raise self._fault(tree, f"{source} is not a regular expression (RE2)") from error
        finally:
            TRACE.reset(token)

    def _fault(self, tree: Tree[Token], what: str) -> SettingsError:
        return fault(self._place, self._text, tree.meta.line, tree.meta.column, what)
