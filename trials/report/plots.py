"""The pictures of a report, as SVG. Colours are Okabe and Ito's, which colour-blind people can tell apart; lines differ
by dash, too. Times on the horizontal axis are the hospital's clock. Next: page.py."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from medai.trials.hospital.record import FaultRow, SampleRow, TrialRun
from medai.trials.report import figures
from medai.trials.scenario import PRIORITIES
from medai.trials.statistics import Summary

COLOURS = {"stat": "#D55E00", "urgent": "#E69F00", "routine": "#0072B2", "all": "#000000", "extra": "#009E73"}
DASHES = {"stat": "-", "urgent": "--", "routine": "-.", "all": ":"}
BINS = 24
mpl.use("Agg")
_STYLE: Any = {"font.size": 9, "svg.fonttype": "none", "font.family": "DejaVu Sans", "svg.hashsalt": "medai",
          "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture:
    """``svg`` to be put into a page; ``alt`` says in words what it shows."""

    name: str
    title: str
    alt: str
    svg: str


def arrivals(run: TrialRun, arm: str) -> Picture:
    """How many studies arrived, stacked by priority."""
    rows = [row for row in run.of(arm) if not math.isnan(row.last_image_s)]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        end = run.length_s[arm] * run.accelerate / 3600
        edges = np.linspace(0, max(end, 1e-6), BINS + 1)
        scale = run.accelerate / 3600
        hours = [[row.last_image_s * scale for row in rows if row.priority == name] for name in PRIORITIES]
        axes.hist(hours, bins=edges, stacked=True, color=[COLOURS[name] for name in PRIORITIES], label=PRIORITIES)
        _faults(axes, run, arm)
        _clock(axes, run)
        axes.set_ylabel(f"studies in {60 * end / BINS:.0f} min")
        axes.legend(frameon=False)
        alt = f"{len(rows)} studies arrived over {end:.1f} hours."
        return _picture(figure, f"arrivals-{arm}", "Arrivals", alt)


def queue(run: TrialRun, arm: str) -> Picture:
    """How many readings waited for a worker, stacked by priority, and how many waited for a radiologist."""
    samples = _samples(run, arm)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        hours = [row.at_s * run.accelerate / 3600 for row in samples]
        depth = [[row.waiting_stat for row in samples], [row.waiting_urgent for row in samples],
                 [row.waiting_routine for row in samples]]  # fmt: skip
        axes.stackplot(hours, depth, colors=[COLOURS[name] for name in PRIORITIES], labels=PRIORITIES, step="post")
        axes.step(hours, [row.parked for row in samples], color="#000000", label="parked", where="post", linewidth=1)
        _faults(axes, run, arm)
        _clock(axes, run)
        axes.set_ylabel("readings that wait for a worker")
        axes.legend(frameon=False)
        most = max((sum(values) for values in zip(*depth, strict=True)), default=0)
        return _picture(figure, f"queue-{arm}", "Queue before the workers", f"At most {most} readings waited.")


def radiologists(run: TrialRun, arm: str) -> Picture:
    """Unread studies, and radiologists busy and on shift."""
    samples = _samples(run, arm)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        hours = [row.at_s * run.accelerate / 3600 for row in samples]
        axes.step(hours, [r.unread for r in samples], color=COLOURS["routine"], label="studies unread", where="post")
        axes.step(hours, [r.readers_busy for r in samples], color=COLOURS["extra"], linestyle="--",
                  label="radiologists busy", where="post")  # fmt: skip
        axes.step(hours, [r.readers for r in samples], color="#000000", linestyle=":", label="on shift", where="post")
        _faults(axes, run, arm)
        _clock(axes, run)
        axes.set_ylabel("studies, people")
        axes.legend(frameon=False)
        most = max((row.unread for row in samples), default=0)
        return _picture(figure, f"radiologists-{arm}", "Radiologists", f"At most {most} studies were unread.")


def load(run: TrialRun, arm: str) -> Picture:
    """Processor cores in use, and workers that read."""
    samples = _samples(run, arm)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        hours = [row.at_s * run.accelerate / 3600 for row in samples]
        axes.plot(hours, [100 * row.cpu for row in samples], color=COLOURS["routine"], linewidth=1, label="all cores")
        busy = [100 * min(1.0, row.running / run.scenario.system.workers) for row in samples]
        look: Any = {"color": COLOURS["urgent"], "linestyle": "--", "linewidth": 1}
        axes.step(hours, busy, label="workers reading", where="post", **look)
        _faults(axes, run, arm)
        _clock(axes, run)
        axes.set_ylim(0, 105)
        axes.set_ylabel("in use, %")
        axes.legend(frameon=False)
        mean = 100 * sum(row.cpu for row in samples) / max(1, len(samples))
        return _picture(figure, f"load-{arm}", "Machine", f"The cores were {mean:.0f} % busy on average.")


def turnaround(run: TrialRun, arm: str) -> Picture:
    """Percentiles by priority with their intervals, against the objective."""
    found = {name: figure for name, figure in figures.turnaround(run.of(arm)).items() if figure is not None}
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for place, (name, of) in enumerate(found.items()):
            _bars(axes, place, of)
            if name in PRIORITIES:
                limit = getattr(run.scenario.objectives, f"{name}_s")
                axes.plot([place - 0.4, place + 0.4], [limit, limit], color="#000000", linewidth=1.5)
        axes.set_xticks(range(len(found)), [f"{name}\n(n = {of.n})" for name, of in found.items()])
        axes.set_yscale("log")
        axes.set_ylabel("last image to result at the RIS, s")
        marks = zip(_MARKS, _MARK_COLOURS, strict=True)
        handles: list[Any] = [Patch(color=colour, label=label) for label, colour in marks]
        handles.append(Line2D([], [], color="#000000", label="objective for p95"))
        axes.legend(handles=handles, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.12))
        alt = "; ".join(f"{name}: p50 {of.p50.value:.1f} s, p95 {of.p95.value:.1f} s" for name, of in found.items())
        return _picture(figure, f"turnaround-{arm}", "Turnaround", alt or "No result came.")


def distribution(run: TrialRun, arm: str) -> Picture:
    """Which share of the results was there after how long."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for name in PRIORITIES:
            mine = [row for row in run.of(arm) if row.expected and row.priority == name]
            times = sorted(row.turnaround_s for row in mine if not math.isnan(row.turnaround_s))
            if times:
                share = [100 * place / len(mine) for place in range(1, len(times) + 1)]
                axes.step(times, share, where="post", color=COLOURS[name], linestyle=DASHES[name], label=name)
        if _spans_decades(run, arm):
            axes.set_xscale("log")
        axes.set_ylim(0, 102)
        axes.set_xlabel("seconds after the last image")
        axes.set_ylabel("results at the RIS, %")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        alt = "Share of the results that were there, over time."
        return _picture(figure, f"distribution-{arm}", "Turnaround, whole distribution", alt)


