"""What a worker says of its load, with a GPU and without."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medai.workers.load import Load


def test_memory_cores_and_disk_are_those_of_this_process(tmp_path: Path) -> None:
    load = Load(tmp_path)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    found = load.look()
    assert 10e6 < found["memory_bytes"] < 100e9
    assert 0.05 < found["cores_used"] < 64
    assert 0 < found["scratch_free_bytes"] <= found["scratch_size_bytes"]
    assert load.look()["cores_used"] >= 0


def test_what_the_process_of_a_model_uses_counts_too(tmp_path: Path) -> None:
    load = Load(tmp_path)
    alone = load.look()["memory_bytes"]
    work = "block = b'1' * 80_000_000\nwhile True:\n    pass"
    with subprocess.Popen([sys.executable, "-c", work]) as child:
        time.sleep(0.5)
        found = load.look()
        child.kill()
    assert found["memory_bytes"] > alone + 60e6
    assert found["cores_used"] > 0.05


def test_a_scratch_directory_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert not {name for name in Load(tmp_path / "gone").look() if name.startswith("scratch")}


@pytest.mark.parametrize("counts", [True, False])
def test_a_gpu_says_its_memory_and_how_busy_it_is_where_the_driver_counts(
    counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy() -> int:
        if not counts:
            raise ModuleNotFoundError("pynvml")
        return 40

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "utilization", busy)
    found = Load(tmp_path).look()
    assert (found["gpu_memory_used_bytes"], found["gpu_memory_size_bytes"]) == (2 * 2**30, 8 * 2**30)
    assert found.get("gpu_busy_ratio") == (0.4 if counts else None)
