"""A model that is not trusted yet draws once, where a worker would run it; what goes wrong is a reason not to add it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medai.models.errors import ModelFailed, ModelRefused, ModelSlow, ModelUnavailable
from medai.models.foreign import dry_run
from medai.models.foreign.dry_run import run
from medai.models.format.metadata import InputSpec
from medai.models.volume import Labels, Volume


def stand_in(monkeypatch: pytest.MonkeyPatch, *, fails: Exception | None = None) -> list[dict[str, Any]]:
    """For the process with the model; returns how it was started and asked."""
    asked: list[dict[str, Any]] = []

    class Stand:
        def __init__(self, _bundle: Any, device: Any, **options: Any) -> None:
            asked.append({"device": str(device), **options})
            self.process = self
            self.held = "nothing"

        def labels_within(self, volume: Volume, seconds: float) -> Labels:
            asked.append({"seconds": seconds})
            if fails:
                raise fails
            labels = np.zeros(volume.geometry.shape, np.uint8)
            labels[0, 0, :2] = (3, 1)
            return labels

        def peak_bytes(self) -> int:
            return 300 * 1024**2

        def close(self) -> None:
            asked.append({"closed": True})

    spec = InputSpec(modalities=frozenset({"CT"}), unit="HU")
    monkeypatch.setattr(dry_run, "read_bundle", lambda *_: SimpleNamespace(spec=spec))
    monkeypatch.setattr(dry_run, "ConfinedSegmenter", Stand)
    return asked


def test_what_came_out_is_told_as_seen_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch)
    found = run(Path("b"), limit_s=9)
    assert (found.memory_mb, found.voxels, found.found) == (300, (48, 80, 80), (1, 3))
    assert (found.remark, found.confined) == ("", "nothing")
    started, question, last = asked
    assert (started["device"], started["count_classes"], started["limits"].load_seconds) == ("cpu", True, 9)
    assert question["seconds"] == pytest.approx(9, abs=1), "what loading left of the limit"
    assert last == {"closed": True}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModelSlow("did not answer"), r"took more than 9 s \(--limit\)"),
        (
            ModelFailed("b: its process was ended by signal 9"),
            "the dry run failed: b: its process was ended by signal 9",
        ),
        (ModelUnavailable("its weights are missing"), "the dry run failed: its weights are missing"),
    ],
)
def test_a_model_that_fails_is_not_added_and_its_process_is_ended(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stand_in(monkeypatch, fails=error)
    with pytest.raises(ModelUnavailable, match=words):
        run(Path("b"), limit_s=9)
    assert asked[-1] == {"closed": True}


def test_a_model_that_refuses_the_phantom_may_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, fails=ModelRefused("no head here"))
    found = run(Path("b"), limit_s=9)
    assert (found.found, found.remark) == ((), "the model refused the phantom (no head here)")
