"""What ``medai jobs``, ``job``, ``status`` and ``turnaround`` print: plain text, nothing read, nothing decided.

Next: router/waterfall.py (stages as bars), reports/readings.py (where the content comes from).
"""

from __future__ import annotations

from collections.abc import Sequence

from medai.router import waterfall
from medai.router.reports.agreement import EditEntry
from medai.router.reports.held import HeldMergeEntry, HeldOrderEntry
from medai.router.reports.letters import LetterEntry, LetterStory
from medai.router.reports.readings import Reading
from medai.router.reports.status import Status
from medai.router.reports.story import JobStory
from medai.router.reports.turnaround import TurnaroundGroup
from medai.router.stages import Percentiles
from medai.router.words import ago, clock, counted, lasted


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    cells = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def edits(found: Sequence[EditEntry], now: float) -> str:
    """What readers made of our results, one line for each structure."""
    if not found:
        return "no reader has stored a SEG or SR for anything that was read"
    lines: list[Sequence[str]] = []
    for edit in found:
        head = (edit.job_id[:8], edit.model, edit.kind.upper(), edit.state, ago(edit.seen_at, now))
        for part in edit.comparisons:
            dice = "" if part.dice is None else f"{part.dice:.3f}"
            lines.append((*head, part.structure, "" if part.outcome == "matched" else part.outcome, dice))
        if not edit.comparisons:
            lines.append((*head, edit.reason or edit.verdict, "", ""))
    return table(("JOB", "MODEL", "WHAT", "STATE", "SEEN", "STRUCTURE", "", "DICE"), lines)


def jobs(found: Sequence[Reading], now: float) -> str:
    """A line a job."""
    if not found:
        return "no readings yet: send a study to Orthanc, then look again"
    body = [
        [
            reading.job_id[:8],
            reading.route,
            reading.model,
            reading.state,
            reading.priority,
            f"r{reading.revision}",
            ago(reading.created_at, now),
            lasted(reading.turnaround_s),
            reading.reason[:60],
        ]
        for reading in found
    ]
    head = ["JOB", "ROUTE", "MODEL", "STATE", "PRIORITY", "REV", "AGE", "TURNAROUND", "REASON"]
    return table(head, body)


def job(story: JobStory, now: float) -> str:
    """One reading from order to acknowledgement."""
    parts = [
        f"job {story.job_id}  {story.state}",
        f"  route {story.route}, model {story.model} {story.model_version}, {counted(story.images, 'image')}, "
        f"priority {story.priority}, revision {story.revision}, attempt {story.attempt}",
    ]
    parts += [f"  reason: {story.reason}"] if story.reason else []
    parts += ["", "decisions"]
    parts += [f"  {clock(d.at)}  {d.verdict:<9} {d.route or '-':<12} {d.reason}" for d in story.decisions]
    parts += ["", f"stages (turnaround {lasted(story.turnaround_s)})"]
    drawn = waterfall.bars(story.stamps, story.finished_at or now)
    parts += [f"  {line}" for line in waterfall.lines(drawn)]
    if story.measurements:
        parts += ["", "measurements"]
        parts += [f"  {m.segment_name:<24} {m.quantity:<18} {m.value:.1f} {m.unit}" for m in story.measurements]
    parts += plausibility(story)
    parts += ["", "results"]
    parts += [f"  {kind.upper():<3} {item.orthanc_id}" for kind, item in story.results.items()] or ["  none"]
    for item in story.deliveries:
        text = item.receipt or item.error or "owed"
        parts.append(f"  {item.destination}: {item.state} ({text}), {counted(item.attempts, 'attempt')}")
    parts += ["", "attempts"]
    for each in story.attempts:
        took = lasted(each.ended_at - each.started_at) if each.ended_at else "running"
        parts.append(f"  {each.number}: {each.outcome} on {each.worker}, {took} {each.error}".rstrip())
    return "\n".join(parts)


def plausibility(story: Reading) -> list[str]:
    """The verdict with the checks that did not pass or could not be made; other notes follow."""
    found = story.plausibility
    notes = list(story.warnings)
    if found is None:
        return [f"  note: {text}" for text in notes]
    parts = ["", f"plausibility: {found.verdict}, {found.summary}"]
    for check in found.checks:
        if not check.passed:
            parts.append(f"  {'not checked' if check.passed is None else 'check'}: {check.text}")
            notes = [text for text in notes if text != check.text]
    return parts + [f"  note: {text}" for text in notes]


