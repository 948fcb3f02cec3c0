"""Each benchmark still runs: in its small form, whose figures say nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medai.trials import scenario

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PARTS = {"quick_worker.py": "latency.py"}
"""Started by another."""
BENCHMARKS = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in PARTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_in_its_small_form(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / name, "--smoke"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()


def test_a_part_of_a_benchmark_is_started_by_it() -> None:
    for part, name in PARTS.items():
        assert part in (FOLDER / name).read_text(encoding="utf-8")


def test_the_scenario_of_the_benchmarks_is_one() -> None:
    found = scenario.load(str(FOLDER / "shipped-models.toml"))
    assert found.name == "shipped-models"
