"""The mutation tester notices a change that a test notices, and tells of one that none does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutation.changes import mutants
from mutation.cli import main


def test_a_change_is_noticed_and_one_without_effect_is_named(project_root: Path, tmp_path: Path) -> None:
    """Of the geometry: a voxel of another size; corners as whole numbers, which is what they are as floats."""
    every = [each.name for each in mutants((project_root / "models/geometry.py").read_text())]
    noticed = next(name for name in every if name.endswith("float(np.prod(self.spacing_mm)) * 1000.0"))
    missed = next(name for name in every if name.endswith("for k in (0, slices - 1)])"))
    (tmp_path / "asked.json").write_text(json.dumps({"models/geometry.py": [noticed, missed]}))
    arguments = ["models/geometry.py", "--again", str(tmp_path / "asked.json"), "--json", str(tmp_path / "found.json")]
    command = [sys.executable, str(project_root / "tests" / "mutation"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "models/geometry.py: 2 mutants" in done.stdout
    assert "1 of 2 noticed" in done.stdout
    assert json.loads((tmp_path / "found.json").read_text()) == {"models/geometry.py": [missed]}


def test_a_module_without_tests_of_its_own_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["router/errors.py"])
    assert "no tests are known for router/errors.py" in capsys.readouterr().err
