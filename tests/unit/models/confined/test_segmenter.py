"""A model in its own process draws as it would in ours; one that breaks out of it gets nowhere, and the next job works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_cases import LUNG, ct_volume, torchscript_folder, write_json
from pydantic import ValidationError

from medai.models.confined import process
from medai.models.confined.sandbox import Limits
from medai.models.confined.segmenter import ConfinedSegmenter, strays_in
from medai.models.errors import ModelFailed, ModelRefused, ModelSlow, ModelUnavailable
from medai.models.format.bundle import Bundle, read_bundle
from medai.models.registry import Registry
from medai.models.segmenters.load import load

CPU = torch.device("cpu")
TESTS = Path(__file__).resolve().parents[3]
PYTHONPATH = f"{TESTS.parent / '.lint'}{os.pathsep}{TESTS}"
VOLUME = ct_volume((20, 24, 28), (9.0, 9.0, 9.0))


def installed(folder: Path) -> Path:
    """A TorchScript graph as ``medai models add`` leaves it."""
    made = torchscript_folder(folder, feed={"intensity": {"kind": "zscore"}})
    section = json.loads((made / "metadata.json").read_text())["medai"]
    recipe = {"runner": "torchscript", **{key: section.pop(key) for key in ("feed", "inferer")}}
    section |= {"segmenter": "network", "segments": [{**LUNG, "colour": [255, 160, 0]}]}
    section["weights"] = {"source": "bundle", "files": {"model.ts": ""}}
    write_json(made / "configs" / "metadata.json", {"version": "1.0.0", "medai": section})
    write_json(made / "configs" / "inference.json", recipe)
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(installed(tmp_path_factory.mktemp("models") / "lungs"), None)


@pytest.fixture(scope="module")
def honest(bundle: Bundle) -> Iterator[ConfinedSegmenter]:
    segmenter = ConfinedSegmenter(bundle, CPU, threads=1)
    with closing(segmenter.process):
        yield segmenter


def test_it_draws_what_the_same_model_draws_in_this_process(bundle: Bundle, honest: ConfinedSegmenter) -> None:
    expected = load(bundle, device="cpu").segment(VOLUME)
    found = honest.segment(VOLUME)
    assert 0.1 < expected.labels.mean() < 0.9
    assert np.array_equal(found.labels, expected.labels)
    assert replace(found, labels=expected.labels) == expected, "the checks, the card and the geometry, too"


@pytest.mark.parametrize("kind", ["float32", "uint16", ">i2"])
def test_voxels_of_any_kind_and_any_order_in_memory_arrive(
    kind: str, bundle: Bundle, honest: ConfinedSegmenter
) -> None:
    voxels = np.flip(np.abs(VOLUME.voxels), axis=1).astype(kind)
    volume = replace(VOLUME, voxels=voxels)
    assert np.array_equal(honest.draw(volume), load(bundle, device="cpu").draw(volume))


def test_a_reason_of_the_model_is_the_readings_reason(honest: ConfinedSegmenter) -> None:
    empty = replace(VOLUME, voxels=np.zeros_like(VOLUME.voxels))
    with pytest.raises(ModelRefused, match="the image is empty"):
        honest.draw(empty)
    with pytest.raises(ModelRefused, match="the model reads CT, not MR"):
        honest.segment(replace(VOLUME, modality="MR"))
    assert honest.draw(VOLUME).any()


def test_what_holds_it_is_told_and_its_memory_is_counted(honest: ConfinedSegmenter) -> None:
    assert "Landlock" in honest.process.held
    assert 50 < honest.process.peak_bytes() / 1024**2 < 2000


def test_the_registry_runs_what_does_not_ship_in_a_process_of_its_own(
    bundle: Bundle, hostile: ConfinedSegmenter
) -> None:
    found = Registry((bundle.folder.parent,), device="cpu", limits=Limits(seconds=60)).load("lungs")
    assert isinstance(found, ConfinedSegmenter)
    pid = found.process.pid
    found.draw(VOLUME)
    found.draw(VOLUME)
    assert found.process.pid == pid, "kept warm"
    found.process.close()


def test_a_model_that_cannot_be_loaded_says_why(bundle: Bundle, tmp_path: Path) -> None:
    other = read_bundle(installed(tmp_path / "other"), None)
    (other.folder / "model.ts").write_bytes(b"damaged")
    with pytest.raises(ModelUnavailable, match=r"other: model\.ts is not a TorchScript archive"):
        ConfinedSegmenter(other, CPU)
    with pytest.raises(ModelSlow, match=r"lungs: its process did not answer within 0\.01 s"):
        ConfinedSegmenter(bundle, CPU, limits=Limits(load_seconds=0.01))


# -- hostile


@pytest.fixture(scope="module")
def broken_out(bundle: Bundle) -> Iterator[ConfinedSegmenter]:
    limits = Limits(seconds=30, memory_bytes=4 << 30)
    with pytest.MonkeyPatch.context() as change:
        change.setattr(process, "MODULE", "hostile_model")
        change.setenv("PYTHONPATH", PYTHONPATH)
        segmenter = ConfinedSegmenter(bundle, CPU, limits=limits)
    with closing(segmenter.process):
        yield segmenter


@pytest.fixture
def hostile(broken_out: ConfinedSegmenter, monkeypatch: pytest.MonkeyPatch) -> ConfinedSegmenter:
    """Started anew, where the test before ended it, as what it is."""
    monkeypatch.setattr(process, "MODULE", "hostile_model")
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    return broken_out


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("calls home", r"lungs: PermissionError: .*not permitted"),
        ("reads the accounts", r"lungs: PermissionError: .*/etc/passwd"),
        ("writes a file", r"lungs: PermissionError: .*medai-hostile"),
        ("fills memory", "lungs: MemoryError"),
        ("dies", r"ended by signal 11 \(out of memory, or a crash in it\): its last words \[31m$"),
        ("ends", r"its process ended without an answer \(exit code 7\)"),
        ("another shape", r"drew labels \(28, 24, 20\) uint8 on a volume of \(20, 24, 28\)"),
        ("another kind of number", r"drew labels \(20, 24, 28\) int16"),
        ("too few voxels", "uint8 on its grid is needed"),
        ("too many voxels", "answered more than it may: .* and 13441 bytes"),
        ("an undeclared label", r"drew labels \[9\], which no segment declares"),
        ("an answer of another question", "its process answered something else"),
        ("a long reason", "answered what is no answer"),
        ("a huge answer", "answered more than it may"),
    ],
)
def test_an_attack_is_the_jobs_reason_and_the_next_job_works(
    attack: str, reason: str, hostile: ConfinedSegmenter
) -> None:
    with pytest.raises(ModelFailed, match=reason):
        hostile.draw(replace(VOLUME, modality=attack))
    assert hostile.draw(VOLUME).all()
    assert not list(Path("/tmp").glob("medai-hostile-*"))  # noqa: S108


@pytest.mark.parametrize(
    "said",
    [
        {"answer": "labels", "shape": [1], "dtype": "uint8", "run": "rm"},
        {"answer": "labels", "shape": ["cos\nsystem\n"], "dtype": "uint8"},
        {"answer": "labels", "shape": [True, 2.0, "3"]},
        {"answer": "labels", "shape": [1] * 99},
        {"answer": "refused", "reason": {"a": "b"}},
        {"answer": "else"},
        {},
    ],
)
def test_an_answer_has_these_words_and_no_others(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        process.Answer.model_validate(said)


def test_one_that_hangs_is_ended(hostile: ConfinedSegmenter) -> None:
    pid = hostile.process.pid
    with pytest.raises(ModelSlow, match=r"its process did not answer within 0\.3 s"):
        hostile.labels_within(replace(VOLUME, modality="hangs"), 0.3)
    assert not Path(f"/proc/{pid}").exists()
    assert hostile.draw(VOLUME).all()


def test_a_reason_cannot_write_into_a_log(hostile: ConfinedSegmenter) -> None:
    with pytest.raises(ModelRefused, match=r"^not \[31m a chest$"):
        hostile.draw(replace(VOLUME, modality="a reason"))


def test_one_that_was_killed_is_started_anew(hostile: ConfinedSegmenter) -> None:
    pid = hostile.process.pid
    os.kill(pid, signal.SIGKILL)
    while hostile.process.is_there:
        time.sleep(0.01)
    assert hostile.draw(VOLUME).all()
    assert hostile.process.pid != pid


WORKER = """
import json, os
from medai.models.child import Child
from medai.models.confined import sandbox
asked = {"parent": os.getpid(), "readable": [], "memory_bytes": 0, "device": "cpu"}
child = Child("hostile_model", json.dumps(asked), environment=sandbox.environment())
child.ask({}, most_bytes=0, seconds=30)
print(child.pid, flush=True)
geometry = {"origin_mm": [0, 0, 0], "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1], "spacing_mm": [1, 1, 1], "shape": [1, 1, 1]}
child.ask({"dtype": "u1", "geometry": geometry, "modality": "hangs", "unit": "HU"}, b"1", most_bytes=1, seconds=600)
"""


def test_it_ends_with_its_worker_however_that_ends(hostile: ConfinedSegmenter) -> None:
    with subprocess.Popen([sys.executable, "-P", "-c", WORKER], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        time.sleep(0.2)  # it is busy
        worker.kill()
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_labels_are_held_to_the_segments() -> None:
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0] = (1, 3, 0, 1)
    assert strays_in(labels, {1, 3}) == []
    labels[1, 2] = (2, 255, 2, 3)
    assert strays_in(labels, {1, 3}) == [2, 255]
    assert strays_in(labels, set()) == [1, 2, 3, 255]