def stages(run: TrialRun, arm: str) -> Picture:
    """Median of each stage, one after the other."""
    found = figures.stages(run.of(arm))
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        left = 0.0
        for place, (_, of) in enumerate(found):
            axes.barh(place, of.p50.value, left=left, color=COLOURS["routine"])
            axes.text(left + of.p50.value, place, f" {of.p50.value:.2f} s (p95 {of.p95.value:.2f})", va="center")
            left += max(0.0, of.p50.value)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.invert_yaxis()
        axes.set_xlim(0, left * 1.35 or 1)
        axes.set_xlabel("seconds, medians one after the other")
        alt = "; ".join(f"{name} {of.p50.value:.2f} s" for name, of in found)
        return _picture(figure, f"stages-{arm}", "A study's journey", alt or "No study was read.")


def first_look(run: TrialRun) -> Picture | None:
    """How long positive studies waited for a radiologist, with and without the AI's order."""
    found = figures.first_looks(run)
    if not found:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        labels = []
        for place, look in enumerate(found):
            for side, (of, colour) in enumerate(((look.without_ai, "#999999"), (look.with_ai, COLOURS["extra"]))):
                at = place * 3 + side
                axes.bar(at, of.p50.value / 60, color=colour, yerr=_spread(of), capsize=4)
            labels.append((place * 3 + 0.5, f"{look.of}\n({look.pairs} positive studies)"))
        axes.set_xticks([at for at, _ in labels], [text for _, text in labels])
        axes.set_ylabel("median wait for a look, hospital min")
        marks = (("#999999", "without AI"), (COLOURS["extra"], "with AI"))
        handles = [Patch(color=colour, label=label) for colour, label in marks]
        axes.legend(handles=handles, frameon=False)
        alt = "; ".join(
            f"{look.of}: median {look.with_ai.p50.value / 60:.1f} min, without {look.without_ai.p50.value / 60:.1f} min"
            for look in found
        )
        return _picture(figure, "first-look", "Time to the first look at positive studies", alt)


