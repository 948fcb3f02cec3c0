"""What a condition works on: a study's attributes as CEL values, CEL's operators on them, and a trace of what was met.

``Record`` converts attributes as they are read and notes the absent ones, and shows none that identifies;
``OPERATORS`` are those in which cel-python 0.5 is stricter than the CEL specification; ``Trace.charge`` bounds the
work of a decision, whatever it is spent on. Next: identifying.py (what is not shown), conditions.py (who uses them).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from celpy import celtypes
from celpy.evaluation import CELEvalError, function_matches

from medai.router.routing.identifying import seen

STEP_LIMIT = 5000
"""Elements that one decision may look at (about 0.3 ms each); other work counts as so many of them."""
NODES_A_STEP = 20
"""So many parts of an expression cost as much as an element of a list."""
MATCHED_A_STEP = 40
"""So many characters held against a pattern cost as much (measured with the costliest patterns that RE2 takes)."""
COPIED_A_STEP = 10_000
"""So many characters joined cost as much."""
TEXT_LIMIT = 10_240
"""A longer text (none of DICOM's that routes are about) is not looked at; LT's limit, PS3.5 6.2."""
SHOWN = frozenset({"Modality", "ModalitiesInStudy", "BodyPartExamined", "Orientation"})
"""Attributes whose values a reason may quote: code strings that name nobody."""


class TooMuchWork(Exception):
    """A condition looked at more than STEP_LIMIT elements, or took as much work in another way."""


@dataclass
class Allowance:
    """Work that several decisions may take together."""

    left: float


ALLOWANCE: ContextVar[Allowance | None] = ContextVar("cel_allowance", default=None)
"""Set where somebody else's conditions are tried (console/rule_test.py)."""


@dataclass
class Trace:
    """What one evaluation met on its way; the evaluator itself tells only that something failed."""

    absent: dict[str, list[str]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)
    steps: float = 0.0

    def charge(self, steps: float) -> None:
        """Count some work; raises TooMuchWork once it is more than allowed."""
        self.steps += steps
        allowance = ALLOWANCE.get()
        if allowance is not None:
            allowance.left -= steps
        if self.steps > STEP_LIMIT or (allowance is not None and allowance.left < 0):
            raise TooMuchWork


TRACE: ContextVar[Trace] = ContextVar("cel_trace")


class Record(celtypes.MapType):
    """Attributes as a CEL map that is converted as it is read; those that identify somebody are not in it.

    An empty attribute counts as absent: DICOM writes "unknown" so (PS3.5 7.4.3, type 2).
    ``path`` ("study") and ``where`` ("series 3") name an absent attribute in reasons.
    """

    def __init__(self, attributes: Mapping[str, Any], *, path: str, where: str = "") -> None:
        super().__init__()
        self._attributes = attributes
        self._path = path
        self._where = where

    def __getitem__(self, key: Any) -> Any:
        name = str(key)
        trace = TRACE.get()
        if not self._has(name):
            places = trace.absent.setdefault(self._named(name), [])
            if self._where and self._where not in places:
                places.append(self._where)
            raise KeyError(name)
        value = self._attributes[name]
        if name in SHOWN:
            trace.shown[self._named(name)] = code_word(value)
        return to_cel(value, path=f"{self._named(name)}[]", where=self._where)

    def _named(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def __contains__(self, key: object) -> bool:
        return self._has(str(key))

    def _has(self, name: str) -> bool:
        value = self._attributes.get(name) if seen(name) else None
        if isinstance(value, str) and len(value) > TEXT_LIMIT:
            return False
        return any(item not in ("", None) for item in value) if isinstance(value, tuple) else value not in ("", None)

    def __iter__(self) -> Iterator[Any]:
        return iter([celtypes.StringType(name) for name in self._attributes if self._has(name)])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Items(celtypes.ListType):
    """A CEL list that counts how often its elements are looked at."""

    def __iter__(self) -> Iterator[Any]:
        trace = TRACE.get()
        for item in super().__iter__():
            trace.charge(1)
            yield item


def to_cel(value: Any, *, path: str, where: str = "") -> Any:
    """A value of ``SeriesFacts.attributes`` as CEL sees it: float -> double, int -> int, tuple -> list, dict -> map."""
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, float):
        return celtypes.DoubleType(value)
    if isinstance(value, int):
        return celtypes.IntType(value)
    if isinstance(value, Mapping):
        return Record(value, path=path, where=where)
    if isinstance(value, tuple | list):
        TRACE.get().charge(len(value) / NODES_A_STEP)
        return Items([to_cel(item, path=path, where=where) for item in value])
    return None if value is None else celtypes.StringType(str(value))


def code_word(value: Any) -> str:
    """A DICOM code string (or several) as a reason may quote it; anything else stays unsaid."""
    words = value if isinstance(value, tuple | list) else (value,)
    if all(isinstance(word, str) and re.fullmatch(r"[A-Za-z0-9_ ]{0,16}", word) for word in words):
        return ", ".join(word or "empty" for word in words) or "empty"
    return "something else"


# -- operators that follow the CEL specification where cel-python 0.5 is stricter


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, celtypes.BoolType)


