"""The live screen of ``medai top``: a thread asks the ledger, this one draws and listens for q.

A ledger that does not answer is told in a line above what was known last, and asked again. Next: top.py.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from medai.router.cli.top import TopPage, Trouble, draw
from medai.router.errors import MedaiError

LISTEN_S = 0.1
"""How long a key, or another size of the terminal, may go unnoticed."""


class Watcher:
    """Asks again and again, in a thread of its own, so that a ledger that hangs does not hold the keys up."""

    def __init__(self, ask: Callable[[], TopPage], every_s: float) -> None:
        self._ask = ask
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)
        self.content: TopPage | None = None
        self.trouble: Trouble | None = None
        self.broken: BaseException | None = None
        self.round = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the question that is under way, which nobody waits for."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.once()
            if self.broken is not None or self._stop.wait(self._every_s):
                return

    def once(self) -> None:
        """One question."""
        try:
            self.content = self._ask()
            self.trouble = None
        except MedaiError as error:
            since = self.trouble.since if self.trouble else time.time()
            self.trouble = Trouble(reason=str(error), since=since, every_s=self._every_s)
        except Exception as error:  # noqa: BLE001 - handed to the thread that draws, which raises it
            self.broken = error
        self.round += 1


def run(ask: Callable[[], TopPage], *, every_s: float, console: Console | None = None) -> int:
    """Until q, Ctrl-C or the end of the terminal; 0."""
    console = console or Console()
    watcher = Watcher(ask, every_s)
    watcher.start()
    drawn: tuple[int, int, int] | None = None
    try:
        with keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            while watcher.broken is None:
                width, height = console.size
                if drawn != (watcher.round, width, height):
                    drawn = (watcher.round, width, height)
                    live.update(
                        draw(watcher.content, time.time(), height=height, trouble=watcher.trouble), refresh=True
                    )
                if pressed() in ("q", "Q", "\x03", "\x04"):
                    return 0
    except KeyboardInterrupt:
        return 0
    finally:
        watcher.stop()
    raise watcher.broken


def _only_wait() -> str:
    time.sleep(LISTEN_S)
    return ""


@contextmanager
def keys() -> Iterator[Callable[[], str]]:
    """A function that waits LISTEN_S for a key; without a keyboard it only waits."""
    if not sys.stdin.isatty():
        yield _only_wait
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed() -> str:
        if not select.select([number], [], [], LISTEN_S)[0]:
            return ""
        return os.read(number, 1).decode(errors="replace") or "q"  # nothing to read: the terminal is gone

    try:
        tty.setcbreak(number)
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