def _spans_decades(run: TrialRun, arm: str) -> bool:
    times = [row.turnaround_s for row in run.of(arm) if row.turnaround_s > 0]
    return bool(times) and max(times) > 10 * min(times)


_MARKS, _MARK_COLOURS = ("p50", "p95", "p99"), ("#56B4E9", "#0072B2", "#003A5D")


def _bars(axes: Any, place: int, of: Summary) -> None:
    for offset, estimate, colour in zip((-0.25, 0.0, 0.25), (of.p50, of.p95, of.p99), _MARK_COLOURS, strict=True):
        axes.bar(place + offset, estimate.value, width=0.22, color=colour)
        if estimate.low is not None and estimate.high is not None:
            axes.plot([place + offset] * 2, [estimate.low, estimate.high], color="#D55E00", linewidth=2)


def _spread(of: Summary) -> Any:
    if of.p50.low is None or of.p50.high is None:
        return None
    return [[(of.p50.value - of.p50.low) / 60], [(of.p50.high - of.p50.value) / 60]]


def _samples(run: TrialRun, arm: str) -> Sequence[SampleRow]:
    return [row for row in run.samples if row.arm == arm]


def _axes() -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.4, 2.9), layout="constrained")
    return figure, figure.subplots()


def _faults(axes: Any, run: TrialRun, arm: str) -> None:
    mine: list[FaultRow] = [fault for fault in run.faults if fault.arm == arm]
    for fault in mine:
        began, ended = (at * run.accelerate / 3600 for at in (fault.began_s, fault.ended_s))
        axes.axvspan(began, max(ended, began + 0.01), color="#CC79A7", alpha=0.35, linewidth=0)
        where: Any = {"xycoords": ("data", "axes fraction"), "va": "bottom", "rotation": 20}
        axes.annotate(fault.name, (began, 1.0), fontsize=7, **where)


def _clock(axes: Any, run: TrialRun) -> None:
    start_h = run.scenario.starts_s / 3600

    def told(hour: float, _: int) -> str:
        minutes = round((start_h + hour) * 60)
        return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"

    axes.xaxis.set_major_formatter(told)
    axes.set_xlim(left=0)


def _picture(figure: Figure, name: str, title: str, alt: str) -> Picture:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    ids = set(re.findall(r'id="([^"]+)"', svg))
    for each in sorted(ids, key=len, reverse=True):  # several pictures share a page: their ids must differ
        svg = svg.replace(f'"{each}"', f'"{name}-{each}"').replace(f'"#{each}"', f'"#{name}-{each}"')
        svg = svg.replace(f"url(#{each})", f"url(#{name}-{each})")
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return Picture(name=name, title=title, alt=alt, svg=svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))
