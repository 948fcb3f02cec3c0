"""``medai top``: what the console's first page shows, as text for a terminal of any size. No identifier of a patient.

``gather`` reads the ledger once; ``draw`` fits it into a width and a height and does nothing else. Next: top_screen.py
(the live screen).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medai.router.contract import DeliveryState, JobState, Priority, StampName
from medai.router.reports import readings, search
from medai.router.reports.readings import Reading
from medai.router.reports.report import Report, Tables
from medai.router.reports.search import FoundStudy
from medai.router.reports.status import NowPage, WorkerEntry, now_page
from medai.router.settings.tables import ObjectivesSettings
from medai.router.stages import percentiles
from medai.router.words import ago, clock, lasted

LAST = 40
"""Studies that are read; a terminal shows as many as fit."""
LEAST = (2, 2, 3)
"""Rows that workers, destinations and studies have at least, where there are as many."""
FIXED_ROWS = 13
"""Lines that are always there: the head, the table of priorities, three titles, the gaps between."""


class ReadNow(Report):
    """What a worker reads now, and for how long."""

    job_id: str
    route: str
    model: str
    modality: str
    priority: str
    attempt: int
    for_s: float | None


class TopWorker(WorkerEntry):
    """A worker with what it reads."""

    reads: ReadNow | None


class TopReading(Report):
    """A reading of one of the last studies."""

    job_id: str
    route: str
    state: JobState
    priority: str
    verdict: str | None


class TopStudy(Report):
    """A study without its UID and accession number: this may hang on a wall."""

    id: int
    modality: str
    instances: int
    last_instance_at: float
    complete_at: float | None
    readings: tuple[TopReading, ...]


class TopPage(NowPage):
    """All that is shown, and what ``--json`` prints."""

    workers: tuple[TopWorker, ...]
    last_studies: tuple[TopStudy, ...]


def gather(ledger: Tables, now: float, objectives: ObjectivesSettings) -> TopPage:
    """Read it. Raises MedaiError."""
    page = now_page(ledger, now, objectives)
    running = {job.job_id: job for job in readings.jobs(ledger, state=JobState.RUNNING.value, limit=200)}
    workers = tuple(
        TopWorker(**dict(worker), reads=_reads(running.get(worker.job_id or ""), now)) for worker in page.workers
    )
    last = tuple(_study(found) for found in search.find(ledger, search.Search(), limit=LAST).studies)
    return TopPage(**dict(page) | {"workers": workers}, last_studies=last)


def _reads(job: Reading | None, now: float) -> ReadNow | None:
    if job is None:
        return None
    started = job.stamps.get(StampName.STARTED)
    return ReadNow(
        **{name: getattr(job, name) for name in ReadNow.model_fields if name != "for_s"},
        for_s=None if started is None else max(0.0, round(now - started, 3)),
    )


def _study(found: FoundStudy) -> TopStudy:
    kept = {name: getattr(found, name) for name in TopStudy.model_fields if name != "readings"}
    told = ({name: getattr(each, name) for name in TopReading.model_fields} for each in found.readings)
    return TopStudy(**kept, readings=tuple(TopReading(**each) for each in told))


# -- drawing

Row = list[str | Text]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why there is nothing newer, and since when."""

    reason: str
    since: float
    every_s: float


def draw(
    content: TopPage | None, now: float, *, height: int | None = None, trouble: Trouble | None = None
) -> RenderableType:
    """The screen; ``height`` None: as long as it takes. ``content`` None: nothing was read yet."""
    parts: list[RenderableType] = [_trouble(trouble, now)] if trouble else []
    if content is None:
        return Group(*parts) if parts else Text("reading the ledger ...")
    room = None if height is None else height - FIXED_ROWS - len(parts)
    rows = (_workers(content.workers, now), _destinations(content, now), _studies(content.last_studies, now))
    counts = share([len(item) for item in rows], room)
    parts += [_head(content), Text(), _priorities(content)]
    for head, body, count in zip((WORKERS, PLACES, STUDIES), rows, counts, strict=True):
        parts += [Text(), shortened(head, body, count)]
    return Group(*parts)


def share(wanted: Sequence[int], room: int | None) -> list[int]:
    """How many rows each list gets: its least, then one more in turn while there is room."""
    if room is None:
        return list(wanted)
    given = [min(want, least) for want, least in zip(wanted, LEAST, strict=True)]
    while sum(given) < room and given != list(wanted):
        for i, want in enumerate(wanted):
            given[i] += given[i] < want and sum(given) < room
    return given


def shortened(head: Sequence[str], rows: Sequence[Row], count: int) -> RenderableType:
    """A table of at most so many rows; its last line tells how many are missing."""
    if len(rows) <= count:
        return _table(head, rows)
    kept = rows[: max(0, count - 1)]
    return Group(_table(head, kept), Text(f"... {len(rows) - len(kept)} more", style="dim"))


def _trouble(trouble: Trouble, now: float) -> Text:
    said = f"▲ {trouble.reason}; since {ago(trouble.since, now)}, tried again every {trouble.every_s:g} s"
    return Text(said, style="bold red", no_wrap=True, overflow="ellipsis")


