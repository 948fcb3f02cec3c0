"""A simulation is kept as studies and a queue."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medai.trials.simulation.record import write
from medai.trials.simulation.serving import Outcome, Served


def test_a_simulation_is_kept_as_studies_and_a_queue(tmp_path: Path) -> None:
    late = Outcome(
        served=[Served(0.0, 0, 3.0, 10.0, 2.0), Served(1.0, 2, 10.0, 20.0, 3.0)],
        busy=0.5, length_s=20.0, longest_queue=1,
    )  # fmt: skip
    write([late, late], tmp_path / "new")
    studies = pq.read_table(tmp_path / "new" / "studies.parquet").to_pylist()
    assert [row["replication"] for row in studies] == [0, 0, 1, 1]
    assert studies[1] == {"replication": 0, "priority": "routine", "last_image_s": 1.0, "enqueued_s": 3.0,
                          "started_s": 10.0, "result_s": 20.0, "turnaround_s": 19.0}  # fmt: skip
    looks = [row for row in pq.read_table(tmp_path / "new" / "queue.parquet").to_pylist() if row["replication"] == 1]
    waited = [row["at_s"] for row in looks if row["waiting_routine"]]
    assert (min(waited), max(waited)) == (pytest.approx(3.0, abs=0.02), pytest.approx(10.0, abs=0.02))
    assert looks[0]["waiting_stat"] == looks[-1]["waiting_stat"] == 0
