"""The report of a trial: one HTML file that needs nothing else, and the same as PDF. Next: figures.py, plots.py.

Jinja2 makes the page, WeasyPrint the PDF. ``write_report`` reads a trial's folder and may be called again at any time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from medai.router.files.whole import whole
from medai.trials.hospital.record import WITH_AI, StudyRow, TrialRun
from medai.trials.report import figures, plots
from medai.trials.scenario import PRIORITIES
from medai.trials.statistics import Estimate, Summary

TEMPLATES = Path(__file__).parent.parent / "templates"


def write_report(folder: Path) -> tuple[Path, Path]:
    """report.html and report.pdf in the trial's folder; raises ScenarioError where it holds no trial."""
    run = TrialRun.read(folder)
    page = render(run)
    html, pdf = folder / "report.html", folder / "report.pdf"
    html.write_text(page, encoding="utf-8")
    _write_pdf(page, pdf)
    return html, pdf


def render(run: TrialRun) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"figure": _figure, "seconds": _seconds, "picture": _picture}
    first = plots.first_look(run)
    return environment.get_template("report.html").render(
        run=run,
        scenario=run.scenario,
        sentences=figures.sentences(run),
        arms=[_arm(run, arm) for arm in run.arms],
        first_look=first,
        looks=figures.first_looks(run),
        with_ai=WITH_AI,
        mark=mark_of(run),
    )


def mark_of(run: TrialRun) -> str:
    """``good`` where nothing was lost and nothing answered twice, else ``bad``."""
    return "bad" if any(row.lost or row.duplicate for row in run.studies) else "good"


def _arm(run: TrialRun, arm: str) -> dict[str, Any]:
    rows, ai = run.of(arm), arm == WITH_AI
    pictures = [plots.arrivals(run, arm)]
    if ai:
        pictures += [
            plots.queue(run, arm),
            plots.turnaround(run, arm),
            plots.distribution(run, arm),
            plots.stages(run, arm),
        ]
    pictures += [plots.radiologists(run, arm), plots.load(run, arm)]
    old = [row for row in run.studies if row.arm == arm and row.migrated]
    return {
        "name": arm,
        "ai": ai,
        "pictures": pictures,
        "rows": len(rows),
        "made": figures.counted(rows, lambda row: row.images > 0),
        "owed": figures.counted(rows, lambda row: row.expected),
        "answered": figures.counted(rows, lambda row: row.expected and row.results_at_ris > 0),
        "lost": figures.counted(rows, lambda row: row.lost),
        "twice": figures.counted(rows, lambda row: row.duplicate),
        "unread": figures.counted(rows, lambda row: row.images > 0 and math.isnan(row.first_look_s)),
        "old": len(old),
        "old_lost": figures.counted(old, lambda row: row.lost),
        "old_read": figures.counted(old, lambda row: row.jobs > 0),
        "turnaround": figures.turnaround(rows) if ai else {},
        "wait": {name: figures.first_look_of(rows, name, run.accelerate) for name in PRIORITIES},
        "workers": figures.worker_share(run, arm) if ai else None,
        "readers": figures.reader_share(run, arm),
        "habits": figures.habits(rows),
        "faults": [_fault(rows, fault) for fault in run.faults if fault.arm == arm],
        "wrong": [row for row in rows if row.lost or row.duplicate],
        "states": Counter(row.state for row in rows).most_common(),
        "length_s": run.length_s[arm],
    }


def _fault(rows: Sequence[StudyRow], fault: Any) -> dict[str, Any]:
    alive, answered = figures.alive_during(rows, fault.began_s, fault.ended_s)
    return {"fault": fault, "alive": alive, "answered": answered}


def _figure(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.1f}"
    return f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"


def _seconds(summary: Summary | None) -> str:
    return "–" if summary is None else f"{summary.p50.value:.1f} / {summary.p95.value:.1f} / {summary.p99.value:.1f}"


def _picture(picture: plots.Picture) -> Markup:
    return Markup(picture.svg)  # noqa: S704 - our own drawing, its texts escaped by matplotlib and plots.py


def _write_pdf(page: str, path: Path) -> None:
    from weasyprint import HTML  # loads pango: only who writes a PDF needs it

    with whole(path) as part:
        HTML(string=page, base_url=None).write_pdf(part)