def _plain(value: Any) -> int | float:
    return float(value) if isinstance(value, float) else int(value)


_KINDS: tuple[tuple[type, str], ...] = (
    (celtypes.BoolType, "true or false"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a group of attributes"),
    (int, "a number"),
    (float, "a number"),
)


def _kind(value: Any) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "nothing")


def _mismatch(left: Any, right: Any) -> CELEvalError:
    TRACE.get().mismatches.append(f"{_kind(left)} is compared with {_kind(right)}")
    return CELEvalError("no such overload", TypeError, ())


def _relation(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def related(left: Any, right: Any) -> Any:
        for side in (left, right):
            if isinstance(side, CELEvalError):
                return side
        if _is_number(left) and _is_number(right):
            return celtypes.BoolType(compare(_plain(left), _plain(right)))
        if isinstance(left, str) and isinstance(right, str):
            return celtypes.BoolType(compare(str(left), str(right)))
        if compare in (operator.eq, operator.ne) and (_kind(left) == _kind(right) or left is None or right is None):
            return celtypes.BoolType(_same(left, right) is (compare is operator.eq))
        return _mismatch(left, right)

    return related


def _same(left: Any, right: Any) -> bool:
    """Equality within lists and maps, across number types; values of different kinds differ."""
    if _is_number(left) and _is_number(right):
        return _plain(left) == _plain(right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) or isinstance(right, dict):
        return left is right
    return _kind(left) == _kind(right) and bool(left == right)


def _contained(item: Any, container: Any) -> Any:
    for side in (item, container):
        if isinstance(side, CELEvalError):
            return side
    if isinstance(container, list):
        return celtypes.BoolType(any(_same(item, other) for other in container))
    if isinstance(container, dict):
        return celtypes.BoolType(item in container)
    # An attribute with one value is not a list; "is among its values" still has an answer.
    return celtypes.BoolType(_same(item, container)) if _kind(item) == _kind(container) else _mismatch(item, container)


def _joined(stop: bool) -> Callable[[Any, Any], Any]:
    """``&&`` (stop False) and ``||`` (stop True): an error on one side yields to ``stop`` on the other."""

    def join(left: Any, right: Any) -> Any:
        sides = (left, right)
        if any(isinstance(side, celtypes.BoolType) and bool(side) is stop for side in sides):
            return celtypes.BoolType(stop)
        wrong = next((side for side in sides if not isinstance(side, celtypes.BoolType)), None)
        if wrong is None and all(isinstance(side, celtypes.BoolType) for side in sides):
            return celtypes.BoolType(not stop)
        return wrong if isinstance(wrong, CELEvalError) else CELEvalError("no such overload", TypeError, ())

    return join


def _added(left: Any, right: Any) -> Any:
    TRACE.get().charge(sum(len(side) for side in (left, right) if isinstance(side, str | list)) / COPIED_A_STEP)
    return operator.add(left, right)


def _matches(text: Any, pattern: Any) -> Any:
    TRACE.get().charge(len(text) / MATCHED_A_STEP if isinstance(text, str) else 0)
    return function_matches(text, pattern)


OPERATORS: dict[str, Any] = {
    "matches": _matches,
    "_+_": _added,
    "_==_": _relation(operator.eq),
    "_!=_": _relation(operator.ne),
    "_<_": _relation(operator.lt),
    "_<=_": _relation(operator.le),
    "_>_": _relation(operator.gt),
    "_>=_": _relation(operator.ge),
    "_in_": _contained,
    "_&&_": _joined(False),
    "_||_": _joined(True),
}
