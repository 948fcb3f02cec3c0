"""The training set's distribution, as the console will compare with it."""

from __future__ import annotations

import json
from pathlib import Path

import judging_cases as cases
import numpy as np
import pytest

from medai.models.format.bundle import read_bundle
from medai.models.format.own_card import own_card
from medai.models.segmenters.case_figures import case_figures
from medai.router.reports.drift import Reference, drifts
from medai.training import cli
from medai.training.export.bundle import export
from medai.training.export.description import read_description
from medai.training.judging.reference import distribution

NAMES = [f"case{number}" for number in range(12)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose network draws what is bright, trained on twelve cases."""
    run = cases.make_run(tmp_path / "runs" / "blocks", split={"train": NAMES, "test": ["t"]})
    export([run], tmp_path / "bundles" / "blocks", read_description(cases.write_description(tmp_path)))
    return tmp_path / "bundles" / "blocks"


def test_a_reference_says_what_the_model_draws_on_its_training_cases(tmp_path: Path, bundle: Path) -> None:
    data = cases.write_blocks(tmp_path / "blocks", dict.fromkeys([*NAMES, "t"], 0))
    assert cli.main(["reference", str(bundle), "--data", str(data)]) == 0
    made = json.loads((bundle / "docs" / "reference.json").read_text())
    assert (made["cases"], made["side"], made["outputs"]) == (12, "train", "drawn")
    case = cases.block_case()
    numbers = [segment.number for segment in read_bundle(bundle, None).segments]
    expected = case_figures(case.volume, case.labels, numbers)
    known = made["quantities"]["output.1.volume_ml"]
    assert known["n"] == sum(known["counts"]) == 12
    assert known["quantiles"] == [pytest.approx(expected["output.1.volume_ml"])] * 12
    own = own_card(bundle, read_bundle(bundle, None).card.fingerprint)
    assert own.reference == made
    steady = [
        each
        for each in drifts(Reference.model_validate(made), [expected] * 30)
        if each.quantity == "output.1.volume_ml"
    ]
    assert [each.level for each in steady] == ["steady"]
    assert not [name for name in NAMES if name in json.dumps(made)], "no case is named"


def test_too_few_cases_are_no_distribution(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = cases.write_blocks(tmp_path / "few", dict.fromkeys(NAMES[:5], 0))
    assert cli.main(["reference", str(bundle), "--data", str(data), "--split", "all"]) != 0
    assert "do not make a distribution" in capsys.readouterr().err
    assert not (bundle / "docs" / "reference.json").exists()


def test_bins_hold_a_tenth_each_where_values_differ() -> None:
    made = distribution(np.arange(1000, dtype=float))
    assert made["counts"] == [99, *[100] * 8, 101]
    assert len(made["quantiles"]) == 101
