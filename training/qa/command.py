"""``medai-train qa DATA``: look for faults in a data set before training on it.

Each case is read and measured (facts.py), the whole set is judged (checks.py), and the findings become a line
each, a JSON summary and an HTML report with pictures (report.py). Exit code 1 where there are errors.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medai.training.cases import Dataset
from medai.training.data.datasets import open_dataset
from medai.training.errors import ConfigError, DataError
from medai.training.qa.checks import Finding, check
from medai.training.qa.facts import Facts, facts_of
from medai.training.qa.report import Picture, by_case, label_rows, picture, render
from medai.training.words import counted

SHOWN = 20
"""Findings printed; all are in the report and in the JSON."""
EXAMPLES = 2
"""Cases without findings that are shown, too."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A data set looked through."""

    dataset: Dataset
    facts: tuple[Facts, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings forbid training."""
        return sum(1 for finding in self.findings if finding.level == "error")

    def summary(self) -> dict[str, Any]:
        """For machines."""
        readable = [one for one in self.facts if not one.fault]
        return {
            "dataset": self.dataset.name,
            "cases": len(self.facts),
            "patients": len({one.patient for one in self.facts}),
            "errors": self.errors,
            "warnings": len(self.findings) - self.errors,
            "findings": [asdict(finding) for finding in self.findings],
            "labels": [
                {key: row[key] for key in ("value", "name", "cases", "median_ml", "clipped")}
                for row in label_rows(self.dataset, readable)
            ],
            "measured": [_measured(one) for one in self.facts],
        }


def survey(dataset: Dataset) -> Survey:
    """Read every case once and judge the set."""
    cases = tqdm(dataset.cases, desc="reading", unit="case", leave=False)
    facts = tuple(facts_of(case) for case in cases)
    return Survey(dataset=dataset, facts=facts, findings=tuple(check(dataset, facts)))


def _measured(one: Facts) -> dict[str, Any]:
    if one.fault:
        return {"case": one.name, "fault": one.fault}
    return {
        "case": one.name,
        "shape": list(one.shape),
        "spacing_mm": list(one.spacing_mm),
        "axes": one.axes,
        "percentiles": list(one.percentiles),
        "ml": {str(value): label.ml for value, label in one.labels.items()},
        "sha256": one.digest,
    }


def report(found: Survey, *, pictures: int) -> str:
    """The HTML page with pictures of up to so many cases, errors first."""
    groups = by_case(found.findings)
    ordered = sorted(groups, key=lambda name: all(finding.level != "error" for finding in groups[name]))
    sound = [one.name for one in found.facts if one.name not in groups and not one.fault][:EXAMPLES]
    shown = [*ordered[:pictures], *(sound if pictures else [])]
    drawn = _pictures(found.dataset, shown, groups)
    more = sum(1 for name in ordered if name not in {one.case for one in drawn})
    return render(found.dataset, found.facts, found.findings, drawn, more=more)


def _pictures(dataset: Dataset, names: Sequence[str], groups: Any) -> list[Picture]:
    cases = {case.name: case for case in dataset.cases}
    drawn = []
    for name in tqdm(names, desc="drawing", unit="case", leave=False):
        try:
            drawn.append(picture(name, cases[name].load(), groups.get(name, [])))
        except DataError:
            continue  # it cannot be read, and the findings say so
    return drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``medai-train qa``."""
    parser.epilog = "examples:\n  medai-train qa DATA --out qa/\n  medai-train qa http://pacs:8042 --json"
    parser.add_argument("data", metavar="DATA", help="a data set's folder, or an Orthanc's URL (docs/data.md)")
    parser.add_argument(
        "--format", default="auto", help="folder, decathlon, dicom, orthanc or openkbp; default: detected"
    )
    parser.add_argument("--modality", default="MR", help="for formats that name none (default MR)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write report.html and summary.json here")
    parser.add_argument("--pictures", type=int, default=24, metavar="N", help="cases with pictures (default 24)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(options: argparse.Namespace) -> int:
    """0 without errors (warnings may remain), 1 with some."""
    if options.pictures < 0:
        raise ConfigError("--pictures must be 0 or more")
    found = survey(open_dataset(options.data, kind=options.format, modality=options.modality.upper(), tolerant=True))
    if options.out:
        write(found, options.out, pictures=options.pictures)
    if options.json:
        print(json.dumps(found.summary(), indent=2))
    else:
        _tell(found, options.out)
    return 1 if found.errors else 0


def write(found: Survey, folder: Path, *, pictures: int) -> None:
    """report.html and summary.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(found.summary(), indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(report(found, pictures=pictures), encoding="utf-8")


def _tell(found: Survey, folder: Path | None) -> None:
    for finding in found.findings[:SHOWN]:
        print(f"{finding.level:8} {finding.check:12} {finding.case or '(whole set)'}: {finding.text}")
    if len(found.findings) > SHOWN:
        kinds = Counter(finding.check for finding in found.findings[SHOWN:])
        print(f"... and {', '.join(f'{count} of {name}' for name, count in kinds.items())}")
    if not found.findings:
        print("nothing found")
    where = f"; report: {folder / 'report.html'}" if folder else "; --out DIR writes a report with pictures"
    count = len(found.facts)
    print(
        f"{found.dataset.name}: {counted(count, 'case')}, {counted(found.errors, 'error')}, "
        f"{counted(len(found.findings) - found.errors, 'warning')}{where}",
        file=sys.stdout,
    )
