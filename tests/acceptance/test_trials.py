"""Two scenarios in their short forms, on the whole real system; the reports in real Chromium and as PDF."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from peers.check_messages import complaints, read
from playwright.sync_api import Page

from medai.trials.hospital.record import WITH_AI, WITHOUT_AI, TrialRun

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [pytest.mark.apart, pytest.mark.timeout(1500)]
"""Whole days of a hospital: results must come while a fault lasts, and a busy machine takes longer over a day."""


def medai(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medai.router.cli", "trial", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(folder: Path, scenario: str, *more: str) -> dict[str, Any]:
    data = ["--data", str(DATA)] if DATA.is_dir() else []
    done = medai("run", scenario, "--short", "--out", str(folder), "--json", *data, *more)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outage")
    told = run(folder, "ris-outage", "--tls")
    assert (told["lost"], told["twice"], told["ok"]) == (0, 0, True)
    return folder


@pytest.fixture(scope="module")
def trauma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trauma")
    assert run(folder, "trauma-burst", "--arms", f"{WITH_AI},{WITHOUT_AI}")["ok"]
    return folder


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 900})


def test_a_ris_that_goes_away_costs_no_study_and_each_is_answered_once(outage: Path) -> None:
    done = TrialRun.read(outage)
    assert done.machine["tls"], "every part spoke TLS to every other"
    owed = [row for row in done.of(WITH_AI) if row.expected]
    assert len(owed) > 10
    assert all(row.results_at_ris == 1 and not math.isnan(row.result_s) for row in owed)
    assert [fault.name for fault in done.faults] == ["ris-away", "ris-garbage", "ris-silent"]
    assert not any(fault.detail for fault in done.faults), "each fault struck and was mended"
    away = done.faults[0]
    waited = [row for row in owed if away.began_s < row.encoded_s < away.ended_s]
    assert waited, "results came while the RIS was away"
    assert max(row.result_s - row.encoded_s for row in waited) > 2.0, "and waited for it"


def test_every_habit_and_step_left_its_event(outage: Path) -> None:
    done = TrialRun.read(outage)
    names = Counter(event.name for event in done.events)
    made = [row for row in done.of(WITH_AI) if row.images]
    assert names["first-image"] == names["patient-arrived"] == len(made)
    assert names["mpps-completed"] > 0
    assert names["worklist-entry"] > 0
    assert names["mpps-not-taken"] + names["worklist-away"] > 0, "the RIS was away, and the scanners went on"
    assert names["report"] == len(made), "every study was read"


def test_foreign_receivers_take_every_message_of_a_trial(outage: Path, trauma: Path) -> None:
    messages = read([outage / "messages", trauma / "messages"])
    kinds = {raw.split(b"\r", 1)[0].split(b"|")[8].decode()[:7] for _, raw in messages}
    assert {"ADT^A04", "ADT^A40", "ORM^O01", "ORU^R01"} <= kinds
    assert complaints(messages) == []


def test_both_arms_have_the_same_patients(trauma: Path) -> None:
    done = TrialRun.read(trauma)
    kept = ("number", "case", "priority", "positive", "flagged", "habits", "scheduled_s")
    with_ai, without = ([[getattr(row, name) for name in kept] for row in done.of(arm)] for arm in done.arms)
    assert with_ai == without
    assert not any(row.jobs for row in done.of(WITHOUT_AI))
    assert any(row.results_at_ris for row in done.of(WITH_AI))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_shows_every_plot_and_loads_nothing(
    trauma: Path, outage: Path, page: Page, width: int, tmp_path: Path
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith("file:") else None)
    page.set_viewport_size({"width": width, "height": 900})
    for folder, plots in ((trauma, 11), (outage, 8)):
        page.goto(f"file://{folder}/report.html")
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        shown = page.locator("figure svg")
        assert shown.count() == plots
        for number in range(plots):
            box = shown.nth(number).bounding_box()
            assert box is not None
            assert (box["width"], box["height"]) > (200, 80)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []


def test_the_pdf_says_the_same(trauma: Path) -> None:
    text = subprocess.run(
        ["pdftotext", "-layout", str(trauma / "report.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    for words in (
        "Trauma burst",
        "What the AI's ordering changes",
        "Arm with-ai",
        "Arm without-ai",
        "A study's journey",
    ):
        assert words in text
    assert text.count("\f") >= 3, "pages"


def test_the_run_can_be_summed_up_and_simulated(outage: Path, trauma: Path) -> None:
    done = medai("summary", str(outage))
    assert "| ris-outage | 35 |" in done.stdout
    told = json.loads(medai("service", str(trauma), "--json").stdout)
    assert set(told["cases"]) <= {"chest-ct", "head-mr"}
    model = json.loads(medai("simulate", "ris-outage", "--service", str(trauma), "--days", "2", "--json").stdout)
    assert model["studies_read"] > 50
