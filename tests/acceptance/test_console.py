"""People at the console, in a real Chromium: they see what happened and why, act, and see pictures in the right place."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from browser import Person, add_people, chromium, console_of
from dicom_cases import PLANTED, slice_of, study_uid, to_bytes
from hospital import Hospital, hospital_in
from PIL import Image
from playwright.sync_api import Browser, expect
from servers import wait_for

from medai.router.reports import models, story

SHAPE = (12, 59, 43)
"""Slices, rows, columns: rows that are no whole bytes, so that each frame of the SEG begins elsewhere in its byte."""
SPACING_MM = 3.0


@dataclass
class Place:
    """A hospital, its console and a browser."""

    hospital: Hospital
    base: str
    browser: Browser

    def person(self, role: str = "operator", **context: Any) -> Person:
        return Person.at(self.browser, self.base, role, **context)

    def study(self, name: str) -> int:
        """The study's number in the ledger."""
        return int(wait_for(lambda: story.study_number(self.hospital.ledger, study_uid(name)), what="the study"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def place(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with hospital_in(tmp_path_factory.mktemp("hospital")) as hospital:
        add_people(hospital.ledger, time.time())
        with console_of(hospital.settings, hospital.ledger) as base:
            yield Place(hospital, base, browser)


def mask() -> np.ndarray:
    """What is bright, [slice, row, column]: at the patient's left, in front, and wider than high."""
    inside = np.zeros(SHAPE, dtype=bool)
    inside[3:9, 8:16, 26:39] = True
    return inside


def study_of(name: str, inside: np.ndarray) -> list[bytes]:
    """Axial slices of a bright block in noise."""
    slices, rows, columns = inside.shape
    pixels = (800 * inside + np.random.default_rng(1).integers(0, 60, inside.shape)).astype("<u2")
    return [
        to_bytes(slice_of(index, study=name, Rows=rows, Columns=columns, PixelData=pixels[index].tobytes()))
        for index in range(slices)
    ]


def state_of(person: Person, study: int, text: str, *, within_s: float = 30.0) -> None:
    """Wait, on the page that keeps itself fresh, until the reading is in a state."""
    person.go(f"/studies/{study}")
    expect(person.page.locator(".card h2 .badge").first).to_contain_text(text, timeout=within_s * 1000)


# In the order of a system's life: the first test sees it empty.


def test_an_empty_system_says_so_on_every_page(place: Place) -> None:
    person = place.person("administrator")
    for path, text in [
        ("/", "Nothing is waiting."), ("/studies", "No study"), ("/rules", "brain"), ("/models", "mr_brain"), ("/audit", "login"),
    ]:  # fmt: skip
        expect(person.go(path).locator("main")).to_contain_text(text)
    assert person.faults == []


def test_nobody_gets_in_without_logging_in(place: Place) -> None:
    page = place.browser.new_context().new_page()
    page.goto(f"{place.base}/studies")
    assert "/login" in page.url
    page.fill("[name=name]", "operator")
    page.fill("[name=password]", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#login .fault")).to_have_text("wrong name or password")
    assert page.request.get(f"{place.base}/dicom-web/studies/1.2.3/series").status == 401


def test_accounts_sessions_and_tokens_are_managed_by_the_keyboard(place: Place) -> None:
    person = place.person("administrator")
    page = person.go("/")
    page.keyboard.press("c")
    page.wait_for_url("**/accounts")
    add = page.locator("form[data-send='/api/accounts']")
    add.locator("[name=name]").fill("new.one")
    add.locator("[name=password]").fill("long enough")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    role = page.get_by_role("form", name="Role of new.one")
    role.locator("select").focus()
    page.keyboard.type("operator")
    page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(role.locator("select")).to_have_value("operator")
    newcomer = Person.at(place.browser, place.base, "new.one", "long enough")
    row = person.go("/sessions").get_by_role("row").filter(has_text="new.one")
    row.get_by_role("button", name="End").click()
    person.agree()
    assert newcomer.page.request.get(f"{place.base}/api/me").status == 401
    page = person.go("/tokens")
    page.locator("[name=label]").fill("a program")
    page.keyboard.press("Enter")
    made = page.locator("#new-token input")
    expect(made).to_have_value(re.compile("medai_.{40}"))
    program = {"Authorization": f"Bearer {made.input_value()}"}
    page.get_by_role("link", name="I have kept it").click()
    expect(page.get_by_role("row").filter(has_text="a program")).to_contain_text("service")
    assert "medai_" not in page.locator("main").inner_text()
    page.get_by_role("button", name="Revoke").click()
    person.agree()
    nobody = place.browser.new_context().request
    assert nobody.get(f"{place.base}/api/me", headers=program).status == 401
    for path in ("/accounts", "/sessions", "/tokens"):
        person.page.set_viewport_size({"width": 390, "height": 860})
        assert person.go(path).evaluate("document.documentElement.scrollWidth") == 390, path
    assert person.faults == []


def test_a_study_s_journey_appears_by_itself_up_to_the_acknowledgement(place: Place) -> None:
    place.hospital.send(study_of("first", mask()))
    person = place.person()
    study = place.study("first")
    state_of(person, study, "done")
    page = person.page
    for stage in ("receiving", "queue wait", "store", "deliver"):
        expect(page.locator(".waterfall")).to_contain_text(stage)
    expect(page.locator("main")).to_contain_text("is true")
    expect(page.locator("main")).to_contain_text("Brain")
    expect(page.locator("table", has_text="ris").first).to_contain_text("AA")
    assert not [value for value in PLANTED.values() if value in page.content() and value != PLANTED["accession"]]
    assert person.faults == []


def test_a_reading_keeps_the_figures_that_are_compared_with_the_training_set(place: Place) -> None:
    reading = place.hospital.read("first")
    (kept,) = models.recent_figures(place.hospital.ledger, "mr_brain", reading["model_version"], since=0.0)
    assert kept["output.1.volume_ml"] == pytest.approx(mask().sum() * SPACING_MM**3 / 1000, rel=1e-4)
    assert (kept["input.slices"], kept["input.spacing_x_mm"], kept["input.manufacturer"]) == (12.0, SPACING_MM, "Test")
    assert not [value for value in PLANTED.values() if value in str(kept)]


def test_a_patient_s_name_is_shown_when_asked_for_and_that_is_recorded(place: Place) -> None:
    person = place.person()
    person.go(f"/studies/{place.study('first')}")
    person.page.get_by_role("button", name="Show the patient", exact=True).click()
    expect(person.page.locator("#patient")).to_contain_text("Plantedname")
    expect(place.person("administrator").go("/audit").locator("main")).to_contain_text("patient")


def test_the_outlines_lie_on_what_was_found_and_the_letters_are_right(place: Place) -> None:
    person = place.person("reader")
    page = person.go(f"/studies/{place.study('first')}")
    page.get_by_text("Slices with outlines").click()
    expect(page.locator(".slider output")).to_have_text(re.compile(r"of 12$"))
    page.locator(".slider input").fill("5")
    line = page.locator(".slice path.outline")
    expect(line).to_have_count(1)
    picture, drawn = page.locator(".slice image").bounding_box(), line.bounding_box()
    assert picture is not None
    assert drawn is not None
    scale = picture["width"] / SHAPE[2]
    middle = np.array([drawn[k] + drawn[n] / 2 - picture[k] for k, n in (("x", "width"), ("y", "height"))]) / scale
    size = np.array([drawn["width"], drawn["height"]]) / scale
    assert np.abs(middle - [26 + 13 / 2, 8 + 8 / 2]).max() < 0.1, "its middle, in pixels of the image"
    assert np.abs(size - [13, 8]).max() < 1, "its size, but for the line's own width"
    assert page.locator(".slice .edge").all_text_contents() == ["R", "L", "A", "P"]
    page.locator(".slider input").fill("0")
    expect(line).to_have_count(0)
    assert person.faults == []


def test_report_and_messages_are_there_to_read_and_the_patient_in_them_is_hidden(place: Place) -> None:
    person = place.person()
    page = person.go(f"/studies/{place.study('first')}")
    page.get_by_text("Structured report").click()
    expect(page.locator(".report").first).to_contain_text("Volume")
    page.get_by_text("Messages and replies").click()
    message = page.locator("pre")
    expect(message).to_contain_text("OBX|1|")
    expect(message).not_to_contain_text("Plantedname")
    expect(message).to_contain_text("(hidden)")
    page.get_by_role("button", name="Show the patient's data as well").click()
    expect(message).to_contain_text("Plantedname")
    time.sleep(1.5)  # the page keeps itself fresh meanwhile
    expect(message).to_contain_text("Plantedname")


def test_a_failed_reading_is_seen_retried_by_a_click_and_done(place: Place) -> None:
    place.hospital.send(study_of("dark", np.zeros(SHAPE, dtype=bool)))
    person = place.person()
    study = place.study("dark")
    state_of(person, study, "failed")
    expect(person.page.locator("main")).to_contain_text("nothing is bright in this series")
    expect(person.go("/").locator("main")).to_contain_text("nothing is bright in this series")
    place.hospital.models.model.limit = -1.0
    try:
        person.page.get_by_role("button", name="Retry").click()
        expect(person.page.locator("#ask-title")).to_have_text("Try it again?")
        person.agree()
        state_of(person, study, "done")
    finally:
        place.hospital.models.model.limit = 400.0
    expect(person.page.locator("main")).to_contain_text("retry")
    attempts = person.page.locator("h3:text-is('Attempts') + table tr")
    expect(attempts).to_have_count(2)


def test_a_study_raised_to_stat_overtakes_those_that_wait(place: Place) -> None:
    place.hospital.paused.set()
    names = ["slow1", "slow2", "urgent"]
    try:
        for name in names:
            place.hospital.send(study_of(name, mask()))
            wait_for(lambda name=name: place.hospital.jobs(name), what="its job")
        person = place.person()
        state_of(person, place.study("urgent"), "pending")
        expect(person.go("/").locator("table", has_text="Waiting")).to_contain_text("3")
        person.go(f"/studies/{place.study('urgent')}")
        person.page.get_by_role("button", name="Raise to STAT").click()
        person.agree()
        expect(person.page.locator(".card h2")).to_contain_text("STAT")
        expect(person.go("/").locator("table", has_text="Waiting")).to_contain_text("STAT")
        wait_for(lambda: not place.hospital.ledger.jobs.unsent(time.time(), resend_before=0), what="its message")
    finally:
        place.hospital.paused.clear()
    for name in names:
        state_of(person, place.study(name), "done")
    began = {name: place.hospital.jobs(name)[0]["stamps"]["started"] for name in names}
    assert min(began, key=began.__getitem__) == "urgent"


def test_the_rule_tester_says_which_route_takes_which_series_and_why(place: Place) -> None:
    person = place.person("reader")
    page = person.go("/rules")
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#verdicts")).to_contain_text("reads it")
    page.fill("[name=routes]", '[[routes]]\nname = "ct"\nmodel = "ct_lungs"\nwhen = \'study.Modality == "CT"\'')
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#verdicts")).to_contain_text("does not read it")
    page.fill("[name=routes]", "[[routes]\n")
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#rule-test .fault")).not_to_be_empty()
    assert person.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("rows_of_whole_bytes", [False, True])
def test_the_viewer_draws_our_segments_named_and_in_the_right_place(place: Place, rows_of_whole_bytes: bool) -> None:
    inside = mask()
    if rows_of_whole_bytes:  # Orthanc gives such frames out itself
        name, inside = "whole", inside[:, :56, :40]
        place.hospital.send(study_of(name, inside))
    else:
        name = "first"
    state_of(place.person(), place.study(name), "done")
    person = place.person()
    page = person.go(f"/studies/{place.study(name)}")
    page.goto(place.base + str(page.get_by_role("link", name="Open in the viewer").get_attribute("href")))
    page.get_by_text("Confirm and hide").click(timeout=90_000)
    page.wait_for_function(LOADED, timeout=90_000)
    assert page.evaluate(VOXELS) == {"Brain": [int(inside.sum()), *_middle(inside)]}
    page.wait_for_function(f"() => {{ {VIEWPORT} return viewport }}", timeout=30_000)
    page.locator("[data-cy=side-panel-header-right]").click()
    expect(page.locator("body")).to_contain_text("Brain")
    page.evaluate(
        f"n => {{ {VIEWPORT} viewport.resetCamera(); return viewport.setImageIdIndex(n); }}", round(_middle(inside)[2])
    )
    page.wait_for_timeout(3000)
    _, rows, columns = (slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(inside))
    shown = np.asarray(Image.open(BytesIO(page.screenshot())).convert("RGB")).astype(int)
    for column, row, coloured in _probes(rows, columns):
        x, y = (round(v) for v in page.evaluate(ON_SCREEN, [column, row]))
        here = shown[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
        assert (here.max() - here.min() > 25) == coloured, f"column {column}, row {row} is drawn {here}"
    assert [fault for fault in person.faults if REPLACED not in fault] == []


@pytest.mark.slow
def test_the_viewer_opens_the_report_at_what_it_measures(place: Place) -> None:
    state_of(place.person(), place.study("first"), "done")
    person = place.person()
    page = person.go(f"/studies/{place.study('first')}")
    page.goto(place.base + str(page.get_by_role("link", name="Open in the viewer").get_attribute("href")))
    page.get_by_text("Confirm and hide").click(timeout=90_000)
    page.wait_for_function(LOADED, timeout=90_000)
    page.wait_for_function(f"() => {{ {VIEWPORT} return viewport }}", timeout=30_000)
    page.evaluate(SHOW_REPORT)
    expect(page.locator("svg text", has_text="Volume: ")).to_be_visible(timeout=30_000)
    assert [fault for fault in person.faults if REPLACED not in fault] == []


def _probes(rows: slice, columns: slice) -> Iterator[tuple[int, int, bool]]:
    """Column, row and whether a pixel is in the segment: two pixels inside and outside of each edge, and the middle."""
    middle = ((columns.start + columns.stop) // 2, (rows.start + rows.stop) // 2)
    yield *middle, True
    for column, inside in [
        (columns.start + 1, True),
        (columns.stop - 2, True),
        (columns.start - 2, False),
        (columns.stop + 1, False),
    ]:
        yield column, middle[1], inside
    for row, inside in [(rows.start + 1, True), (rows.stop - 2, True), (rows.start - 2, False), (rows.stop + 1, False)]:
        yield middle[0], row, inside


def _middle(inside: np.ndarray) -> list[float]:
    """Column, row and slice of the middle."""
    return [float(axis.mean()) for axis in np.nonzero(inside)[::-1]]


REPLACED = "The stack viewport has been destroyed and is no longer usable"
"""OHIF mounts its viewport anew when the segmentation arrives. Where images are slow, what was still to be drawn in the
one before it ends with this error of its own; the picture, which the test looks at, is the new one's."""
LOADED = "() => window.services?.segmentationService?.getSegmentations?.().length > 0"
VOXELS = """() => {
  const [segmentation] = window.services.segmentationService.getSegmentations();
  const sums = {};
  const images = window.cornerstoneTools.segmentation.state.getSegmentations()[0].representationData.Labelmap.imageIds;
  images.forEach((id, slice) => {
    const image = window.cornerstone.cache.getImage(id);
    const columns = image.columns ?? image.width;
    image.getPixelData().forEach((label, index) => {
      if (!label) return;
      const sum = (sums[segmentation.segments[label].label] ??= [0, 0, 0, 0]);
      sum[0] += 1; sum[1] += index % columns; sum[2] += Math.floor(index / columns); sum[3] += slice;
    });
  });
  return Object.fromEntries(Object.entries(sums).map(([name, [n, x, y, z]]) => [name, [n, x / n, y / n, z / n]]));
}"""
"""Segment name -> voxels, and their mean column, row and slice, as the viewer holds them."""
VIEWPORT = """
  const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(
    window.services.viewportGridService.getActiveViewportId());
"""
SHOW_REPORT = """() => {
  const { displaySetService, viewportGridService } = window.services;
  const report = displaySetService.getActiveDisplaySets().find(each => each.Modality === "SR");
  viewportGridService.setDisplaySetsForViewport({
    viewportId: viewportGridService.getActiveViewportId(), displaySetInstanceUIDs: [report.displaySetInstanceUID],
  });
}"""
"""As a double click on the report in the list of series does."""
ON_SCREEN = f"""([column, row]) => {{
  {VIEWPORT}
  const {{ origin, spacing }} = viewport.getImageData();
  const box = viewport.element.getBoundingClientRect();
  const [x, y] = viewport.worldToCanvas([origin[0] + column * spacing[0], origin[1] + row * spacing[1], origin[2]]);
  return [box.x + x, box.y + y];
}}"""
"""Where the middle of a pixel of the shown axial slice is on the page."""


def test_a_phone_in_the_dark_needs_no_sideways_scrolling(place: Place) -> None:
    person = place.person("administrator", color_scheme="dark")
    person.page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/", "/studies", f"/studies/{place.study('first')}", "/rules", "/models", "/audit"):
        page = person.go(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_the_keyboard_reaches_everything(place: Place) -> None:
    person = place.person()
    person.go("/")
    person.page.keyboard.press("s")
    person.page.wait_for_url("**/studies")
    person.page.keyboard.press("/")
    person.page.keyboard.type(PLANTED["accession"])
    person.page.keyboard.press("Enter")
    expect(person.page.locator("main tbody tr").first).to_be_visible()
