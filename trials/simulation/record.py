"""What a simulation did, as Parquet: each study, and how long the queue was. Next: serving.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medai.trials.scenario import PRIORITIES
from medai.trials.simulation.serving import Outcome, Served

LOOKS = 1000
"""Looks at the queue in each replication, evenly spaced."""


def write(outcomes: Sequence[Outcome], folder: Path) -> None:
    """studies.parquet (a row a study) and queue.parquet (``LOOKS`` rows a replication); times are seconds of each.

    Columns have the names that a real run's studies have (hospital/record.py), where they mean the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    studies = [_studies(number, outcome.served) for number, outcome in enumerate(outcomes)]
    pq.write_table(pa.concat_tables(studies), folder / "studies.parquet")
    looks = [_queue(number, outcome) for number, outcome in enumerate(outcomes)]
    pq.write_table(pa.concat_tables(looks), folder / "queue.parquet")


def _studies(replication: int, served: Sequence[Served]) -> pa.Table:
    return pa.table(
        {
            "replication": pa.array([replication] * len(served), pa.int32()),
            "priority": pa.array([PRIORITIES[each.urgency] for each in served], pa.string()),
            "last_image_s": pa.array([each.at_s for each in served], pa.float64()),
            "enqueued_s": pa.array([each.ready_s for each in served], pa.float64()),
            "started_s": pa.array([each.started_s for each in served], pa.float64()),
            "result_s": pa.array([each.result_s for each in served], pa.float64()),
            "turnaround_s": pa.array([each.turnaround_s for each in served], pa.float64()),
        }
    )


def _queue(replication: int, outcome: Outcome) -> pa.Table:
    """How many had come to the queue and not begun, at each look."""
    at_s = np.linspace(0.0, outcome.length_s, LOOKS)
    columns = {"replication": pa.array([replication] * LOOKS, pa.int32()), "at_s": pa.array(at_s)}
    for urgency, name in enumerate(PRIORITIES):
        mine = [each for each in outcome.served if each.urgency == urgency]
        came, begun = (np.sort([getattr(each, what) for each in mine]) for what in ("ready_s", "started_s"))
        waiting = np.searchsorted(came, at_s, side="right") - np.searchsorted(begun, at_s, side="right")
        columns[f"waiting_{name}"] = pa.array(waiting, pa.int64())
    return pa.table(columns)
