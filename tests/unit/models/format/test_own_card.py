"""What a bundle says of itself: its card, and the reference of its training set."""

from __future__ import annotations

from pathlib import Path

import pytest

from medai.models.format.own_card import own_card


def test_a_card_s_figures_are_told_apart_from_its_words(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    text = "# Model\n<!-- figures: begin -->\n| Dice |\n|---|\n| 0.9 |\n<!-- figures: end -->\nLimits.\n"
    (tmp_path / "docs" / "README.md").write_text(text)
    found = own_card(tmp_path, "f" * 64)
    assert "0.9" in found.figures
    assert "Limits." in found.text
    assert "0.9" not in found.text
    assert "holds no reference" in found.missing


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"form": 2}', '{"form": 1, "outputs": "drawn", "fingerprint": "other"}']
)
def test_a_reference_that_does_not_fit_is_refused_with_its_reason(tmp_path: Path, content: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "reference.json").write_text(content)
    found = own_card(tmp_path, "f" * 64)
    assert found.reference is None
    assert "medai-train reference" in found.missing
