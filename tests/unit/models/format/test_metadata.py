"""The medai section says what a model reads; a volume that it does not read is refused in a radiographer's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medai.models.errors import ModelRefused
from medai.models.format.metadata import InputSpec, MedaiSection, faults_of
from medai.models.geometry import Geometry
from medai.models.registry import SHIPPED
from medai.models.volume import Volume

HEAD = InputSpec(modalities=frozenset({"MR", "PT"}), min_slices=4, min_extent_mm=(10.0, 20.0, 30.0), max_spacing_mm=3.0)


def volume(
    *, sides: tuple[int, int, int] = (10, 20, 30), mm: float = 1.0, modality: str = "MR", unit: str = "arbitrary"
) -> Volume:
    """``sides`` are (right-left, front-back, feet-head) voxels."""
    geometry = Geometry(
        origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(mm, mm, mm), shape=sides[::-1]
    )
    return Volume(voxels=np.zeros(geometry.shape, np.int16), geometry=geometry, modality=modality, unit=unit)


def test_the_smallest_volume_that_is_read() -> None:
    HEAD.require(volume())
    HEAD.require(volume(sides=(4, 7, 10), mm=3.0, modality="PT"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (volume(modality="CT"), "the model reads MR or PT, not CT"),
        (volume(modality=""), r"not \?"),
        (volume(unit="HU"), "values in arbitrary units, these are HU"),
        (volume(sides=(3, 20, 30)), r"\(3, 20, 30\) voxels; at least 4 along each axis"),
        (volume(sides=(10, 20, 30), mm=3.01), "voxels are 3.01 mm wide; the model reads at most 3 mm"),
        (volume(sides=(9, 20, 30)), "9 mm from right to left; the model needs 10 mm"),
        (volume(sides=(10, 19, 30)), "19 mm from front to back; the model needs 20 mm"),
        (volume(sides=(10, 20, 29)), "29 mm from feet to head; the model needs 30 mm"),
    ],
)
def test_what_a_model_does_not_read_is_refused_with_the_side_that_is_short(given: Volume, words: str) -> None:
    with pytest.raises(ModelRefused, match=words):
        HEAD.require(given)


def section() -> dict[str, Any]:
    """That of a shipped model with checks across segments."""
    metadata = json.loads((SHIPPED / "mr_hippocampus" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = metadata["medai"]
    return found


def test_a_shipped_section_is_whole() -> None:
    assert faults_of(section()) == []
    assert MedaiSection.model_validate(section()).checks


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (lambda s: s.pop("title"), "title", "Field required"),
        (lambda s: s["segments"][0].pop("type"), "segments.0.type", "Field required"),
        (lambda s: s["segments"][0].update(number=0), "segments.0.number", "greater than or equal to 1"),
        (lambda s: s.update(colour="red"), "colour", "Extra inputs"),
        (lambda s: s["weights"].update(source="somewhere"), "weights.source", "'package', 'bundle' or 'configured'"),
        (
            lambda s: s["checks"].append({"kind": "total", "name": "all", "segments": [1, 99], "ml": [0, 1]}),
            "",
            r"checks: 'all' names segments that are not there: \[99\]",
        ),
    ],
)
def test_each_fault_is_told_with_its_place(change: Callable[[dict[str, Any]], Any], place: str, words: str) -> None:
    found = section()
    change(found)
    ((where, what),) = faults_of(found)
    assert where == place
    assert re.search(words, what), what
