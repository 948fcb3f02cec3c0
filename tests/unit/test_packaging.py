"""What pyproject.toml says of the packages is what lies in the folders; no old name is left anywhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("router", "workers", "models", "hl7_mock", "trials", "training")
MAGE = "training/etl/mage_project"
"""A project of Mage's, which the command copies as it is: data of our package, and no package of it."""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_with_modules_is_a_package_that_is_listed(project: dict[str, Any]) -> None:
    held = {path.parent.relative_to(ROOT).as_posix() for top in TOPS for path in (ROOT / top).rglob("*.py")}
    there = {f"medai.{folder.replace('/', '.')}" for folder in held if not folder.startswith(MAGE)}
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(there) == sorted(listed)
    for name in listed:
        assert (ROOT.joinpath(*name.split(".")[1:]) / "__init__.py").is_file(), name


def test_every_file_that_is_no_module_is_data_of_its_package(project: dict[str, Any]) -> None:
    data = project["tool"]["setuptools"]["package-data"]
    kept = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    left_out = [
        path.relative_to(ROOT).as_posix()
        for top in TOPS
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path not in kept
    ]
    assert left_out == []


def test_types_and_import_rules_cover_the_same_packages(project: dict[str, Any]) -> None:
    tops = [f"medai.{top}" for top in TOPS]
    assert sorted(project["tool"]["mypy"]["packages"]) == sorted(tops)
    assert sorted(project["tool"]["importlinter"]["root_packages"]) == sorted(tops)


def test_every_command_names_a_function_that_is_there(project: dict[str, Any]) -> None:
    for entry in project["project"]["scripts"].values():
        module, _, function = entry.partition(":")
        path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
        assert f"\ndef {function}(" in path.read_text(encoding="utf-8"), entry


# -- old names

OLD = re.compile(
    rf"""(?x)
    -m \s+ (?:{"|".join(TOPS)})\b             # python -m router.cli
    | ["'] -m ["'] , \s* ["'] (?:{"|".join(TOPS)})[.."']  # the same as arguments
    | (?<![\w./-]) (?:{"|".join(TOPS)}) (?:\.\w+)+ : \w+  # router.cli:main, an entry point
    | ^ \s* from \s+ (?:{"|".join(TOPS)}) (?:\.\w+)* \s+ import \b
    | ^ \s* import \s+ (?:{"|".join(TOPS)}) (?:\.\w+)* \s* (?:$|,|;|as\b)
    """,
    re.MULTILINE,
)
SPELT_OUT = ("CHANGELOG.md", "tests/unit/test_packaging.py", "tests/version_before_files/")
"""They tell what the old names were, or are a site of that time."""


def written() -> Iterator[Path]:
    """Every file of text that a person, a shell, an init system or Python reads."""
    names = (".md", ".py", ".toml", ".yml", ".yaml", ".service", ".conf", ".sh", ".txt", ".json", ".html", "")
    for top in (*TOPS, "docs", "deploy", "benchmarks", "tests", "orthanc", ".ci"):
        yield from (path for path in (ROOT / top).rglob("*") if path.is_file() and path.suffix in names)
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in names)


def test_no_file_uses_a_name_from_before_the_packages_were_called_medai() -> None:
    found = []
    for path in written():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(SPELT_OUT) or "__pycache__" in name:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [
            f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group().strip()}" for hit in OLD.finditer(text)
        ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "ExecStart=/opt/medai/bin/python -m router.cli router",
        'command: ["python", "-m", "workers.cli", "worker"]',
        'medai = "router.cli:main"',
        "from router.contract import Job",
        "    import models.registry",
    ],
)
def test_an_old_name_would_be_found(line: str) -> None:
    assert OLD.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "python -m medai.router.cli",
        'medai = "medai.router.cli.main:main"',
        "from medai.models import registry",
        "see router/cli/main.py: the commands",
        "    from models that ship",
    ],
)
def test_a_name_of_today_would_not(line: str) -> None:
    assert not OLD.search(line)