def _head(content: TopPage) -> Text:
    late, dead = sum(content.overdue.values()), sum(content.dead_letters.values())
    alive = sum(worker.alive for worker in content.workers)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(clock(content.at).split()[1], style="bold")
    for name, count, alarm in (("parked", dead, dead), ("late", late, late), ("workers", alive, not alive)):
        text.append(f"  ▲ {name} {count}" if alarm else f"  {name} {count}", style="bold red" if alarm else "")
    text.append(f"  waiting {content.queue_depth}  reading {content.jobs['running']}")
    return text.append(f"  arriving {content.studies_arriving}")


WORKERS = ("WORKER", "READS", "LOAD", "DEVICE")
PLACES = ("DESTINATION", ">WAIT", ">OLDEST", "STATE")
STUDIES = ("STUDY", ">AGE", "IMAGES", "READINGS")


def _table(head: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=True)
    for i, name in enumerate(head):
        right = name.startswith(">")
        wide = i == len(head) - 1 and not right
        table.add_column(
            name.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=wide or None,
        )
    for row in rows or [[Text("none", style="dim"), *[""] * (len(head) - 1)]]:
        table.add_row(*row)
    return table


def _priorities(content: TopPage) -> Table:
    queues = sorted({"cpu", *(q for w in content.workers for q in w.queues), *(q.queue for q in content.queues)})
    named = (f">{name.upper()}" for name in queues)
    head = ["PRIORITY", *named, ">OLDEST", ">LATE", ">OBJECTIVE", ">P50", ">P95", ">P99", ">READ 24H"]
    rows: list[Row] = []
    for priority in (p.name.lower() for p in Priority):
        mine = {item.queue: item for item in content.queues if item.priority == priority}
        oldest = max((item.oldest_s for item in mine.values()), default=None)
        limit_s = content.objectives[priority]
        took = content.turnaround.get(priority) or percentiles(())
        late = content.overdue[priority]
        rows.append([
            priority,
            *(str(mine[name].depth) if name in mine else "0" for name in queues),
            lasted(oldest, rough=True),
            Text(f"▲ {late}", style="bold red") if late else "0",
            lasted(limit_s, rough=True),
            *(_against(value_s, limit_s) for value_s in (took.p50_s, took.p95_s, took.p99_s)),
            str(took.n),
        ])  # fmt: skip
    return _table(head, rows)


def _against(value_s: float | None, limit_s: float) -> str | Text:
    text = lasted(value_s, rough=True)
    return Text(f"▲ {text}", style="bold red") if value_s is not None and value_s > limit_s else text


def _workers(workers: Sequence[TopWorker], now: float) -> list[Row]:
    rows: list[Row] = []
    for item in sorted(workers, key=lambda w: (not w.alarm, not w.alive, w.job_id is None, w.name)):
        reads = item.reads
        if item.alarm:
            does: str | Text = Text(f"▲ {item.alarm}", style="bold red")
        elif not item.alive:
            does = Text(f"▲ silent for {ago(item.seen_at, now)}", style="bold red")
        elif reads:
            does = f"{reads.job_id[:8]} {reads.route} {reads.priority}, {lasted(reads.for_s, rough=True)}"
        else:
            does = f"{item.job_id[:8]}" if item.job_id else "idle"
        rows.append([item.name, does, load(item.load or {}), item.device])
    return rows


def load(of: Mapping[str, float]) -> str:
    """Cores, memory and GPU of a worker."""
    parts = [f"{of['cores_used']:.1f} cores"] if "cores_used" in of else []
    parts += [f"{of['memory_bytes'] / 1e9:.1f} GB"] if "memory_bytes" in of else []
    parts += [f"GPU {of['gpu_busy_ratio']:.0%}"] if "gpu_busy_ratio" in of else []
    return " ".join(parts) or "-"


def _destinations(content: TopPage, now: float) -> list[Row]:
    parked = {d.destination: d.count for d in content.deliveries if d.state == DeliveryState.PARKED}
    rows: list[Row] = []
    for item in sorted(content.destinations, key=lambda d: (not d.away, -d.pending, d.name)):
        said = f"{parked[item.name]} parked: medai dead" if item.name in parked else "accepts results"
        state: str | Text = Text(f"▲ {said}", style="bold red") if item.name in parked else said
        if item.away:
            state = Text(f"▲ down for {ago(item.since, now)}: {item.reason}", style="bold red")
        oldest = lasted(item.oldest_s if item.pending else None, rough=True)
        rows.append([item.name, str(item.pending), oldest, state])
    return rows


def _studies(studies: Sequence[TopStudy], now: float) -> list[Row]:
    rows: list[Row] = []
    for item in studies:
        what = ", ".join(f"{r.route} {r.state}" for r in item.readings)
        if not what:
            what = "not read" if item.complete_at else "arriving"
        failed = any(r.state is JobState.FAILED for r in item.readings)
        shown: str | Text = Text(f"▲ {what}", style="bold red") if failed else what
        images = f"{item.instances} {item.modality}".strip()
        rows.append([str(item.id), ago(item.last_instance_at, now), images, shown])
    return rows
