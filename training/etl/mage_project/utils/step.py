"""Start one of our steps (training/etl/steps.py) with our own Python; Mage's environment lacks what it needs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any


def step(name: str, source: str, variables: dict[str, Any]) -> str:
    """Run a step and return its output folder. Raises RuntimeError; the step has said why on stderr."""
    out = variables["out"] if name == "export" else str(Path(variables["work"]) / name)
    command = [variables["python"], "-P", "-m", "medai.training.cli", "etl", "step", name, "--in", source, "--out", out]
    command += ["--config", variables["config"], "--copies", str(variables["copies"])]
    environment = {**os.environ, "PYTHONPATH": variables["path"]}
    if subprocess.run(command, check=False, env=environment).returncode:  # noqa: S603 - words of medai-train etl run
        raise RuntimeError(f"the step {name} failed; it said why above")
    return out
