"""One round on one page: send studies, strike, heal, wait until all is done, judge.

``play`` is the page. A round is the same for the same seed and number; the system it is played on goes on living.
Next: faults.py (what strikes), checks.py (what must hold).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import urllib3

from chaos import checks, studies
from chaos.checks import Violation
from chaos.ledger_view import patiently
from chaos.parts import Part
from chaos.site import Site
from chaos.studies import Sender, Study
from medai.router.errors import TemporaryError

IDLE_S = 25.0
"""When nothing is open in the ledger for this long (longer than the router's sweep and a reading take) and something is
still missing, it will not come."""
AWAY = (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TemporaryError)
"""What a part that is not back yet looks like."""


class Missed(Exception):
    """The moment of a fault never came; the text says which."""


@dataclass(kw_only=True)
class Fault:
    """One line of the table in faults.py."""

    name: str
    about: str
    strike: Callable[[Round], None]
    """Waits for its moment, strikes, heals; raises Missed."""
    prepare: Callable[[Round], None] | None = None
    tidy: Callable[[Round], None] | None = None
    limit_s: float = 90.0
    """From the heal (or the last image, if that was later) everything must be done within this time."""
    running_s: float | None = None
    """A job that was hit must run again within this time of the blow (or of the heal, for a broker)."""
    needs: str = ""
    """"sqlite" or "postgresql" where it makes sense on one of them only."""
    acks_lost: bool = True
    """Whether an acknowledgement may get lost, so that a message may rightly be sent again."""
    operator: bool = False
    """Refused for good: must be parked, and delivered after ``medai retry --all``."""


@dataclass(kw_only=True)
class Outcome:
    """What came of a round."""

    number: int
    fault: str
    lane: int
    studies: int
    struck: bool
    missed: str = ""
    violations: list[Violation] = field(default_factory=list)
    recovery_s: float = 0.0
    running_again_s: float | None = None
    seconds: float = 0.0
    fell: list[str] = field(default_factory=list)
    """Parts that ended although nobody had told them to; the supervisor started them again."""
    events: list[str] = field(default_factory=list)
    stream: list[Study] = field(default_factory=list)
    """The studies themselves, to be looked at again."""

    @property
    def ok(self) -> bool:
        """It struck, and nothing came of it."""
        return self.struck and not self.violations


class Round:
    """A round while it is played; what a fault may use."""

    def __init__(self, site: Site, *, seed: int, number: int, fault: Fault, lane: int, count: int | None) -> None:
        self.site, self.number, self.fault, self.lane = site, number, fault, lane
        self.dice = random.Random(f"{seed}/{number}/{fault.name}")  # noqa: S311 - the same again for the same seed
        self.studies = studies.plan(seed, number, count=count)
        self.began = time.time()
        self.struck_at = 0.0
        self.healed_at = 0.0
        self.hit: list[tuple[str, float]] = []
        """(job, moment): the jobs that were hit."""
        self.events: list[str] = []
        self.kept: dict[str, Any] = {}
        """What ``prepare`` and ``strike`` leave for ``tidy``."""
        self.over = threading.Event()

    def note(self, text: str) -> None:
        """For the log of a failed round."""
        self.events.append(f"{time.time() - self.began:7.2f} {text}")

    def told(self, what: str, study: Study) -> None:
        """A sender says how far it is."""
        if what == "sent" or study.sent in (1, study.slices):
            self.note(f"{study.name}: {what} {study.sent}/{study.images}")

    def part(self, name: str) -> Part:
        """A part by its name."""
        return self.site.parts[name]

    def sleep(self, seconds: float) -> None:
        """Wait, unless the round is over."""
        self.over.wait(seconds)

    def struck(self, text: str) -> None:
        """The fault has struck now."""
        self.struck_at = self.struck_at or time.time()
        self.note(f"struck: {text}")

    def healed(self, text: str = "") -> None:
        """Everything is as it should be again, now."""
        self.healed_at = time.time()
        self.note(f"healed {text}".rstrip())

    def until(self, condition: Callable[[], Any], *, what: str, within_s: float = 45.0, pause_s: float = 0.02) -> Any:
        """Wait for a moment; raises Missed."""
        until = time.monotonic() + within_s
        while time.monotonic() < until and not self.over.is_set():
            try:
                if value := condition():
                    return value
            except AWAY:
                pass  # asked while something was away
            time.sleep(pause_s)
        raise Missed(what)


def play(site: Site, *, seed: int, number: int, fault: Fault, lane: int = 0, count: int | None = None) -> Outcome:
    """The round, of ``count`` studies (3 to 5 where none is given). Never raises: what goes wrong in the harness itself is a violation, too."""
    round_ = Round(site, seed=seed, number=number, fault=fault, lane=lane, count=count)
    began = time.monotonic()
    senders: list[Sender] = []
    missed = ""
    try:
        if fault.prepare:
            fault.prepare(round_)
        senders = [Sender(site, study, round_.told) for study in round_.studies]
        for sender in senders:
            sender.start()
        missed = _strike(round_)
        violations, settled_at = _settle(round_, senders)
    except Exception as error:  # noqa: BLE001 - a broken harness must not look like a good system
        violations, settled_at = (
            [Violation(kind="stuck", study="-", text=f"the harness failed: {error!r}")],
            time.time(),
        )
    finally:
        round_.over.set()
        for sender in senders:
            sender.give_up()
    violations += _tidied(round_)
    fell = [name for part in site.parts.values() for name in part.take_falls()]
    recovery_s = max(0.0, settled_at - max([round_.healed_at, *(s.finished_at for s in round_.studies)]))
    again_s = None if missed else _running_again_s(round_)
    violations += _too_slow(fault, recovery_s, again_s, violations)
    return Outcome(
        number=number, fault=fault.name, lane=lane, studies=len(round_.studies), struck=not missed and bool(round_.struck_at),
        missed=missed, violations=violations, recovery_s=recovery_s, running_again_s=again_s,
        seconds=time.monotonic() - began, events=round_.events, stream=round_.studies, fell=fell,
    )  # fmt: skip


def _strike(round_: Round) -> str:
    """Let the fault do its work; returns what was missed."""
    try:
        round_.fault.strike(round_)
    except Missed as error:
        round_.note(f"missed: {error}")
        round_.healed()
        return str(error)
    if not round_.healed_at:
        round_.healed_at = round_.struck_at
    return ""


def _settle(round_: Round, senders: list[Sender]) -> tuple[list[Violation], float]:
    """Wait until everything sent is answered, or can't be any more; the verdict, and when it was reached."""
    deadline = time.monotonic() + studies.LATE_WAIT_S + 30
    out = _operator(round_) if round_.fault.operator else []
    for sender in senders:
        sender.join(timeout=max(0.1, deadline - time.monotonic()))
    verdict, at = wait_for_verdict(round_.site, round_.studies, within_s=max(60.0, round_.fault.limit_s + 30.0))
    if not round_.fault.acks_lost:
        verdict += [each for study in round_.studies for each in checks.repeated_after_ack(round_.site, study)]
    return out + verdict, at


def wait_for_verdict(site: Site, those: list[Study], *, within_s: float) -> tuple[list[Violation], float]:
    """Judge these studies until nothing is wrong with them, or time is up, or nothing is going on any more."""
    until = time.monotonic() + within_s
    busy_at = time.monotonic()
    left = list(those)
    found: dict[str, list[Violation]] = {}
    while True:
        for study in list(left):
            try:
                if site.view.open_work(study.uid):
                    busy_at = time.monotonic()
                    continue
                found[study.name] = checks.judge(site, study)
            except AWAY as error:
                found[study.name] = [Violation(kind="stuck", study=study.name, text=f"a part is away: {error!r}")]
                busy_at = time.monotonic()
            if not found[study.name]:
                left.remove(study)
        if not left or time.monotonic() > until or time.monotonic() - busy_at > IDLE_S:
            break
        time.sleep(0.3)
    at = time.time()
    verdict = [each for study in those for each in _last_word(site, study)]
    return verdict, at


def _last_word(site: Site, study: Study) -> list[Violation]:
    try:
        found = checks.judge(site, study)
        if any(each.kind == "lost" for each in found) and site.view.open_work(study.uid):
            return [
                Violation(kind="stuck", study=each.study, text=each.text) if each.kind == "lost" else each
                for each in found
            ]
    except AWAY as error:
        return [Violation(kind="stuck", study=study.name, text=f"a part is away: {error!r}")]
    return found


def _operator(round_: Round) -> list[Violation]:
    """A refusal for good is parked with a reason; then a person repairs the cause and sends everything again."""
    site = round_.site
    try:
        reasons = round_.until(
            lambda: [text for study in round_.studies for text in site.view.parked(study.uid)],
            what="parked",
            within_s=30,
        )
    except Missed:
        return [Violation(kind="wrong", study="-", text="what the RIS refused for good was not parked")]
    round_.note(f"parked: {reasons[0]}")
    out = [] if all(reasons) else [Violation(kind="wrong", study="-", text="a parked delivery has no reason")]
    round_.sleep(3.0)  # whatever else was refused before the heal is parked by now
    done = retry_all(site)
    round_.note(f"medai retry --all: exit {done[0]} {done[1][-200:]}")
    round_.healed("by an operator")
    return out


def retry_all(site: Site) -> tuple[int, str]:
    """ADAPTER: send again everything that was parked. Exit code and what was said."""
    done = site.operator("retry", "--all")
    return done.returncode, done.stdout + done.stderr


def _tidied(round_: Round) -> list[Violation]:
    """Everything as it was; a part that does not come up by itself is a finding, and is helped up."""
    site = round_.site
    out = []
    try:
        for link in site.proxies.values():
            link.wires.clear()
        if round_.fault.tidy:
            round_.fault.tidy(round_)
        site.wait_until_up()
    except Exception as error:  # noqa: BLE001 - see play
        out.append(Violation(kind="stuck", study="-", text=f"a part did not come back: {error}"))
        for part in site.parts.values():
            if part.wanted and not part.is_up():
                part.kill()
    return out


def _running_again_s(round_: Round) -> float | None:
    """The longest time until a job that was hit was being worked on again; None where there was none."""
    waits = []
    for job_id, at in round_.hit:
        attempts = patiently(lambda job_id=job_id: round_.site.view.attempts(job_id))  # type: ignore[misc] # bound now
        later = [float(each["started_at"]) for each in attempts if each["started_at"] > at]
        if later:
            waits.append(min(later) - at)
    return max(waits, default=None)


def _too_slow(fault: Fault, recovery_s: float, again_s: float | None, found: list[Violation]) -> list[Violation]:
    out = []
    if recovery_s > fault.limit_s and not found:
        out.append(f"everything was done {recovery_s:.0f} s after the heal; {fault.limit_s:.0f} s are allowed")
    if fault.running_s is not None and again_s is not None and again_s > fault.running_s:
        out.append(f"a job that was hit ran again after {again_s:.0f} s; {fault.running_s:.0f} s are allowed")
    return [Violation(kind="slow", study="-", text=text) for text in out]
