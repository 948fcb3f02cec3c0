"""Pictures of every page of the console, for docs/console.md, taken of a running system.

./medai demo --keep --dir /tmp/site
PYTHONPATH=tests .venv/bin/python tests/screenshots.py --dir /tmp/site --out docs/images/console
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from browser import PASSWORD, Person, chromium
from playwright.sync_api import Browser, Page, expect

from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.onebox.site import Site
from medai.router.reports import search
from medai.router.settings.load import load

ACCOUNT = "pictures"
ROUTES = """[[routes]]
name = "thin-t1"
model = "mr_hippocampus"
when = 'study.Modality == "MR"'
[routes.series]
thickness_max_mm = 1.2
"""


def opened(title: str) -> Callable[[Page], None]:
    """A part of a study's page, unfolded and scrolled to."""

    def do(page: Page) -> None:
        summary = page.get_by_text(title).first
        summary.click()
        page.wait_for_timeout(6000)
        summary.evaluate("e => e.scrollIntoView()")

    return do


def tried(page: Page) -> None:
    """The rule tester's answer."""
    page.locator("select[name=study_id]").select_option(index=1)
    page.fill("[name=routes]", ROUTES)
    page.get_by_role("button", name="Try").click()
    expect(page.locator("#verdicts .card").first).to_be_visible()
    page.locator("#verdicts").evaluate("e => e.scrollIntoView({block: 'end'})")


def segmented(page: Page) -> None:
    """The viewer, when it has drawn the segments, at a slice that shows all of them."""
    page.get_by_text("Confirm and hide").click(timeout=120_000)
    page.wait_for_function(
        "() => window.services?.segmentationService?.getSegmentations?.().length > 0", timeout=120_000
    )
    page.locator("[data-cy=side-panel-header-right]").click()
    page.wait_for_timeout(2000)
    page.evaluate(BEST_SLICE)
    page.wait_for_timeout(4000)


BEST_SLICE = """() => {
  const images = window.cornerstoneTools.segmentation.state.getSegmentations()[0].representationData.Labelmap.imageIds;
  const found = images.map((id) => new Set(window.cornerstone.cache.getImage(id).getPixelData()).size);
  const most = Math.max(...found);
  const best = found.flatMap((n, i) => (n === most ? [i] : []));
  const services = window.services;
  const viewport = services.cornerstoneViewportService.getCornerstoneViewport(services.viewportGridService.getActiveViewportId());
  viewport.resetCamera();
  const wanted = images[best[best.length >> 1]];
  const image = window.cornerstone.cache.getImage(wanted).referencedImageId;
  viewport.setImageIdIndex(viewport.getImageIds().indexOf(image));
}"""


def take(browser: Browser, base: str, study: int, job: str, out: Path) -> None:
    """Every page, one file each."""
    dark = {"color_scheme": "dark"}
    shots: list[tuple[str, str, Callable[[Page], None] | None, dict[str, object]]] = [
        ("now", "/", None, {}),
        ("studies", "/studies", None, {}),
        ("study", f"/studies/{study}", None, {}),
        ("slices", f"/studies/{study}", opened("Slices with outlines"), {}),
        ("report", f"/studies/{study}", opened("Structured report"), {}),
        ("messages", f"/studies/{study}", opened("Messages and replies"), {}),
        ("rules", "/rules", tried, {}),
        ("models", "/models", None, {}),
        ("model", "/models/mr_hippocampus", None, {}),
        ("agreement", "/agreement", None, {}),
        ("surveys", "/surveys", None, {}),
        ("audit", "/audit", None, {}),
        ("dark", "/", None, dark),
        ("phone", f"/studies/{study}", None, {**dark, "width": 390}),
        ("viewer", f"/readings/{job}/viewer", segmented, {}),
    ]
    for number, (name, path, act, how) in enumerate(shots, start=1):
        print(f"[{number:2}/{len(shots)}] {name}", file=sys.stderr)
        width = int(str(how.pop("width", 1280)))
        person = Person.at(browser, base, ACCOUNT, **how)
        person.page.set_viewport_size({"width": width, "height": 860})
        page = person.go(path)
        page.wait_for_timeout(800)
        if act:
            act(page)
        page.screenshot(path=out / f"{name}.png")
        page.context.close()


def main() -> None:
    """Log in to a running system with an account of its own, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dir", type=Path, required=True, help="a system that 'medai up' or 'medai demo --keep' started"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    site = Site.load(options.dir)
    ledger = Ledger(load(str(site.config)).ledger.url)
    studies = [s for s in search.find(ledger, search.Search(), limit=50).studies if s.readings]
    if not studies:
        sys.exit(f"nothing was read in {options.dir} yet: send it a study first")
    if not any(account.name == ACCOUNT for account in ledger.accounts.listed()):
        ledger.accounts.add(ACCOUNT, PASSWORD, Role.ADMINISTRATOR, time.time())
    ledger.accounts.disable(ACCOUNT, disabled=False)
    try:
        with chromium() as browser:
            take(browser, site.console_url, studies[0].id, studies[0].readings[0].job_id, options.out)
    finally:
        ledger.accounts.disable(ACCOUNT)
        ledger.close()


if __name__ == "__main__":
    main()
