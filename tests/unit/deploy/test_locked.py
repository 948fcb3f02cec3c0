"""requirements.lock: it fits pyproject.toml and constraints.txt, holds what its packages need, and pip takes nothing else."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "deploy" / "locked.py"


@cache
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("locked", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["locked"] = module  # a dataclass asks for its module
    spec.loader.exec_module(module)
    return module


@cache
def lock() -> dict[str, tuple[str, str, frozenset[str]]]:
    """Package -> version, marker, groups."""
    found = script().read((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert len({each.name for each in found}) == len(found)
    return {each.name: (each.version, each.marker, each.groups) for each in found}


@cache
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    assert {name: lock()[name][0] for name in constraints() if name in lock()} == constraints(), "run deploy/lock.py"


def test_what_else_it_has_is_for_other_platforms_or_for_cuda() -> None:
    more = {name for name, (_, marker, groups) in lock().items() if name not in constraints()
            if not marker and groups != {"torch"}}  # fmt: skip
    assert more == set()


def asked() -> list[tuple[str, str]]:
    """(group, requirement) of pyproject.toml."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {"all": said["project"]["dependencies"], "build": said["build-system"]["requires"]}
    groups |= said["project"]["optional-dependencies"]
    return [(group, line) for group, lines in groups.items() for line in lines if not line.startswith("med-ai[")]


def test_every_requirement_of_every_extra_is_in_it_within_its_range() -> None:
    missing = []
    for group, line in asked():
        wanted = Requirement(line)
        version, _, groups = lock().get(canonicalize_name(wanted.name), ("0", "", frozenset()))
        if not wanted.specifier.contains(version) or not groups & {group, "all", "torch"}:
            missing.append((group, line))
    assert missing == [], "run deploy/lock.py"


def test_whatever_a_locked_package_needs_here_is_locked_for_the_same_extras() -> None:
    """Since pip is told to install nothing that is not named."""
    missing = []
    for name, (_, _, groups) in lock().items():
        for line in _needs(name):
            need = canonicalize_name(Requirement(line).name)
            theirs = lock().get(need, ("", "", frozenset()))[2]
            if "all" not in theirs and not groups <= theirs | {"torch"} and theirs != {"torch"}:
                missing.append((name, need))
    assert missing == []


def _needs(name: str) -> list[str]:
    if name in ("deepbet", "dynamic-network-architectures"):  # they ask for far more than they use
        return []
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # of another platform
        return []
    return [line for line in lines if (marker := Requirement(line).marker) is None or marker.evaluate({"extra": ""})]


def test_every_sum_is_one() -> None:
    for each in script().read((ROOT / "requirements.lock").read_text(encoding="utf-8")):
        assert each.sha256, each.name
        assert all(len(bytes.fromhex(digest)) == 32 for digest in each.sha256), each.name


def test_a_build_of_pytorch_from_elsewhere_needs_no_cuda() -> None:
    locked = script().read((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    (one,) = script().wanted(locked, {"torch"}, ["ab" * 32])
    assert (one.name, one.version, one.sha256) == ("torch", constraints()["torch"], ("ab" * 32,))
    assert any(each.name.startswith("nvidia-") for each in script().wanted(locked, {"torch"}))
    assert not any(each.name == "torch" for each in script().wanted(locked, {"all", "worker"}))


def test_an_extra_that_nobody_locked_is_an_error() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "nonesuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nonesuch" in done.stderr


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """The smallest package that can be installed."""
    made = tmp_path / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr("small.py", "")
        packed.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        packed.writestr(
            "small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr("small-1.0.dist-info/RECORD", "")
    return made


def test_pip_refuses_a_file_whose_sum_is_another(wheel: Path) -> None:
    good = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert "Successfully installed small-1.0" in _installed(wheel, good).stdout
    done = _installed(wheel, hashlib.sha256(b"what was locked").hexdigest())
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def _installed(wheel: Path, digest: str) -> subprocess.CompletedProcess[str]:
    needed = wheel.with_name("needed.txt")
    needed.write_text(script().Locked("small", "1.0", "", frozenset({"all"}), (digest,)).text() + "\n")
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-index", "--isolated",
         "--disable-pip-version-check", "--find-links", wheel.parent, "--target", wheel.parent / digest[:4], "-r", needed],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
