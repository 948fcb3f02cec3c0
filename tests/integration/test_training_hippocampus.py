"""A training on sixteen real hippocampi: a minute of it, killed in the middle, goes on as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trainings import kill_in_the_middle, losses

from medai.training.cli import main

CASES = 16
MOST_S = 400
SMALL = {
    **{"network.channels": "[8,16,32]", "network.parameters": "{}", "network.start": '""', "inferer.shifted": "false"},
    **{"budget.epochs": "40", "budget.minutes": "1.0", "budget.validate_every": "5"},
    **{"split.test": "0.0", "split.validation": "0.25", "compute.threads": "1", "optimiser.ema": "0.9"},
}


@pytest.fixture(scope="module")
def hippocampi(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first sixteen cases of the Decathlon's hippocampi."""
    source, folder = shared_data("mr_hippocampus_MSD"), tmp_path_factory.mktemp("hippocampi")
    for part in ("images", "labels"):
        (folder / part).mkdir()
        for path in sorted((source / part).glob("*.nii.gz"))[:CASES]:
            shutil.copy(path, folder / part / path.name)
    return folder


@pytest.mark.slow
def test_a_minute_on_sixteen_hippocampi_learns_and_survives_a_kill(
    hippocampi: Path, tmp_path: Path, project_root: Path
) -> None:
    config = project_root / "training" / "configs" / "mr_hippocampus.toml"
    changes = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    command = ["fit", str(config), "--data", str(hippocampi), *changes]
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    assert main([*command, "--out", str(whole)]) == 0
    summary = json.loads((whole / "summary.json").read_text(encoding="utf-8"))
    assert losses(whole)[-1] < 0.6 * losses(whole)[0]
    assert summary["best_score"] > 0.5, "a minute is enough to find the hippocampus"

    kill_in_the_middle([*command, "--out", str(killed)], killed, most_s=MOST_S)
    before = len(losses(killed))
    assert main([*command, "--out", str(killed), "--resume"]) == 0
    both = min(len(losses(whole)), len(losses(killed)))
    assert both > before, "the resumed training went on"
    np.testing.assert_allclose(losses(killed)[:both], losses(whole)[:both], rtol=1e-4)
