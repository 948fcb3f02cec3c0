"""How soon after each stage of a reading the study's page shows it, in a real Chromium.

  .venv/bin/python benchmarks/journey.py --studies 5
  .venv/bin/python benchmarks/journey.py --smoke        one study: whether it still runs, not a figure to quote

Real Orthanc, Redis and RIS; router and worker in this process, a threshold that takes two seconds as model. The page is
left alone, as somebody would who watches it. Prints, for each stage, the delay between the moment that the ledger holds
for its end and the moment that the page shows it as ended, and, for comparison, the page's own interval of refreshing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # real servers are started as the tests do

from browser import Person, add_people, chromium, console_of
from dicom_cases import study_files, study_uid
from hospital import Hospital, hospital_in
from servers import wait_for

from medai.router.reports.story import study_number

ENDS = {
    "completeness wait": "study_complete", "queue wait": "started", "fetch": "fetched", "prepare": "prepared",
    "infer": "inferred", "encode": "encoded", "store": "stored", "deliver": "oru_acknowledged",
}  # fmt: skip
"""Stage -> the stamp that ends it."""
WATCH = """() => {
  window.seen = {};
  setInterval(() => {
    for (const text of document.querySelectorAll(".waterfall text:not(.n)")) {
      const length = text.nextElementSibling?.nextElementSibling?.textContent ?? "";
      if (!length.endsWith("…")) window.seen[text.textContent] ??= Date.now() / 1000;
    }
  }, 20);
}"""


def delays(person: Person, hospital: Hospital, name: str) -> dict[str, float]:
    """Send a study, watch its page until it is done; stage -> seconds until the page showed its end."""
    hospital.send(study_files(name))
    number = wait_for(lambda: study_number(hospital.ledger, study_uid(name)), what="the study")
    person.go(f"/studies/{number}")
    person.page.evaluate(WATCH)
    job = hospital.read(name)
    person.page.wait_for_function("() => window.seen.deliver", timeout=20_000)
    seen: dict[str, float] = person.page.evaluate("() => window.seen")
    stamps: dict[str, float] = job["stamps"]
    return {stage: seen[stage] - stamps[end] for stage, end in ENDS.items() if stage in seen and end in stamps}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--smoke", action="store_true", help="one study and a quick model")
    options = parser.parse_args()
    if options.smoke:
        options.studies = 1
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, hospital_in(Path(folder)) as hospital, chromium() as browser:
        hospital.models.model.seconds = 0.2 if options.smoke else 2.0
        add_people(hospital.ledger, time.time())
        with console_of(hospital.settings, hospital.ledger) as base:
            person = Person.at(browser, base, "reader")
            for number in range(options.studies):
                print(f"study {number + 1} of {options.studies}", file=sys.stderr)
                for stage, delay_s in delays(person, hospital, f"journey{number}").items():
                    found[stage].append(delay_s)
    rows: list[dict[str, Any]] = [
        {"stage": stage, "median_s": round(sorted(values)[len(values) // 2], 2), "max_s": round(max(values), 2)}
        for stage, values in found.items()
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['stage']:<18} median {row['median_s']:5.2f} s   max {row['max_s']:5.2f} s")


if __name__ == "__main__":
    main()
