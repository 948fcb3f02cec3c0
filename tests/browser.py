"""Real Chromium for the tests and for the pictures of the documentation, and a console for it to look at."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright
from servers import free_port, wait_for

from medai.router.console.app import make_app
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.orthanc.client import Orthanc
from medai.router.queue.dispatch import Dispatcher
from medai.router.settings.tables import Settings

PASSWORD = "of the tests alone"
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
"""The viewer draws by WebGL, which a machine without a graphics card computes."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "Chromium is not installed: run ./medai setup --test, which installs it"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*SOFTWARE_GL, *sandbox])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def console_of(settings: Settings, ledger: Ledger) -> Iterator[str]:
    """The console as ``medai console`` serves it, in a thread of its own; yields its address."""
    port, orthanc, broker = free_port(), Orthanc(settings.orthanc), Dispatcher(settings.broker)
    probes = {"Ledger": ledger.accounts.has_any, "Orthanc": orthanc.system, "Redis": broker.ping}
    app = make_app(settings, ledger, orthanc, probes=probes, version="test")
    proxies = list(settings.console.trusted_proxies)
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, log_config=None, access_log=False, proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, what="the console")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
        orthanc.close()
        broker.close()


@dataclass
class Person:
    """Somebody at a browser who has logged in. What the page could not do is kept, to be looked at in the end."""

    page: Page
    base: str
    faults: list[str]

    @classmethod
    def at(cls, browser: Browser, base: str, name: str, password: str = PASSWORD, **context: object) -> Person:
        """Log in as a person does."""
        page = browser.new_context(viewport={"width": 1280, "height": 900}, **context).new_page()  # type: ignore[arg-type]
        person = cls(page, base, [])
        page.on("pageerror", lambda error: person.faults.append(f"{error.stack or error}"))
        page.on("request", lambda request: person.note(request.url))
        page.goto(base)
        page.fill("[name=name]", name)
        page.fill("[name=password]", password)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{base}/")
        return person

    def note(self, url: str) -> None:
        """Nothing may be fetched from elsewhere."""
        if not url.startswith((self.base, "data:", "blob:")):
            self.faults.append(f"asked for {url}")

    def go(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(self.base + path)
        return self.page

    def agree(self, *, reason: str = "") -> None:
        """Answer the question that a button asks, and wait until it is done."""
        if reason:
            self.page.fill("#ask [name=reason]", reason)
        with self.page.expect_navigation():
            self.page.click("#ask-yes")


def add_people(ledger: Ledger, now: float) -> None:
    """An account for each role of people, named as the role."""
    for role in set(Role) - {Role.SERVICE}:
        ledger.accounts.add(role.value, PASSWORD, role, now)
