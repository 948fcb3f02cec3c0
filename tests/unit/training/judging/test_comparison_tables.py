"""Tables of a comparison: the same cells as Markdown, LaTeX and text, and what has no figure as a dash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medai.training.judging import comparison_plots
from medai.training.judging.case import CaseResult
from medai.training.judging.comparison import Comparison, Contestant, Pair
from medai.training.judging.comparison_tables import (
    DETAILS,
    detail_table,
    latex_table,
    markdown,
    pair_table,
    paper_table,
    text,
)
from medai.training.metrics import Measures


def figure(mean: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "ci95": None if low is None else (low, high)}


def contestant(name: str, *, history: Path | None = None, known: bool = True) -> Contestant:
    figures: dict[str, Any] = {key: figure(0.5) for key, _, _ in DETAILS}
    figures |= {"dice": figure(0.91234, 0.9, 0.92), "hd95_mm": figure(None), "missing": {"hd95_mm": 2}}
    results = tuple(
        CaseResult(
            case=str(number), seconds=2.0 + number, peak_mb=500.0, growth_mb=40.0 + number, voxels=4_000_000,
            measures={"core": Measures(dice=0.9, truth_ml=1.0)}, refusal="",
        )
        for number in range(3)
    )  # fmt: skip
    return Contestant(
        name=name, network="UNet", parameters=1_234_567 if known else None, weights_mb=4.9,
        epochs=30 if known else None, training_s=90.0 if known else None, training_device="CPU", history=history,
        results=results, structures={"core": figures},
    )  # fmt: skip


PAIR = Pair(
    structure="core", first="a_1", second="b", cases=3, difference=0.0123, ci95=(0.001, 0.02), effect=0.5, p=0.04,
    p_holm=0.0004, differences=(0.01, 0.02, 0.0),
)  # fmt: skip


def comparison(**more: Any) -> Comparison:
    return Comparison(
        **{
            "contestants": (contestant("a_1"), contestant("b", known=False)), "pairs": (PAIR,), "classes": ("core",),
            "dataset": "blocks", "cases": ("0", "1", "2"), "reason": "the test side", "tolerance_mm": 1.0, "seed": 0,
            "threads": 2, "device": "CPU", "command": "medai-train compare", **more,
        }
    )  # fmt: skip


def test_a_model_is_a_row_of_medians_and_what_is_not_known_is_a_dash() -> None:
    header, (known, unknown) = paper_table(comparison())
    row = dict(zip(header, known, strict=True))
    assert row["Dice, core"] == "0.912 [0.900, 0.920]"
    assert row["HD95, core, mm"] == "-"
    assert row["s/case"] == "3.000"
    assert row["Mvoxel/s"] == "1.33"
    assert row["memory, MB"] == "42", "the most that any case took"
    assert (row["parameters"], row["training, min"]) == ("1,234,567", "1.5")
    assert unknown[header.index("parameters") :] == ["-", "4.90", "-", "-"]


def test_all_accuracy_stands_by_structure_and_model_with_what_has_no_distance() -> None:
    header, body = detail_table(comparison())
    assert [line[:2] for line in body] == [["core", "a_1"], ["core", "b"]]
    assert len(header) == len(body[0])
    assert body[0][-1] == "2"


def test_a_pair_says_difference_effect_and_both_ps_small_ones_in_powers() -> None:
    _, (line,) = pair_table([PAIR])
    assert line == ["core", "a_1 - b", "+0.0123 [+0.0010, +0.0200]", "+0.50", "0.040", "4.0e-04"]


def test_latex_turns_the_table_and_escapes_what_means_something_there() -> None:
    found = latex_table(["model", "error, %"], [["a_1", "2"], ["b&c", "3"]])
    assert r"\begin{tabular}{lrr}" in found
    assert r"model & a\_1 & b\&c \\" in found
    assert r"error, \% & 2 & 3 \\" in found


def test_a_terminal_gets_a_column_a_model_and_the_remarks() -> None:
    found = text(comparison())
    assert "model  " in found
    assert "only 3 cases: intervals and tests say little" in found
    assert not any(line.endswith(" ") for line in found.splitlines())


def test_the_page_shows_only_pictures_that_are_there() -> None:
    page = markdown(comparison(), ["dice"], title="Three networks")
    assert page.startswith("# Three networks\n")
    assert "images/comparison-dice.png" in page
    assert "images/comparison-training.png" not in page
    assert "## Training" not in page


def test_pictures_are_drawn_of_what_there_is_and_are_the_same_each_time(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,loss,score,seconds\n0,1.5,,2\n1,0.5,0.8,4\n")
    found = comparison(contestants=(contestant("a_1", history=history), contestant("b", known=False)))
    saved = comparison_plots.save_all(found, tmp_path)
    assert set(saved) == {"dice", "speed", "training", "differences"}
    before = {name: path.read_bytes() for name, path in saved.items()}
    assert all(data.startswith(b"\x89PNG") for data in before.values())
    again = comparison_plots.save_all(found, tmp_path)
    assert {name: path.read_bytes() for name, path in again.items()} == before
    bare = comparison(pairs=())
    (tmp_path / "bare").mkdir()
    assert set(comparison_plots.save_all(bare, tmp_path / "bare")) == {"dice", "speed"}


def test_empty_cells_of_a_history_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,loss,score\n0,1.5,\n1,0.5,0.8\n")
    assert comparison_plots.read_history(tmp_path / "history.csv") == [
        {"epoch": 0.0, "loss": 1.5}, {"epoch": 1.0, "loss": 0.5, "score": 0.8},
    ]  # fmt: skip


@pytest.mark.parametrize("parts", [("", 0), ("too small", 1)])
def test_a_reader_is_told_of_few_cases_and_of_refusals(parts: tuple[str, int]) -> None:
    refusal, told = parts
    one = contestant("a_1")
    results = tuple(CaseResult(**{**vars(result), "refusal": refusal}) for result in one.results)
    found = comparison(contestants=(Contestant(**{**vars(one), "results": results}),), cases=tuple("abcdefghijk"))
    assert len(found.remarks) == told
    assert all("a_1 refused 3 cases" in remark for remark in found.remarks)
