"""What reports tell has names: no dictionary of anything travels from them to pages, the API or commands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROUTER = Path(__file__).parents[4] / "router"
ROOMS = ("reports", "console", "metrics", "cli")
NAMELESS = ("dict[str, Any]", "Mapping[str, Any]", "dict[str, object]", "Mapping[str, object]")
ALLOWED = {
    "console/api.py:description": "OpenAPI's own document, as FastAPI makes it",
    "console/pictures.py:arrange": "instances as Orthanc's REST API lists them",
}
"""Public functions at an edge where JSON of others comes in or goes out as it is, with the reason."""


def signatures(path: Path) -> Iterator[tuple[str, str]]:
    """Each public function or method of a module, and its annotations as they are written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            args = node.args
            every = (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg)
            said = [each.annotation for each in every if each is not None] + [node.returns]
            yield node.name, " ".join(ast.unparse(each) for each in said if each is not None)


def nameless() -> set[str]:
    """Public functions whose signature has a dictionary of anything."""
    return {
        f"{room}/{path.name}:{name}"
        for room in ROOMS
        for path in sorted((ROUTER / room).glob("*.py"))
        for name, text in signatures(path)
        if any(each in text for each in NAMELESS)
    }


def test_no_public_function_takes_or_gives_a_dictionary_of_anything() -> None:
    assert nameless() - set(ALLOWED) == set()


def test_what_is_allowed_is_there() -> None:
    assert set(ALLOWED) - nameless() == set(), "delete what is not needed any more"


@pytest.mark.parametrize(
    "written", ["def f(x: dict[str, Any]) -> None: ...", "async def f(*, x: int) -> list[Mapping[str, Any]]: ..."]
)
def test_such_a_function_would_be_found(tmp_path: Path, written: str) -> None:
    (tmp_path / "module.py").write_text(written)
    ((_, text),) = signatures(tmp_path / "module.py")
    assert any(each in text for each in NAMELESS)
