"""The bill of materials: CycloneDX accepts it, and it names what is installed, with licence and sums."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"


@cache
def script() -> ModuleType:
    sys.path.insert(0, str(DEPLOY))  # as where it is run from its folder
    try:
        spec = importlib.util.spec_from_file_location("sbom", DEPLOY / "sbom.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DEPLOY))
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bills")
    assert script().main(["--out", str(folder), "--all"]) == 0
    return folder


@pytest.fixture(scope="module")
def everything(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "medai-all.cdx.json").read_text(encoding="utf-8"))
    return found


def components(written: Path, image: str) -> dict[str, dict[str, Any]]:
    said = json.loads((written / f"medai-{image}.cdx.json").read_text(encoding="utf-8"))
    return {each["name"]: each for each in said["components"]}


def test_each_part_has_a_licence(everything: dict[str, Any]) -> None:
    assert [each["name"] for each in everything["components"] if not each.get("licenses")] == []


def test_every_package_that_is_installed_is_named_with_its_version(everything: dict[str, Any]) -> None:
    locked = sys.modules["locked"].read((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    here = {each.name: there.version for each in locked if (there := script().installed(each.name))}
    purls = {each.get("purl", "") for each in everything["components"]}
    assert {f"pkg:pypi/{name}@{version.replace('+', '%2B')}" for name, version in here.items()} <= purls


def test_a_package_has_the_sums_that_pip_would_take(written: Path) -> None:
    (distribution,) = components(written, "router")["sqlalchemy"]["externalReferences"]
    locked = sys.modules["locked"].read((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    (allowed,) = (each.sha256 for each in locked if each.name == "sqlalchemy")
    assert {each["content"] for each in distribution["hashes"]} == set(allowed)


def test_an_image_has_what_its_extras_bring_and_no_more(written: Path) -> None:
    router, ris, worker = (components(written, image) for image in ("router", "ris", "worker"))
    assert {"fastapi", "psycopg", "@ohif/app", "app"} & router.keys() == {"fastapi", "psycopg", "app"}
    assert "torch" not in router
    assert "hl7types" in ris
    assert {"torch", "deepbet", "weasyprint"} <= worker.keys()
    assert not {"pytest", "mypy", "cyclonedx-python-lib"} & (router.keys() | ris.keys() | worker.keys())


def test_the_images_extras_are_the_dockerfiles() -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for image, groups in script().IMAGES.items():
        (said,) = re.findall(rf"AS build-{image}\nRUN python deploy/locked\.py build ([a-z ]+) >", text)
        assert groups - {"all", "torch"} == set(said.split())


def test_the_models_are_named_with_the_sums_of_their_weights(written: Path) -> None:
    model = components(written, "worker")["ct_lungs"]
    (weights,) = model["components"]
    file = ROOT / "models" / "bundles" / "ct_lungs" / "models" / "model.safetensors"
    assert model["type"] == "machine-learning-model"
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert weights["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}]


def test_the_same_parts_have_the_same_number(everything: dict[str, Any]) -> None:
    again = script().bill("all", None)
    assert everything["serialNumber"] == f"urn:uuid:{again.serial_number}"


def test_what_the_schema_does_not_allow_is_found(everything: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(everything))
    broken["components"][0]["licenses"] = [{"license": {"id": "Anybody's-1.0"}}]
    assert any("Anybody's-1.0" in fault for fault in script().faults(json.dumps(broken)))