def status(found: Status, now: float) -> str:
    """The queue and who works on it."""
    counts = ", ".join(f"{count} {state}" for state, count in found.jobs.items() if count) or "none yet"
    parts = [
        f"queue    {found.queue_depth} waiting, oldest {lasted(found.oldest_waiting_s)}",
        f"readings {counts}",
        f"studies  {found.studies} known, {found.studies_arriving} arriving",
    ]
    parts += [f"  {q.queue:<4} {q.priority:<10} {q.depth:>4}  oldest {lasted(q.oldest_s)}" for q in found.queues]
    if found.orders_held:
        parts.append(f"held     {counted(found.orders_held, 'order')}: another patient than the images; see medai held")
    if found.merges_held:
        parts.append(f"held     {counted(found.merges_held, 'merge')} of two persons, it seems; see medai held")
    parts += _destinations(found, now)
    parts.append("workers" if found.workers else "workers  none: start one with 'medai worker'")
    for item in found.workers:
        state = ("reading " + item.job_id[:8] if item.job_id else "idle") if item.alive else "silent"
        where = f"{item.name}  {item.device}  {'+'.join(item.queues)}"
        parts.append(f"  {where}  {state}, last seen {ago(item.seen_at, now)} ago")
        parts += [f"    ALARM: {item.alarm}"] if item.alarm else []
    parts.append("models" if found.models else "models   none announced")
    for model in found.models:
        parts.append(f"  {model.name} {model.version}  {'ready' if model.available else model.reason}")
        verdicts = [f"{v.count} {v.verdict}" for v in found.verdicts if v.model == model.name]
        parts += [f"    results: {', '.join(verdicts)}"] if verdicts else []
    return "\n".join(parts)


def _destinations(found: Status, now: float) -> list[str]:
    parts = []
    for item in found.destinations:
        if item.away:
            parts.append(f"  {item.name} has been unreachable for {ago(item.since, now)}: {item.reason}")
        if item.pending:
            waiting = counted(item.pending, "delivery", "deliveries")
            parts.append(f"  {item.name}: {waiting} waiting, oldest {lasted(item.oldest_s)}")
    dead = found.dead_letters
    count = sum(dead.values())
    if count:
        parts.append(
            f"  {counted(count, 'dead letter')} ({counted(dead['reading'], 'reading')}, "
            f"{counted(dead['delivery'], 'delivery', 'deliveries')}): medai dead"
        )
    return ["deliveries", *parts] if parts else []


def dead_letters(letters: Sequence[LetterEntry], now: float) -> str:
    """A line a dead letter, with the whole reason."""
    if not letters:
        return "no dead letters: everything went where it belongs"
    body = [
        [
            letter.id if letter.destination else letter.job_id[:13],
            letter.kind,
            letter.route,
            ago(letter.parked_at, now),
            str(letter.attempts),
            letter.reason,
        ]
        for letter in letters
    ]
    return table(["ID", "WHAT", "ROUTE", "AGE", "TRIES", "REASON"], body)


def held(orders: Sequence[HeldOrderEntry], merges: Sequence[HeldMergeEntry], now: float) -> str:
    """A line an order or a merge of patients that waits for a person."""
    if not merges:
        return held_orders(orders, now)
    rows = [
        [f"m{each.id}", each.prior_id, each.patient_id, ago(each.seen_at, now), ", ".join(each.differs)]
        for each in merges
    ]
    told = table(["ID", "PATIENT", "MERGED INTO", "AGE", "SPEAKS AGAINST IT"], rows)
    return f"{held_orders(orders, now)}\n\n{told}" if orders else told


def held_orders(found: Sequence[HeldOrderEntry], now: float) -> str:
    """A line an order that waits for a person."""
    if not found:
        return "nothing is held: orders name the patient of their images, and merges one person"
    body = [
        [str(each.id), each.placer, each.accession, ago(each.seen_at, now), ", ".join(each.differs)] for each in found
    ]
    return table(["ID", "PLACER", "ACCESSION", "AGE", "DIFFERS"], body)


def history(letter: LetterStory) -> str:
    """What was tried, and what came of it."""
    parts = [f"\n{letter.id}"]
    for each in letter.attempts_made:
        parts.append(f"  {clock(each.started_at)}  read on {each.worker}: {each.outcome} {each.error}".rstrip())
    for item in letter.deliveries_tried:
        times = f" ({item.count} times, last {clock(item.last_at)})" if item.count > 1 else ""
        parts.append(f"  {clock(item.first_at)}  to {item.destination}: {item.outcome}, {item.text}{times}")
    return "\n".join(parts)


def turnaround(groups: Sequence[TurnaroundGroup], since: str, by: str | None) -> str:
    """Percentiles, a block a group."""
    if not groups:
        return f"no reading ended in the last {since}"
    parts = []
    for group in groups:
        name = group.group if by else "all readings"
        rows = [_line("last image -> RIS", group.turnaround)]
        rows += [_line(stage, values) for stage, values in group.stages.items()]
        parts.append(f"{name}: {group.done} done, {group.failed} failed in the last {since}")
        parts.append(table(["", "N", "P50", "P95", "P99"], rows))
    return "\n".join(parts)


def _line(name: str, of: Percentiles) -> list[str]:
    return [f"  {name}", str(of.n), *(lasted(value) for value in (of.p50_s, of.p95_s, of.p99_s))]
