"""What evaluate found, as JSON, rows, text and Markdown, with what a reader of the figures must know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from medai.models.format.metadata import EvaluationClass
from medai.training.cases import Case, Dataset, Example
from medai.training.judging.case import CaseResult
from medai.training.judging.choice import Chosen
from medai.training.judging.evaluation_report import Report, structures, table
from medai.training.metrics import measure


def unread() -> Example:
    raise AssertionError("a report needs no voxels")


def result(name: str, *, refusal: str = "", drawn: int = 8) -> CaseResult:
    truth, mask = np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)
    truth[2:6, 2:6, 2:6] = True
    mask.ravel()[np.flatnonzero(truth)[: drawn * 8]] = True
    measures = {} if refusal else {"core": measure(truth, mask, (1.0, 1.0, 1.0))}
    return CaseResult(
        case=name, seconds=2.0, peak_mb=100.0, growth_mb=1.0, voxels=512, measures=measures, refusal=refusal
    )


MODEL: Any = SimpleNamespace(
    name="blocks",
    source=Path("bundles/blocks"),
    classes={"core": EvaluationClass(labels=(2,), segments=(1,))},
    bundle=SimpleNamespace(card=SimpleNamespace(version="1.0+abcd", fingerprint="abcd" * 16)),
)


def report(results: Sequence[CaseResult], *, side: str = "test", seen: int = 0, **more: Any) -> Report:
    cases = tuple(Case(name=one.case, patient=one.case, read=unread) for one in results)
    return Report(
        **{
            "model": MODEL, "dataset": Dataset(name="blocks", cases=cases), "results": results, "tolerance_mm": 1.0,
            "chosen": Chosen(cases=cases, side=side, reason="the test side", seen=seen), "strict": False, "seed": 0,
            "threads": 2, **more,
        }
    )  # fmt: skip


def test_a_refused_case_is_counted_with_its_reason_and_is_in_no_figure() -> None:
    found = report([result("a"), result("b", refusal="too small"), result("c", refusal="too small")])
    assert found.refused == {"too small": 2}
    assert found.structures["core"]["dice"]["mean"] == 1.0
    assert structures(MODEL, found.results, seed=0) == found.structures
    assert "refused 2 of 3 cases (not in the figures): too small" in found.remarks()


def test_json_names_cases_model_and_data_and_holds_nothing_that_json_does_not_know() -> None:
    import json

    found = report([result("a"), result("b", drawn=4)]).json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["cases"] == 2
    assert found["data"]["cases"] == ["a", "b"]
    assert found["model"]["version"] == "1.0+abcd"


def test_there_is_a_row_for_each_case_and_structure_and_one_for_a_refused_case() -> None:
    rows = report([result("a"), result("b", refusal="too small")]).rows()
    assert [(row["case"], row["structure"], row["refusal"]) for row in rows] == [
        ("a", "core", ""), ("b", None, "too small"),
    ]  # fmt: skip


def test_few_cases_and_cases_that_the_model_knows_are_told() -> None:
    told = " ".join(report([result("a")], seen=1).remarks())
    assert "only 1 case: the intervals are too narrow" in told
    assert "1 of the cases trained the model or chose its checkpoint" in told
    assert report([result(str(n)) for n in range(10)]).remarks() == []


def test_the_card_says_by_which_command_the_figures_were_made() -> None:
    markdown = report([result("a")], strict=True).markdown()
    assert (
        "By `medai-train evaluate bundles/blocks --data DATA --split test --strict --card`; weights abcdabcdabcd"
        in (markdown)
    )
    assert "--cases FILE" in report([result("a")], side="named").markdown()
    crossed = report([result("a")], side="validation", folds=("runs/f0", "runs/f1")).markdown()
    assert "--folds runs/f0 runs/f1" in crossed
    assert "slightly too good" in crossed
    assert "(cross-validation)" in crossed


def test_a_table_is_the_same_for_people_and_for_markdown_and_a_missing_figure_is_a_dash() -> None:
    nothing = result("a", drawn=0)
    found = report([nothing])
    plain, markdown = (table(found.structures, 2.0, markdown=form) for form in (False, True))
    assert "surface Dice at 2 mm" in plain
    assert markdown.splitlines()[1].count("---") == markdown.splitlines()[0].count("|") - 1
    cells = dict(zip(*(line.strip("| ").split(" | ") for line in markdown.splitlines()[::2]), strict=True))
    assert (cells["Dice"], cells["HD95, mm"]) == ("0.000", "-")
