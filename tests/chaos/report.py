"""What came of it: a table of faults by outcome and recovery time, and the same as JSON."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from chaos.checks import Violation
from chaos.rounds import Outcome

COLUMNS = (
    "fault",
    "rounds",
    "ok",
    "lost",
    "dupl.",
    "stuck",
    "other",
    "missed",
    "recovery p50",
    "max",
    "runs again max",
    "fell over",
)


def summary(outcomes: Sequence[Outcome], last_look: Sequence[Violation]) -> dict[str, Any]:
    """``{rounds, studies, lost, duplicates, stuck, faults: {name: {rounds, recovery_p50_s, recovery_max_s}}}`` and more."""
    everything = [each for outcome in outcomes for each in outcome.violations] + list(last_look)
    names = list(dict.fromkeys(outcome.fault for outcome in outcomes))
    return {
        "rounds": len(outcomes),
        "studies": sum(outcome.studies for outcome in outcomes),
        "lost": _count(everything, "lost"),
        "duplicates": _count(everything, "duplicate"),
        "stuck": _count(everything, "stuck"),
        "other": sum(each.kind not in ("lost", "duplicate", "stuck") for each in everything),
        "missed": sum(not outcome.struck for outcome in outcomes),
        "faults": {name: _fault([each for each in outcomes if each.fault == name]) for name in names},
        "violations": [
            {"round": o.number, "fault": o.fault, "kind": v.kind, "study": v.study, "text": v.text}
            for o in outcomes
            for v in o.violations
        ]
        + [{"round": None, "fault": "", "kind": v.kind, "study": v.study, "text": v.text} for v in last_look],
    }


def _count(those: Sequence[Violation], kind: str) -> int:
    return sum(each.kind == kind for each in those)


def _fault(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    found = [each for outcome in outcomes for each in outcome.violations]
    recoveries = [outcome.recovery_s for outcome in outcomes if outcome.struck]
    again = [outcome.running_again_s for outcome in outcomes if outcome.running_again_s is not None]
    return {
        "rounds": len(outcomes),
        "ok": sum(outcome.ok for outcome in outcomes),
        "lost": _count(found, "lost"),
        "duplicates": _count(found, "duplicate"),
        "stuck": _count(found, "stuck"),
        "other": sum(each.kind not in ("lost", "duplicate", "stuck") for each in found),
        "missed": sum(not outcome.struck for outcome in outcomes),
        "recovery_p50_s": round(statistics.median(recoveries), 2) if recoveries else None,
        "recovery_max_s": round(max(recoveries), 2) if recoveries else None,
        "running_again_max_s": round(max(again), 2) if again else None,
        "fell": dict(Counter(name for outcome in outcomes for name in outcome.fell)),
    }


def is_good(result: dict[str, Any]) -> bool:
    """Nothing lost, doubled, stuck or otherwise wrong, and every fault struck."""
    return not any(result[key] for key in ("lost", "duplicates", "stuck", "other", "missed"))


def table(result: dict[str, Any]) -> str:
    """For people."""
    rows = [COLUMNS]
    for name, line in sorted(result["faults"].items()):
        numbers = [line[key] for key in ("rounds", "ok", "lost", "duplicates", "stuck", "other", "missed")]
        fell = ", ".join(f"{part} {count}x" for part, count in line["fell"].items())
        times = [line[key] for key in ("recovery_p50_s", "recovery_max_s", "running_again_max_s")]
        rows.append(
            (name, *(str(n or ".") for n in numbers), *("" if t is None else f"{t:.1f} s" for t in times), fell)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    totals = (
        f"{result['rounds']} rounds, {result['studies']} studies: {result['lost']} lost, {result['duplicates']} duplicates, "
        f"{result['stuck']} stuck, {result['other']} other violations, {result['missed']} faults that never struck"
    )
    found = [
        f"  round {v['round']} ({v['fault']}), study {v['study']}: {v['kind']}: {v['text']}"
        for v in result["violations"]
    ]
    return "\n".join([*lines, "", totals, *found])
