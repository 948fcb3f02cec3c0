"""Each check can fail, says what was seen, and knows the patient's sides whatever way the voxels are stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medai.models.errors import ModelRefused, ModelUnavailable
from medai.models.format.bundle import Bundle, read_bundle
from medai.models.format.metadata import LeftOfCheck, PairCheck, Plausible, TotalCheck
from medai.models.geometry import Geometry
from medai.models.images.preprocess import reorient
from medai.models.registry import SHIPPED
from medai.models.segmenters.plausibility import finish
from medai.models.volume import Check, Code, ModelCard, Plausibility, Segment, Segmentation, Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
ORGAN = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")
NAMES = ("Left front", "Left back", "Right front", "Right back")
BOXES = {1: (15, 22), 2: (23, 30)}
"""Rows of the front and back parts; the left ones lie at columns 24 to 28, the right ones at 8 to 12."""


def volume(*, spacing_mm: float = 10.0) -> Volume:
    geometry = Geometry(
        origin_mm=(-160.0, -200.0, 0.0), direction=AXIAL, spacing_mm=(spacing_mm,) * 3, shape=(20, 40, 40)
    )
    return Volume(voxels=np.zeros(geometry.shape, np.int16), geometry=geometry, modality="MR")


def four() -> Any:
    """Four boxes of 5 x 7 x 5 voxels, 1 ml each: 175 ml a box."""
    labels = np.zeros((20, 40, 40), np.uint8)
    for number, (first, last) in BOXES.items():
        labels[5:10, first:last, 24:29] = number
        labels[5:10, first:last, 8:13] = number + 2
    return labels


def bundle(checks: Sequence[Any] = (), **plausible: Any) -> Bundle:
    segments = tuple(
        Segment(number=number, name=name, category=ORGAN, type=ORGAN) for number, name in enumerate(NAMES, start=1)
    )
    limits = Plausible(**{"ml": (100.0, 200.0), **plausible})
    shipped = read_bundle(SHIPPED / "mr_brain", None)
    return Bundle(
        name="four", folder=Path(), card=ModelCard(name="four", title="Four", version="1", fingerprint="0" * 64),
        segmenter="none", spec=shipped.spec, segments=segments, plausible=dict.fromkeys(range(1, 5), limits),
        parameters={}, weights=(), checks=tuple(checks),
    )  # fmt: skip


def named(result: Segmentation, name: str) -> Check:
    (found,) = [check for check in result.checks if check.name == name]
    return found


SIDES = LeftOfCheck(kind="left_of", name="Parts", left=(1, 2), right=(3, 4))
PAIR = PairCheck(kind="pair", name="Parts, left and right", first=(1, 2), second=(3, 4), ratio_warn=0.15)
TOTAL = TotalCheck(kind="total", name="Left part", segments=(1, 2), ml=(300.0, 400.0), refuse_below_ml=50.0)


def test_a_result_that_passes_everything_is_plausible_and_says_how_much_was_checked() -> None:
    result = finish(four(), volume(), bundle([SIDES, PAIR, TOTAL], pieces_max=1))
    assert result.plausibility.verdict == "plausible"
    assert result.plausibility.summary == "15 of 15 checks passed"
    assert result.warnings == ()
    assert [total.name for total in result.totals] == ["Left part"]


def test_a_volume_outside_its_range_is_a_finding_and_outside_the_limits_no_result() -> None:
    result = finish(four(), volume(), bundle(ml=(180.0, 200.0)))
    assert result.plausibility.verdict == "check"
    assert result.warnings[0] == "Left front: 175 ml is outside the expected range of 180 to 200 ml"
    with pytest.raises(ModelRefused, match=r"Left front: nothing plausible was found \(175 ml\)"):
        finish(four(), volume(), bundle(refuse_below_ml=175.0))


def test_small_volumes_are_told_with_the_digits_that_they_need() -> None:
    result = finish(four(), volume(spacing_mm=2.0), bundle(ml=(2.0, 3.0)))
    assert result.warnings[0] == "Left front: 1.40 ml is outside the expected range of 2 to 3 ml"


def test_an_absent_structure_is_refused_unless_it_may_be_out_of_view() -> None:
    labels = four()
    labels[labels == 2] = 0
    with pytest.raises(ModelRefused, match="Left back: nothing plausible"):
        finish(labels, volume(), bundle())
    result = finish(labels, volume(), bundle([SIDES], absent="warn"))
    assert result.warnings == ("Left back: nothing was found: is it in the field of view?",)
    assert named(result, "Parts: sides").passed is True


def test_only_edges_that_are_not_expected_are_findings() -> None:
    labels = four()
    labels[0:5][:, 15:22, 24:29] = 1
    assert "(feet)" in named(finish(labels, volume(), bundle(ml=(100.0, 400.0))), "Left front: field of view").text
    assert not finish(labels, volume(), bundle(ml=(100.0, 400.0), edges=("feet",))).warnings
    assert not finish(labels, volume(), bundle(ml=(100.0, 400.0), warn_at_edge=False)).warnings


def test_too_many_pieces_are_a_finding() -> None:
    labels = four()
    labels[7, 15:22, 24:29] = 0
    result = finish(labels, volume(), bundle(pieces_max=1))
    assert result.warnings == ("Left front: the mask is in 2 pieces, at most 1 is expected",)
    assert not finish(labels, volume(), bundle(pieces_max=2)).warnings
    assert not finish(labels, volume(), bundle()).warnings


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SLA"])
def test_left_and_right_are_the_patients_in_any_orientation(axes: str) -> None:
    upright, turn = reorient(volume(), axes)
    labels = np.ascontiguousarray(turn.apply(four()))
    assert named(finish(labels, upright, bundle([SIDES])), "Parts: sides").passed is True
    mirrored = np.array([0, 3, 4, 1, 2], np.uint8)[labels]
    with pytest.raises(ModelRefused, match="what was drawn as left lies on the patient's right"):
        finish(mirrored, upright, bundle([SIDES]))


def test_swapped_sides_may_be_a_finding_only() -> None:
    swapped = np.array([0, 3, 4, 1, 2], np.uint8)[four()]
    result = finish(swapped, volume(), bundle([SIDES.model_copy(update={"otherwise": "warn"})]))
    assert "patient's right" in result.warnings[0]
    assert result.plausibility.verdict == "check"


def test_sides_that_are_too_unlike_are_a_finding() -> None:
    labels = four()
    labels[5:7][labels[5:7] == 4] = 0
    result = finish(labels, volume(), bundle([PAIR], ml=(100.0, 200.0)))
    assert result.warnings == ("Parts, left and right: 350 and 280 ml differ by 22%, more than the expected 15%",)
    assert not finish(labels, volume(), bundle([PAIR.model_copy(update={"ratio_warn": 0.25})])).warnings


def test_a_total_has_limits_of_its_own() -> None:
    low = TOTAL.model_copy(update={"ml": (400.0, 500.0)})
    assert finish(four(), volume(), bundle([low])).warnings == (
        "Left part: 350 ml is outside the expected range of 400 to 500 ml",
    )
    with pytest.raises(ModelRefused, match=r"Left part: nothing plausible was found \(350 ml\)"):
        finish(four(), volume(), bundle([TOTAL.model_copy(update={"refuse_below_ml": 400.0})]))


def test_what_cannot_be_compared_is_neither_passed_nor_failed() -> None:
    labels = four()
    labels[labels > 2] = 0
    result = finish(labels, volume(), bundle([SIDES], absent="warn"))
    assert named(result, "Parts: sides").passed is None
    assert result.plausibility.summary == "4 of 6 checks passed, 1 could not be made"
    nothing = finish(np.zeros_like(labels), volume(), bundle([PAIR], absent="warn"))
    assert named(nothing, "Parts, left and right: size").passed is None


def test_a_result_that_nobody_looked_at_is_not_plausible() -> None:
    assert Plausibility(findings=(), checks=()).verdict == "check"
    skipped = Check(name="a", passed=None, text="not there")
    assert Plausibility(findings=(), checks=(skipped,)).verdict == "check"
    good = Check(name="b", passed=True, text="good")
    assert Plausibility(findings=(), checks=(skipped, good)).verdict == "plausible"
    assert Plausibility(findings=("a note",), checks=(good,)).verdict == "check"


def test_a_mask_of_another_shape_is_the_models_fault() -> None:
    with pytest.raises(ModelUnavailable, match="a fault in the model"):
        finish(np.zeros((2, 2, 2), np.uint8), volume(), bundle())


def test_the_bundle_says_which_checks_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    metadata = written(folder, [
        {"kind": "pair", "name": "a", "first": [1], "second": [1], "ratio_warn": 0.1},
        {"kind": "left_of", "name": "b", "left": [1], "right": [1]},
        {"kind": "total", "name": "c", "segments": [1], "ml": [1, 2]},
    ])  # fmt: skip
    assert [check.kind for check in read_bundle(folder, None).checks] == ["pair", "left_of", "total"]
    assert metadata.exists()


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ({"kind": "total", "name": "c", "segments": [7], "ml": [1, 2]}, r"names segments that are not there: \[7\]"),
        ({"kind": "sum", "name": "c"}, "checks.0"),
        ({"kind": "pair", "name": "a", "first": [], "second": [1], "ratio_warn": 0.1}, "first"),
    ],
)
def test_a_check_that_cannot_be_made_is_a_mistake_in_the_bundle(
    tmp_path: Path, check: dict[str, Any], reason: str
) -> None:
    written(tmp_path / "ours", [check])
    with pytest.raises(ModelUnavailable, match=reason):
        read_bundle(tmp_path / "ours", None)


def written(folder: Path, checks: list[dict[str, Any]]) -> Path:
    """The shipped brain model's bundle with checks."""
    (folder / "configs").mkdir(parents=True)
    source = SHIPPED / "mr_brain" / "configs"
    metadata = json.loads((source / "metadata.json").read_text())
    metadata["medai"]["checks"] = checks
    path = folder / "configs" / "metadata.json"
    path.write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text((source / "inference.json").read_text())
    return path
