"""``medai trial report`` and ``summary``: a report written again, several trials in one table. Next: page.py."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medai.trials.hospital.record import WITH_AI, TrialRun
from medai.trials.report import figures
from medai.trials.report.page import write_report


def report(options: argparse.Namespace) -> int:
    """Write report.html and report.pdf of a trial again."""
    html, pdf = write_report(options.folder)
    print(json.dumps({"html": str(html), "pdf": str(pdf)}) if options.json else f"{html}\n{pdf}")
    return 0


def summary(options: argparse.Namespace) -> int:
    """One row for each trial, as Markdown or JSON."""
    rows = [row_of(TrialRun.read(folder), folder) for folder in options.folders]
    print(json.dumps(rows, indent=2) if options.json else table(rows))
    return 0


def row_of(run: TrialRun, folder: Path) -> dict[str, Any]:
    """The figures of one trial's arm with AI (or its only arm)."""
    arm = WITH_AI if WITH_AI in run.arms else run.arms[0]
    rows = run.of(arm)
    found = figures.turnaround(rows)
    looks = figures.first_looks(run)
    return {
        "scenario": run.scenario.name,
        "folder": folder.name,
        "hours": run.scenario.duration_s / 3600,
        "accelerate": run.accelerate,
        "studies": len(rows),
        "old": sum(row.migrated for row in run.studies),
        "answered": figures.counted(rows, lambda row: row.expected and row.results_at_ris > 0),
        "owed": figures.counted(rows, lambda row: row.expected),
        "lost": sum(row.lost for row in run.studies),
        "twice": sum(row.duplicate for row in run.studies),
        "turnaround": {name: [of.p50.value, of.p95.value] for name, of in found.items() if of is not None},
        "faults": [fault.name for fault in run.faults],
        "first_look_min": looks[-1].difference.value / 60 if looks else None,
        "real_min": sum(run.length_s.values()) / 60,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    titles = ("scenario", "studies", "answered", "lost", "twice", "STAT p50 / p95, s", "urgent", "routine",
              "positive studies seen, min", "faults", "real min")  # fmt: skip
    lines = [_line(titles), _line(["---"] * len(titles))]
    for row in rows:
        seconds = [_seconds(row["turnaround"].get(name)) for name in ("stat", "urgent", "routine")]
        old = f" + {row['old']} old" if row["old"] else ""
        first = "–" if row["first_look_min"] is None else f"{row['first_look_min']:+.1f}"
        answered = f"{row['answered']} of {row['owed']}"
        cells = [row["scenario"], f"{row['studies']}{old}", answered, row["lost"], row["twice"]]
        lines.append(_line([*cells, *seconds, first, ", ".join(row["faults"]) or "none", f"{row['real_min']:.1f}"]))
    return "\n".join(lines)


def _line(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _seconds(pair: list[float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.1f} / {pair[1]:.1f}"
