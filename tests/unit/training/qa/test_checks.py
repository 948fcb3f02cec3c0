"""Planted faults are found, and a sound set has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qa_cases import SIDE, dataset, head, put, with_labels

from medai.training.cases import Example
from medai.training.qa.checks import Finding, z_scores
from medai.training.qa.command import survey
from medai.training.qa.facts import measure


def found(changed: Example | None = None, **more: object) -> list[Finding]:
    """Findings of eight sound cases and perhaps a changed one."""
    examples = {f"case{number}": head(number) for number in range(8)}
    if changed is not None:
        examples["odd"] = changed
    return list(survey(dataset(examples, **more)).findings)  # type: ignore[arg-type] # keyword of a helper


def with_voxels(change: Callable[[np.ndarray], object], modality: str = "MR") -> Example:
    example = head(9)
    voxels = example.volume.voxels.copy()
    change(voxels)
    return replace(example, volume=replace(example.volume, voxels=voxels, modality=modality))


def test_a_sound_set_has_no_findings() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changed", "level", "check", "words"),
    [
        (with_voxels(put((0, 0, 0), np.nan)), "error", "values", "1 voxel without a number"),
        (with_voxels(put((0, 0, slice(0, 3)), np.inf)), "error", "values", "3 voxels without a number"),
        (with_voxels(put(slice(None), 7.0)), "error", "values", "all voxels have the same value"),
        (with_labels(put(slice(None), 0)), "error", "labels", "nothing is labelled"),
        (with_labels(put((6, 6, 6), 9)), "error", "labels", "values that mean nothing here: 9"),
        (with_labels(lambda a: put(a == 2, 1)(a)), "warning", "labels", r"back \(2\) is missing"),
        (with_labels(put((slice(5, 12), slice(5, 10), slice(0, 5)), 1)), "warning", "clipped", r"front \(1\) touches .*first column"),
        (with_labels(put((16, 16, 16), 1)), "warning", "pieces", r"front \(1\) lies in 2 pieces, the smallest of 1 voxel"),
        (with_labels(put(8, 0)), "warning", "gaps", r"front \(1\) is missing on 1 slice"),
        (with_labels(put((slice(3, 17), slice(5, 10), slice(5, 17)), 1)), "warning", "volume", r"front \(1\) has 0.84 ml"),
        (head(9, spacing_mm=3.0), "warning", "spacing", "voxels of 3 mm along x"),
        (head(9, scale=1000.0), "warning", "values", "on another scale than nearly all cases"),
        (head(3), "error", "duplicates", "the same image as case3, yet said to be of another patient"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(changed: Example, level: str, check: str, words: str) -> None:
    mine = [finding for finding in found(changed) if finding.case == "odd" and finding.check == check]
    assert [finding.level for finding in mine] == [level] * len(mine)
    assert len(mine) >= 1
    assert re.search(words, mine[0].text)


def test_a_copy_with_noise_is_nearly_the_same_image() -> None:
    example = head(3)
    noisy = example.volume.voxels + np.random.default_rng(0).normal(size=(SIDE,) * 3).astype(np.float32)
    (finding,) = [one for one in found(replace(example, volume=replace(example.volume, voxels=noisy))) if one.case]
    assert finding.check == "duplicates"
    assert "nearly the same image as case3" in finding.text


def test_a_turned_copy_is_found_too() -> None:
    example = head(3)
    geometry = replace(
        example.volume.geometry, origin_mm=(SIDE - 1.0, 0.0, 0.0), direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1)
    )
    flipped = np.ascontiguousarray(example.volume.voxels[:, :, ::-1])
    turned = Example(
        volume=replace(example.volume, voxels=flipped, geometry=geometry),
        labels=np.ascontiguousarray(example.labels[:, :, ::-1]),
    )
    checks = {finding.check for finding in found(turned)}
    assert checks == {"duplicates", "orientation"}


def test_cases_of_one_patient_are_told_of() -> None:
    (finding,) = found(patients={"case1": "x", "case2": "x"})
    assert finding.text.startswith("patients with more than one case: 1 (2 cases)")


def test_a_ct_that_is_not_in_hounsfield_units_is_an_error() -> None:
    cts = {f"case{n}": with_voxels(lambda a, n=n: a.__isub__(1000 + n), "CT") for n in range(7)}
    cts["odd"] = with_voxels(lambda a: a.__imul__(1.0), "CT")
    texts = [one.text for one in survey(dataset(cts)).findings if one.case == "odd" and one.level == "error"]
    assert any("not Hounsfield units?" in text for text in texts)


def test_axes_at_other_angles_are_found() -> None:
    example = head(9)
    sheared = replace(example.volume.geometry, direction=(1, 0.1, 0, 0, 1, 0, 0, 0, 1))
    facts = measure("odd", "odd", replace(example, volume=replace(example.volume, geometry=sheared)))
    assert facts.skew == pytest.approx(0.1, abs=0.02)


def test_few_cases_tell_no_outliers() -> None:
    assert not z_scores([1, 1, 1, 100], floor=0.1).any()
    assert z_scores([1, 1, 1, 1, 1, 1, 100], floor=0.1)[-1] > 20


def test_the_decathlons_hippocampi_lie_on_three_scales(shared_data: Callable[[str], Path]) -> None:
    """A fact of the real set: 8 bit values, usual ones, and a few hundred thousand."""
    from medai.training.data.datasets import open_dataset

    whole = open_dataset(str(shared_data("mr_hippocampus_MSD")))
    some = replace(whole, cases=tuple(case for case in whole.cases if case.name[-3:] in ("001", "003", "006", "135")))
    texts = [finding.text for finding in survey(some).findings]
    assert any("values lie on 3 scales" in text for text in texts)
