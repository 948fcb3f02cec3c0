"""Try routes on a study before they are in force: which route takes which series, and why.

Somebody else's conditions are bounded in work, all of a test together, and few are tried at once: a test takes a
second, and nobody else waits for it. Conditions see nothing that identifies (routing/identifying.py).
Next: routing/rules.py (what decides), intake/facts.py (what a study is to it).
"""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from medai.router.console.requests import MadeUp, RuleTest
from medai.router.console.responses import RouteVerdict, SeriesVerdict
from medai.router.contract import OrthancId, SeriesFacts, SeriesUID, StudyFacts, StudyUID
from medai.router.errors import MedaiError, SettingsError
from medai.router.intake.facts import FactsReader
from medai.router.ledger import Ledger
from medai.router.orthanc.client import Orthanc
from medai.router.reports.story import study
from medai.router.routing.condition_values import ALLOWANCE, Allowance
from medai.router.routing.rules import Rules
from medai.router.settings.tables import Settings

ROUTES_MAX = 50
WORK = 3000.0
"""All conditions of one test together, in elements looked at (routing/condition_values.py): about 1 s."""
AT_ONCE = 2
_running = threading.BoundedSemaphore(AT_ONCE)


class RuleTestFault(MedaiError):
    """A test that can't be made; the text says why."""


class RuleTestBusy(MedaiError):
    """Others try rules at this moment."""


def run(test: RuleTest, settings: Settings, ledger: Ledger, orthanc: Orthanc) -> list[RouteVerdict]:
    """A verdict for each route considered, in their order.

    Raises RuleTestFault, SettingsError for a wrong route, RuleTestBusy while others try theirs.
    """
    with _one_of_few():
        tried = settings if test.routes is None else _with_routes(settings, test.routes)
        facts = _study(test, ledger, orthanc)
        return _verdicts(Rules(tried.routes, tried.routing), facts)


@contextmanager
def _one_of_few() -> Iterator[None]:
    """Who finds no place is told so at once: whoever waits here holds a thread that others need."""
    if not _running.acquire(blocking=False):
        raise RuleTestBusy("others are trying rules: try again in a few seconds")
    token = ALLOWANCE.set(Allowance(left=WORK))
    try:
        yield
    finally:
        ALLOWANCE.reset(token)
        _running.release()


def _verdicts(rules: Rules, facts: StudyFacts) -> list[RouteVerdict]:
    return [
        RouteVerdict(
            route=verdict.route,
            matched=verdict.matched,
            reason=verdict.reason,
            series=tuple(
                SeriesVerdict(series=each.label, qualifies=each.qualifies, taken=each.taken, reason=each.reason)
                for each in verdict.considered
            ),
        )
        for verdict in rules.match(facts)
    ]


def _with_routes(settings: Settings, text: str) -> Settings:
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleTestFault(f"the routes are not valid TOML: {error}") from error
    except RecursionError as error:
        raise RuleTestFault("the routes are nested too deeply") from error
    unknown = sorted(set(given) - {"routes", "routing"})
    if unknown:
        raise RuleTestFault(f"only [[routes]] and routing belong here, not {unknown[0]!r}")
    if isinstance(routes := given.get("routes"), list) and len(routes) > ROUTES_MAX:
        raise RuleTestFault(f"{len(routes)} routes, at most {ROUTES_MAX} are tried at once")
    kept = {"destinations": settings.destinations, "routing": settings.routing}
    try:
        return Settings.model_validate({**kept, **given})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "routes"
        raise SettingsError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error


def _study(test: RuleTest, ledger: Ledger, orthanc: Orthanc) -> StudyFacts:
    if (test.study_id is None) == (test.study is None):
        raise RuleTestFault("give either study_id or study")
    if test.study is not None:
        return _made_up(test.study)
    known = study(ledger, int(test.study_id or 0))
    if known is None:
        raise RuleTestFault("there is no such study")
    view = FactsReader(
        orthanc, ledger.orders, ledger.identities, ledger.deliveries,
        released=lambda _uid, doubt: ledger.held.is_released(doubt),
    ).read(known.orthanc_id)  # fmt: skip
    if view is None:
        raise RuleTestFault("the study is no longer in the archive")
    return view.facts


def _made_up(study: MadeUp) -> StudyFacts:
    made = tuple(
        SeriesFacts(
            series_uid=SeriesUID(f"series-{number}"),
            orthanc_id=OrthancId(f"series-{number}"),
            instances=_count(each.get("NumberOfInstances", 1)),
            attributes={"SeriesNumber": number, "NumberOfInstances": 1, **each},
        )
        for number, each in enumerate(study.series, start=1)
    )
    return StudyFacts(
        study_uid=StudyUID("1.2.3"), orthanc_id=OrthancId("made-up"), attributes=study.attributes, series=made
    )


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise RuleTestFault("NumberOfInstances is a whole number")
    return value
