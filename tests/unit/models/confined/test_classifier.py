"""A classifier that has broken out of its process can say what it likes, as long as it is an answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_cases import ct_volume, write_json
from safetensors.torch import save_file

from medai.models.confined import process
from medai.models.confined.classifier import ConfinedSeriesKind
from medai.models.errors import ModelFailed
from medai.models.format.bundle import read_bundle

TESTS = Path(__file__).resolve().parents[3]
VOLUME = ct_volume((4, 6, 8), (9.0, 9.0, 9.0))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfinedSeriesKind]:
    folder = tmp_path_factory.mktemp("models") / "series_kind"
    section = {
        "segmenter": "series_kind",
        "title": "Kind",
        "input": {"modalities": ["CT"]},
        "segments": [],
        "weights": {"source": "bundle", "files": {"w": ""}},
    }
    write_json(folder / "configs" / "metadata.json", {"version": "1", "medai": section})
    write_json(folder / "configs" / "inference.json", {"network_def": {}, "parts": ["head", "chest"]})
    save_file({"w": torch.from_numpy(np.zeros(1))}, folder / "w")
    with pytest.MonkeyPatch.context() as change:
        change.setattr(process, "MODULE", "hostile_model")
        change.setenv("PYTHONPATH", f"{TESTS.parent / '.lint'}{os.pathsep}{TESTS}")
        found = ConfinedSeriesKind(read_bundle(folder, None), torch.device("cpu"))
        with closing(found.process):
            yield found


def test_an_answer_is_of_the_parts_that_the_bundle_names(classifier: ConfinedSeriesKind) -> None:
    kind = classifier.classify(replace(VOLUME, modality="a kind"))
    assert (kind.part, dict(kind.probabilities), kind.upright) == ("chest", {"head": 0.25, "chest": 0.75}, 1.0)


@pytest.mark.parametrize(
    "answer", ["a kind of too many parts", "a kind beyond measure", "an answer of another question"]
)
def test_anything_else_is_none(answer: str, classifier: ConfinedSeriesKind) -> None:
    with pytest.raises(ModelFailed, match="series_kind: its process answered something else"):
        classifier.classify(replace(VOLUME, modality=answer))
