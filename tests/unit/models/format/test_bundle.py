"""A bundle is read whole, or says what it lacks and how to get it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from medai.models.errors import ModelUnavailable
from medai.models.files import sha256_of
from medai.models.format.bundle import describe, read_bundle, read_metadata
from medai.models.registry import SHIPPED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shipped description with two weight files of its own."""
    bundle = tmp_path / "own"
    shutil.copytree(SHIPPED / "mr_brain" / "configs", bundle / "configs")
    (bundle / "models").mkdir()
    for name in ("a.pt", "b.pt"):
        (bundle / "models" / name).write_bytes(name.encode())
    weigh(bundle, source="bundle")
    return bundle


def weigh(bundle: Path, **changes: Any) -> None:
    """Change what the metadata says of the weights."""
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    files = {f"models/{name}": sha256_of(bundle / "models" / name) for name in ("a.pt", "b.pt")}
    metadata["medai"]["weights"] = {"source": "bundle", "files": files, **changes}
    path.write_text(json.dumps(metadata), encoding="utf-8")


def test_the_card_holds_the_parameters_and_the_weights_hash_of_all_files(folder: Path) -> None:
    first = read_bundle(folder, None)
    assert first.card.name == "own"
    assert first.card.version.endswith(f"+{first.card.fingerprint[:8]}")
    assert dict(first.card.parameters) == {key: json.dumps(value) for key, value in first.parameters.items()}
    assert [path.name for path in first.weights] == ["a.pt", "b.pt"]
    (folder / "models" / "b.pt").write_bytes(b"other")
    weigh(folder)
    assert read_bundle(folder, None).card.fingerprint != first.card.fingerprint, "the second file counts, too"


def test_weights_may_lie_in_a_folder_of_the_settings(folder: Path, tmp_path: Path) -> None:
    (folder / "models").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelUnavailable, match=r"own: weights a.pt, b.pt are not at"):
        read_bundle(folder, None)
    assert read_bundle(folder, str(tmp_path / "elsewhere")).weights[0].parent == tmp_path / "elsewhere"


def test_weights_that_do_not_ship_say_what_to_set_or_install(folder: Path) -> None:
    weigh(folder, source="configured", origin="https://example.org/zoo")
    with pytest.raises(
        ModelUnavailable, match=r"from https://example.org/zoo\) and set, under \[models.weights\], own"
    ):
        read_bundle(folder, None)
    weigh(folder, source="package", package="no_such_package", requirement="no-such-package==1.0")
    with pytest.raises(ModelUnavailable, match="pip install --no-deps no-such-package==1.0"):
        read_bundle(folder, None)


def test_a_file_that_was_changed_is_named(folder: Path) -> None:
    (folder / "models" / "a.pt").write_bytes(b"other")
    with pytest.raises(ModelUnavailable, match="own: a.pt is not the file that this bundle was checked with"):
        read_bundle(folder, None)


def test_a_hash_that_is_empty_accepts_any_file(folder: Path) -> None:
    weigh(folder, files={"models/a.pt": ""})
    (folder / "models" / "a.pt").write_bytes(b"anything")
    assert read_bundle(folder, None).card.fingerprint == sha256_of(folder / "models" / "a.pt")


@pytest.mark.parametrize("name", ["metadata.json", "inference.json"])
def test_a_configuration_that_is_missing_is_named_with_its_bundle(name: str, folder: Path) -> None:
    (folder / "configs" / name).unlink()
    with pytest.raises(ModelUnavailable, match=f"bundle own: {name} is missing or not JSON"):
        read_bundle(folder, None)


def test_a_model_that_cannot_run_is_described_all_the_same(folder: Path) -> None:
    good = describe(folder, None)
    assert good.available
    assert good.reason == ""
    (folder / "models" / "a.pt").unlink()
    lacking = describe(folder, None)
    assert (lacking.available, lacking.title, lacking.card) == (False, good.title, None)
    assert "weights a.pt are not at" in lacking.reason
    (folder / "configs" / "metadata.json").write_text("{}")
    broken = describe(folder, None)
    assert (broken.available, broken.title) == (False, "own")
    assert "the medai section of metadata.json" in broken.reason


def test_every_fault_of_the_section_is_told_at_once(folder: Path) -> None:
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    del metadata["medai"]["title"]
    metadata["medai"]["segments"][0]["number"] = 256
    path.write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(ModelUnavailable, match=r"title: Field required; segments.0.number: .*255"):
        read_metadata(folder)
