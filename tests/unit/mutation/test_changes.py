"""Which changes the mutation tester makes, and what it leaves alone."""

from __future__ import annotations

import ast

import pytest
from mutation.changes import mutants


def changed(source: str) -> set[str]:
    """Every mutant's source."""
    return {ast.unparse(mutant.tree) for mutant in mutants(source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"a <= b", "a >= b"}),
        ("a is not b", {"a is b"}),
        ("a and b", {"a or b", "a", "b"}),
        ("not a", {"a"}),
        ("a + b", {"a - b"}),
        ("n += x", {"n -= x", "pass"}),
        ("f(a, key=b)", {"f(a)", "pass"}),
        ("x = min(a, b)", {"x = max(a, b)"}),
        ("x = a.strip()", {"x = a"}),
        ("x = a.T", {"x = a"}),
        ("x = a[b:c]", {"x = a[:c]", "x = a[b:]"}),
        ("x = {a: b, c: d}", {"x = {a: b}", "x = {c: d}"}),
        ("x = 3", {"x = 4"}),
        ("x = True", {"x = False"}),
        ("x = 'a'", {"x = 'aXX'"}),
        ("x = f'a{b}'", {"x = f'aXX{b}'"}),
        ("x = [a for a in b if c]", {"x = [a for a in b]"}),
        ("x = a if b else c", {"x = a if True else c", "x = a if False else c"}),
    ],
)
def test_a_construct_is_changed_in_these_ways(source: str, expected: set[str]) -> None:
    assert changed(source) == expected


def test_a_return_a_raise_a_loop_and_a_jump_are_changed() -> None:
    found = changed("def f():\n    for a in b:\n        break\n    raise c\n    return d")
    lines = {line.strip() for source in found for line in source.splitlines()}
    assert {"for a in ():", "continue", "pass", "return None"} <= lines
    assert len(found) == 4


def test_docstrings_annotations_decorators_and_imports_are_left_alone() -> None:
    source = (
        '"""Words."""\nfrom a import b\n\n@decorated(1)\ndef f(x: "int | str") -> Literal["a"]:\n    """Words."""\n'
    )
    assert changed(source) == set()


def test_each_mutant_differs_from_the_source_and_from_the_others_by_its_name() -> None:
    source = "def f(a, b):\n    return a + 1 if a < b and not b else a - 1\n"
    names = [mutant.name for mutant in mutants(source)]
    assert len(names) == len(set(names))
    assert ast.unparse(ast.parse(source)) not in changed(source)
    assert names == [mutant.name for mutant in mutants(source)]
