"""Each fault that is planted into a sound data set is found, named, and nothing else is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.volume import Volume
from medai.training.cases import Case, Dataset, Example
from medai.training.cli import main
from medai.training.data.datasets import write_pair
from medai.training.qa.checks import Finding, z_scores
from medai.training.qa.command import Survey, report, survey
from medai.training.qa.facts import measure

SIDE = 20


def head(number: int, **changes: float) -> Example:
    """A block of two labels in smooth noise of its own, all cases a bit different."""
    rng = np.random.default_rng(number)
    coarse = rng.normal(size=(5, 5, 5)).repeat(4, axis=0).repeat(4, axis=1).repeat(4, axis=2)
    voxels = (100 + 20 * coarse + rng.normal(size=(SIDE,) * 3)).astype(np.float32)
    labels = np.zeros((SIDE,) * 3, dtype=np.uint8)
    end = 11 + number % 2
    labels[5:end, 5:10, 5:10], labels[5:end, 10:14, 5:10] = 1, 2
    spacing = changes.get("spacing_mm", 1.0)
    geometry = Geometry(
        origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(spacing, 1.0, 1.0), shape=voxels.shape
    )
    return Example(
        volume=Volume(voxels=voxels * changes.get("scale", 1.0), geometry=geometry, modality="MR"), labels=labels
    )


def dataset(examples: dict[str, Example], patients: dict[str, str] | None = None) -> Dataset:
    """Cases in memory."""
    cases = tuple(
        Case(name=name, patient=(patients or {}).get(name, name), read=lambda example=example: example)
        for name, example in examples.items()
    )
    return Dataset(name="heads", cases=cases, label_names={1: "front", 2: "back"}, modality="MR")


def found(changed: Example | None = None, **more: object) -> list[Finding]:
    """Findings of eight sound cases and perhaps a changed one."""
    examples = {f"case{number}": head(number) for number in range(8)}
    if changed is not None:
        examples["odd"] = changed
    return list(survey(dataset(examples, **more)).findings)  # type: ignore[arg-type] # keyword of a helper


def with_labels(change: Callable[[np.ndarray], None]) -> Example:
    example = head(9)
    labels = example.labels.copy()
    change(labels)
    return replace(example, labels=labels)


def with_voxels(change: Callable[[np.ndarray], object], modality: str = "MR") -> Example:
    example = head(9)
    voxels = example.volume.voxels.copy()
    change(voxels)
    return replace(example, volume=replace(example.volume, voxels=voxels, modality=modality))


def put(where: object, value: float) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[where] = value

    return change


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
        (with_labels(put(8, 0)), "warning", "gaps", r"front \(1\) is missing on 1 slices"),
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


def written(folder: Path) -> Path:
    for number in range(7):
        write_pair(head(number), f"case{number}", folder)
    return folder


def test_the_command_writes_a_report_and_passes_a_sound_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(tmp_path / "data")
    assert main(["qa", str(data), "--out", str(tmp_path / "out")]) == 0
    assert "7 cases, 0 errors, 0 warnings" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Nothing found." in page
    assert page.count("data:image/png;base64,") == 2
    assert "<script" not in page
    assert not [word for word in ('src="http', 'href="http', "url(http") if word in page]


def test_the_command_fails_where_there_are_errors_and_says_all_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path)
    (data / "labels" / "case2.nii.gz").unlink()
    (data / "images" / "case3.nii.gz").write_bytes(b"no image")
    write_pair(head(4), "twin", data)
    assert main(["qa", str(data), "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    errors = {(one["check"], one["case"]) for one in summary["findings"] if one["level"] == "error"}
    assert errors == {("files", ""), ("reading", "case3"), ("duplicates", "twin")}
    assert summary["errors"] == 3


def test_a_report_shows_the_cases_with_errors_first_and_counts_the_rest() -> None:
    examples = {f"case{number}": head(number) for number in range(7)}
    examples["empty"] = with_labels(put(slice(None), 0))
    examples["pieces"] = with_labels(put((16, 16, 16), 1))
    found_here: Survey = survey(dataset(examples))
    page = report(found_here, pictures=1)
    assert page.index("<h3>empty</h3>") > 0
    assert "<h3>pieces</h3>" not in page
    assert "1 more cases with findings have no picture" in page


def test_the_decathlons_hippocampi_lie_on_three_scales(shared_data: Callable[[str], Path]) -> None:
    """A fact of the real set: 8 bit values, usual ones, and a few hundred thousand."""
    from medai.training.data.datasets import open_dataset

    whole = open_dataset(str(shared_data("mr_hippocampus_MSD")))
    some = replace(whole, cases=tuple(case for case in whole.cases if case.name[-3:] in ("001", "003", "006", "135")))
    texts = [finding.text for finding in survey(some).findings]
    assert any("values lie on 3 scales" in text for text in texts)
