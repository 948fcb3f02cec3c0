"""What ``medai jobs``, ``job``, ``status`` and ``turnaround`` print: plain text, nothing read, nothing decided.

Next: reports/readings.py (where the content comes from).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medai.router.words import ago, clock, counted, seconds

BAR_WIDTH = 40


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    cells = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def edits(rows: Sequence[Mapping[str, Any]], now: float) -> str:
    """What readers made of our results, one line for each structure."""
    if not rows:
        return "no reader has stored a SEG or SR for anything that was read"
    lines = []
    for row in rows:
        head = (row["job_id"][:8], row["model"], row["kind"].upper(), row["state"], ago(row["seen_at"], now))
        parts = row["comparisons"] or [{"structure": row["reason"] or row["verdict"], "outcome": "", "dice": None}]
        for part in parts:
            dice = "" if part["dice"] is None else f"{part['dice']:.3f}"
            outcome = "" if part["outcome"] == "matched" else part["outcome"]
            lines.append((*head, part["structure"], outcome, dice))
    return table(("JOB", "MODEL", "WHAT", "STATE", "SEEN", "STRUCTURE", "", "DICE"), lines)


def jobs(rows: Sequence[Mapping[str, Any]], now: float) -> str:
    """A line a job."""
    if not rows:
        return "no readings yet: send a study to Orthanc, then look again"
    body = [
        [
            str(r["job_id"])[:8],
            r["route"],
            r["model"],
            r["state"],
            r["priority"],
            f"r{r['revision']}",
            ago(r["created_at"], now),
            seconds(r["turnaround_s"]),
            str(r["reason"])[:60],
        ]
        for r in rows
    ]
    head = ["JOB", "ROUTE", "MODEL", "STATE", "PRIORITY", "REV", "AGE", "TURNAROUND", "REASON"]
    return table(head, body)


def waterfall(stages: Mapping[str, float]) -> str:
    """Stages as bars on one time line."""
    shown = {k: max(0.0, v) for k, v in stages.items() if k not in ("order_to_acquisition", "acquisition_to_received")}
    whole = sum(shown.values()) or 1.0
    lines, start = [], 0.0
    for name, value in shown.items():
        left = round(start / whole * BAR_WIDTH)
        width = max(1, round(value / whole * BAR_WIDTH))
        lines.append(f"  {name:<18} {' ' * left}{'█' * width:<{BAR_WIDTH - left + 1}} {seconds(value):>9}")
        start += value
    return "\n".join(lines)


def job(story: Mapping[str, Any]) -> str:
    """One reading from order to acknowledgement."""
    parts = [
        f"job {story['job_id']}  {story['state']}",
        f"  route {story['route']}, model {story['model']} {story['model_version']}, "
        f"{counted(story['images'], 'image')}, priority {story['priority']}, "
        f"revision {story['revision']}, attempt {story['attempt']}",
    ]
    if story["reason"]:
        parts.append(f"  reason: {story['reason']}")
    parts += ["", "decisions"]
    for item in story["decisions"]:
        at = clock(item["at"])
        parts.append(f"  {at}  {item['verdict']:<9} {item['route'] or '-':<12} {item['reason']}")
    parts += ["", f"stages (turnaround {seconds(story['turnaround_s'])})", waterfall(story["stages"])]
    if story["measurements"]:
        parts += ["", "measurements"]
        parts += [
            f"  {m['segment_name']:<24} {m['quantity']:<18} {m['value']:.1f} {m['unit']}" for m in story["measurements"]
        ]
    parts += plausibility(story)
    parts += ["", "results"]
    parts += [f"  {kind.upper():<3} {item['orthanc_id']}" for kind, item in story["results"].items()] or ["  none"]
    for item in story["deliveries"]:
        text = item["receipt"] or item["error"] or "owed"
        parts.append(f"  {item['destination']}: {item['state']} ({text}), {counted(item['attempts'], 'attempt')}")
    parts += ["", "attempts"]
    for item in story["attempts"]:
        took = seconds(item["ended_at"] - item["started_at"]) if item["ended_at"] else "running"
        parts.append(f"  {item['number']}: {item['outcome']} on {item['worker']}, {took} {item['error']}".rstrip())
    return "\n".join(parts)


def plausibility(story: Mapping[str, Any]) -> list[str]:
    """The verdict with the checks that did not pass or could not be made; other notes follow."""
    found = story.get("plausibility")
    notes = list(story["warnings"])
    if not found:
        return [f"  note: {text}" for text in notes]
    parts = ["", f"plausibility: {found['verdict']}, {found['summary']}"]
    for item in found["checks"]:
        if not item["passed"]:
            parts.append(f"  {'not checked' if item['passed'] is None else 'check'}: {item['text']}")
            notes = [text for text in notes if text != item["text"]]
    return parts + [f"  note: {text}" for text in notes]


def status(now_is: Mapping[str, Any], now: float) -> str:
    """The queue and who works on it."""
    counts = ", ".join(f"{count} {state}" for state, count in now_is["jobs"].items() if count) or "none yet"
    parts = [
        f"queue    {now_is['queue_depth']} waiting, oldest {seconds(now_is['oldest_waiting_s'])}",
        f"readings {counts}",
        f"studies  {now_is['studies']} known, {now_is['studies_arriving']} arriving",
    ]
    for item in now_is["queues"]:
        parts.append(
            f"  {item['queue']:<4} {item['priority']:<10} {item['depth']:>4}  oldest {seconds(item['oldest_s'])}"
        )
    parts += _destinations(now_is, now)
    parts.append("workers" if now_is["workers"] else "workers  none: start one with 'medai worker'")
    for item in now_is["workers"]:
        state = ("reading " + item["job_id"][:8] if item["job_id"] else "idle") if item["alive"] else "silent"
        where = f"{item['name']}  {item['device']}  {'+'.join(item['queues'])}"
        parts.append(f"  {where}  {state}, last seen {ago(item['seen_at'], now)} ago")
        parts += [f"    ALARM: {item['alarm']}"] if item["alarm"] else []
    parts.append("models" if now_is["models"] else "models   none announced")
    for item in now_is["models"]:
        parts.append(f"  {item['name']} {item['version']}  {'ready' if item['available'] else item['reason']}")
        counted = [f"{v['count']} {v['verdict']}" for v in now_is["verdicts"] if v["model"] == item["name"]]
        parts += [f"    results: {', '.join(counted)}"] if counted else []
    return "\n".join(parts)


def _destinations(now_is: Mapping[str, Any], now: float) -> list[str]:
    parts = []
    for item in now_is["destinations"]:
        if item["away"]:
            parts.append(f"  {item['name']} has been unreachable for {ago(item['since'], now)}: {item['reason']}")
        if item["pending"]:
            parts.append(
                f"  {item['name']}: {counted(item['pending'], 'delivery', 'deliveries')} waiting, "
                f"oldest {seconds(item['oldest_s'])}"
            )
    dead = now_is["dead_letters"]
    count = sum(dead.values())
    if count:
        parts.append(
            f"  {counted(count, 'dead letter')} ({counted(dead['reading'], 'reading')}, "
            f"{counted(dead['delivery'], 'delivery', 'deliveries')}): medai dead"
        )
    return ["deliveries", *parts] if parts else []


def dead_letters(letters: Sequence[Mapping[str, Any]], now: float) -> str:
    """A line a dead letter, with the whole reason."""
    if not letters:
        return "no dead letters: everything went where it belongs"
    body = [
        [
            str(item["id"]) if item["destination"] else str(item["job_id"])[:13],
            item["kind"],
            item["route"],
            ago(item["parked_at"], now),
            str(item["attempts"]),
            item["reason"],
        ]
        for item in letters
    ]
    return table(["ID", "WHAT", "ROUTE", "AGE", "TRIES", "REASON"], body)


def history(letter: Mapping[str, Any]) -> str:
    """What was tried, and what came of it."""
    parts = [f"\n{letter['id']}"]
    for item in letter["attempts_made"]:
        parts.append(
            f"  {clock(item['started_at'])}  read on {item['worker']}: {item['outcome']} {item['error']}".rstrip()
        )
    for item in letter["deliveries_tried"]:
        times = f" ({item['count']} times, last {clock(item['last_at'])})" if item["count"] > 1 else ""
        parts.append(f"  {clock(item['first_at'])}  to {item['destination']}: {item['outcome']}, {item['text']}{times}")
    return "\n".join(parts)


def turnaround(groups: Sequence[Mapping[str, Any]], since: str, by: str | None) -> str:
    """Percentiles, a block a group."""
    if not groups:
        return f"no reading ended in the last {since}"
    parts = []
    for group in groups:
        name = group["group"] if by else "all readings"
        rows = [_line("last image -> RIS", group["turnaround"])]
        rows += [_line(stage, values) for stage, values in group["stages"].items()]
        parts.append(f"{name}: {group['done']} done, {group['failed']} failed in the last {since}")
        parts.append(table(["", "N", "P50", "P95", "P99"], rows))
    return "\n".join(parts)


def _line(name: str, values: Mapping[str, Any]) -> list[str]:
    return [f"  {name}", str(values["n"]), *(seconds(values[key]) for key in ("p50_s", "p95_s", "p99_s"))]
