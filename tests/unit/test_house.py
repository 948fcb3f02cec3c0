"""The pictures and tables of the house are those of its folders and imports."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("router", "workers", "models", "training", "trials", "hl7_mock")
LARGE = 12


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_house", ROOT / "docs" / "architecture" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders() -> dict[str, int]:
    """Every folder with tracked files -> how many modules lie directly in it, packages' own files apart."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found: dict[str, int] = {}
    for name in listed:
        path = Path(name)
        for parent in list(path.parents)[:-1]:
            found.setdefault(str(parent), 0)
        if path.suffix == ".py" and path.name != "__init__.py" and path.parent != Path():
            found[str(path.parent)] += 1
    return found


def named_in(page: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))


def test_each_picture_is_drawn_from_the_imports(draw: ModuleType) -> None:
    for path, text in draw.pictures().items():
        assert path.read_text(encoding="utf-8") == text, f"run python docs/architecture/draw.py: {path.name} is old"


def test_floors_put_each_box_above_what_it_imports_and_circles_side_by_side(draw: ModuleType) -> None:
    arrows = {
        "a": frozenset("bc"),
        "b": frozenset("d"),
        "c": frozenset("bd"),
        "d": frozenset(),
        "e": frozenset("f"),
        "f": frozenset("e"),
    }
    assert [sorted(floor) for floor in draw.floors_of(arrows)] == [["d", "e", "f"], ["b"], ["c"], ["a"]]
    assert {box for box, circle in draw.circles_of(arrows).items() if len(circle) > 1} == {"e", "f"}


def test_contributing_names_every_folder_and_every_room(folders: dict[str, int]) -> None:
    tops = {name for name in folders if "/" not in name}
    rooms = {
        name
        for name in folders
        if name.split("/")[0] in PACKAGES and name.count("/") == 1 and (ROOT / name / "__init__.py").exists()
    }
    named = {
        name.rstrip("/")
        for row in named_in("CONTRIBUTING.md", r"^\| (`[^|]*/`) \|")
        for name in re.findall(r"`([^`]+)`", row)
    }
    assert named == tops | rooms


def test_decisions_say_why_a_room_is_large(folders: dict[str, int]) -> None:
    large = {name for name, count in folders.items() if name.split("/")[0] in PACKAGES and count > LARGE}
    assert {name.rstrip("/") for name in named_in("docs/decisions.md", r"^  - `([^`]+/)`(?: itself)?:")} == large
