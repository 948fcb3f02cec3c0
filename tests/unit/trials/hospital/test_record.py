"""What a trial wrote is read back as it was."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trial_cases import WITH_AI, WITHOUT_AI, trial

from medai.trials.hospital.record import TrialRun
from medai.trials.scenario import ScenarioError


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    before = trial(arms=(WITH_AI, WITHOUT_AI))
    before.write(tmp_path)
    after = TrialRun.read(tmp_path)
    assert repr(after) == repr(before), "by its text: NaN equals nothing"
    assert {path.name for path in tmp_path.iterdir()} == {
        "studies.parquet", "events.parquet", "samples.parquet", "faults.parquet", "trial.json",
    }  # fmt: skip


def test_a_trial_in_which_nothing_happened_is_a_record_too(tmp_path: Path) -> None:
    trial(studies=0, samples=False).write(tmp_path)
    assert TrialRun.read(tmp_path).studies == ()


def test_a_folder_without_a_trial_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="holds no trial: make one with 'medai trial run"):
        TrialRun.read(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("trial.json", "{", "trial.json is damaged"),
        ("trial.json", "[]", "damaged, or of another release"),
        ("trial.json", '{"scenario": {"name": "x"}}', "damaged, or of another release"),
        ("studies.parquet", "x", "damaged, or of another release"),
        ("samples.parquet", None, "damaged, or of another release"),
    ],
)
def test_a_damaged_record_is_told(tmp_path: Path, file: str, text: str | None, complaint: str) -> None:
    trial().write(tmp_path)
    (tmp_path / file).unlink()
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(ScenarioError, match=complaint):
        TrialRun.read(tmp_path)


def test_a_record_with_a_column_of_another_release_is_told(tmp_path: Path) -> None:
    trial().write(tmp_path)
    table = pq.read_table(tmp_path / "faults.parquet")
    pq.write_table(table.append_column("weather", pa.array(["fine"] * len(table))), tmp_path / "faults.parquet")
    with pytest.raises(ScenarioError, match=r"of another release \(TypeError.*weather"):
        TrialRun.read(tmp_path)


def test_turnaround_is_from_the_last_image_to_the_result() -> None:
    row = next(row for row in trial().studies if row.expected)
    assert row.turnaround_s == pytest.approx(row.result_s - row.last_image_s)
    assert math.isnan(next(row for row in trial().studies if not row.expected).turnaround_s)
