"""Which files the packages of this checkout have, and which of them an image lacks: none may be forgotten. Next: cli.py.

The expected list is read from pyproject.toml by itself, not asked of setuptools: that is what it checks.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from images.engine import Engine

IN_THE_IMAGE = """\
import importlib.util, json, pathlib
place = pathlib.Path(importlib.util.find_spec("medai.router").origin).parent.parent
print(json.dumps([file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()]))
"""


def missing_files(engine: Engine, image: str, root: Path) -> list[str]:
    """Modules and data of the packages that the image doesn't hold."""
    answer = engine.podman("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", IN_THE_IMAGE)
    return sorted(package_files(root) - set(json.loads(answer)))


def package_files(root: Path) -> set[str]:
    """Every file of every package that pyproject.toml lists, from ``root``: its modules and its package data."""
    told = setuptools_section(root)
    found = {file for package in told["packages"] for file in folder_of(root, package).glob("*.py")}
    for package, patterns in told["package-data"].items():
        for pattern in patterns:
            found |= {file for file in folder_of(root, package).glob(pattern) if file.is_file()}
    return {file.relative_to(root).as_posix() for file in found if "__pycache__" not in file.parts}


def setuptools_section(root: Path) -> dict[str, Any]:
    """What pyproject.toml tells setuptools."""
    read: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    section: dict[str, Any] = read["tool"]["setuptools"]
    return section


def folder_of(root: Path, package: str) -> Path:
    """medai.router.console lies in router/console."""
    return root.joinpath(*package.split(".")[1:])
