"""The model card says what a reader must know."""

from __future__ import annotations

from pathlib import Path

import judging_cases as cases

from medai.training import cli


def test_the_model_card_says_what_a_reader_must_know(tmp_path: Path) -> None:
    cases.make_run(tmp_path / "run")
    description = cases.write_description(tmp_path)
    words = ["export", str(tmp_path / "run"), "--bundle", str(tmp_path / "blocks"), "--describe", str(description)]
    assert cli.main(words) == 0
    card = (tmp_path / "blocks" / "docs" / "README.md").read_text(encoding="utf-8")
    for expected in (
        "# blocks: Shell and core of a block",
        "Generated blocks. Licence: none needed.",
        "1 trained the network, 1 chose its checkpoint, 1 were held out as test",
        "drawn by seed 1",
        "medai-train export runs/run --bundle bundles/blocks --describe configs/blocks.bundle.toml",
        "| Shell | 0.01 to 10 | 0 or less |",
        "It knows nothing but blocks.",
        "To test the judging of models.",
        "Trained for 3 epochs (kept: epoch 2, counted from 0), 1.5 minutes in all.",
    ):
        assert expected in card
