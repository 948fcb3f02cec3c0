"""A clock that can be stepped while a program runs, and whose monotonic time stays true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, time
from pathlib import Path
from chaos.part import step_clock
file = Path(sys.argv[1])
true, ticks = time.time(), time.monotonic()
step_clock(file)
time.sleep(0.1)
before = time.time() - true
file.write_text("-3600")
time.sleep(0.1)
after = time.time() - true
print(round(before), round(after), round(time.monotonic() - ticks))
"""


def test_the_clock_steps_back_an_hour_and_sleeping_still_works(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    file.write_text("0")
    tests = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{tests.parent}/.lint:{tests}"},
    )  # fmt: skip
    assert done.stdout.split() == ["0", "-3600", "0"]
