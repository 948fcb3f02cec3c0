"""Which routes read a study, which of its series they take, and why: pure, and explained in words.

``Rules`` compiles every condition of medai.toml at the start and refuses a wrong one with its place. ``match`` gives a
verdict for each route that was considered; its reason holds series numbers and code words, never an identifier.
Next: conditions.py (how a condition is decided), docs/routes.md (how one is written), daemon/loop.py (who asks).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from medai.router.contract import NOT_IMAGES, SCATTERED, Order, Priority, SeriesFacts, SeriesUID, StudyFacts
from medai.router.routing.condition_values import Items, Record, code_word
from medai.router.routing.conditions import Condition
from medai.router.settings.routes import RouteSettings, SeriesSettings

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture Image Storage; its multi-frame forms continue with ``.1`` to ``.4`` (PS3.4 B.5)."""
SLICED = ("CT", "MR", "PT")
"""Modalities of which one image alone is a slice of something."""
ASKED_FOR = "a workitem asks for it"
"""How a reason begins where a route reads a study by request; what follows is how that came out."""
LISTED = 12
"""Excluded series that a reason names one by one."""


@dataclass(frozen=True, kw_only=True)
class SeriesVerdict:
    """Whether a route takes one series (``label``: "series 3"), and why."""

    label: str
    orthanc_id: str
    qualifies: bool
    taken: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class SeriesChoice:
    """The series that a route takes of a study, explained; ``considered`` tells of each of them."""

    series: tuple[SeriesFacts, ...]
    reason: str
    considered: tuple[SeriesVerdict, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RouteVerdict:
    """What one route makes of a study. ``choices`` holds the series to read, in order; empty where not matched."""

    route: str
    matched: bool
    reason: str
    choices: tuple[SeriesFacts, ...] = ()
    considered: tuple[SeriesVerdict, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Route:
    settings: RouteSettings
    when: Condition
    where: Condition


class Rules:
    """Every route of the configuration, compiled.

    Raises SettingsError that names the route, the expression and the column of the first fault.
    """

    def __init__(self, routes: Sequence[RouteSettings], routing: Literal["first", "all"]) -> None:
        self._routing = routing
        self._routes = tuple(_compile(route) for route in routes)

    def match(self, study: StudyFacts, asked: Collection[str] = ()) -> tuple[RouteVerdict, ...]:
        """One verdict for each route considered, in their order.

        With routing ``first`` nothing is considered after the first route that takes a series. Routes that are
        ``asked`` for by name, for this study, come after those that their conditions choose, whatever their own say.
        """
        view = _View(study)
        chosen = self._by_conditions(view)
        done = {verdict.route for verdict in chosen if verdict.matched}
        extra = [route for route in self._routes if route.settings.name in asked and route.settings.name not in done]
        replaced = {route.settings.name for route in extra}
        kept = [verdict for verdict in chosen if verdict.route not in replaced]
        return (*kept, *(_asked(route, view) for route in extra))

    def _by_conditions(self, view: _View) -> list[RouteVerdict]:
        verdicts: list[RouteVerdict] = []
        for route in self._routes:
            verdicts.append(_consider(route, view))
            if verdicts[-1].matched and self._routing == "first":
                break
        return verdicts

    def priority(self, route: RouteSettings, study: StudyFacts) -> Priority:
        """The route's own priority, or for ``order`` the more urgent of the order's and the images' own.

        The images carry it as Requested Procedure Priority (0040,1003) or Study Priority ID (0032,000C).
        """
        if route.priority != "order":
            return Priority[route.priority.upper()]
        sources: list[Mapping[str, Any]] = [study.attributes, *(series.attributes for series in study.series)]
        words = [source.get(name) for source in sources for name in ("RequestedProcedurePriority", "StudyPriorityID")]
        asked = [Priority.parse(word) for word in words if isinstance(word, str) and word.strip()]
        if study.order is not None:
            asked.append(study.order.priority)
        return min(asked, default=Priority.ROUTINE)


class _View:
    """A study as conditions see it; made once and read by every route."""

    def __init__(self, study: StudyFacts) -> None:
        self.series = sorted(study.series, key=_order_of)
        order = {"Order": _order_record(study.order)} if study.order else {}
        self.study = Record({**study.attributes, **order}, path="study")
        self.records = {s.series_uid: Record(s.attributes, path="", where=label(s)) for s in self.series}
        self.scattered = _scattered(self.series)
        self.scope = {"study": self.study, "series": Items([self.records[s.series_uid] for s in self.series])}


def _scattered(series: Sequence[SeriesFacts]) -> dict[SeriesUID, str]:
    """Slices of a volume whose writer gave each a series of its own, with the words for it."""
    alone = [s for s in series if slices(s) == 1 and s.attributes.get("Modality") in SLICED]
    counts = Counter(label(s) for s in alone)
    return {
        s.series_uid: f"one of {counts[label(s)]} slices that are each a series of their own"
        for s in alone
        if counts[label(s)] >= SCATTERED
    }


def _order_record(order: Order) -> dict[str, Any]:
    """``study.Order``: what a condition may ask of the order."""
    code, text, system = order.procedure
    return {
        "Priority": order.priority.name.lower(),
        "ProcedureCode": code,
        "ProcedureText": text,
        "ProcedureSystem": system,
        "Modality": order.modality,
    }


def _compile(route: RouteSettings) -> _Route:
    place = f"routes.{route.name}"
    return _Route(
        settings=route,
        when=Condition(route.when, names=frozenset({"study", "series"}), place=f"{place}.when"),
        where=Condition(route.series.where, names=frozenset({"study", "s"}), place=f"{place}.series.where"),
    )


def _consider(route: _Route, view: _View) -> RouteVerdict:
    name = route.settings.name
    outcome = route.when.test(view.scope)
    if not outcome.value:
        return RouteVerdict(route=name, matched=False, reason=outcome.reason)
    return _taken(route, view, outcome.reason)


def _taken(route: _Route, view: _View, why: str) -> RouteVerdict:
    """A route that shall read the study, where it finds a series in it."""
    name = route.settings.name
    choice = _choose(route, view)
    if not choice.series:
        return RouteVerdict(route=name, matched=False, reason=choice.reason, considered=choice.considered)
    reason = f"{why}; {choice.reason}"
    return RouteVerdict(route=name, matched=True, reason=reason, choices=choice.series, considered=choice.considered)


def _asked(route: _Route, view: _View) -> RouteVerdict:
    found = _taken(route, view, ASKED_FOR)
    return found if found.matched else replace(found, reason=f"{ASKED_FOR}; {found.reason}")


def _choose(route: _Route, view: _View) -> SeriesChoice:
    settings = route.settings.series
    why_not = {s.series_uid: view.scattered.get(s.series_uid) or _exclusion(s, route, view) for s in view.series}
    fit = [s for s in view.series if not why_not[s.series_uid]]
    excluded = [f"{label(s)}: {why_not[s.series_uid]}" for s in view.series if why_not[s.series_uid]]
    if not fit:
        return SeriesChoice(series=(), reason=_nothing(excluded), considered=_verdicts(view, why_not, [], ""))
    ranked = sorted(fit, key=lambda s: (PREFERENCES[settings.prefer][0](s), _order_of(s)))
    taken = ranked if settings.take == "all" else ranked[:1]
    chosen = _explain(taken, fit, settings)
    reason = "; ".join([chosen, *(["excluded: " + _listed(excluded)] if excluded else [])])
    return SeriesChoice(series=tuple(taken), reason=reason, considered=_verdicts(view, why_not, taken, chosen))


def _nothing(excluded: Sequence[str]) -> str:
    return f"no series qualifies: {_listed(excluded)}" if excluded else "no series qualifies: the study has none"


def _listed(excluded: Sequence[str]) -> str:
    more = [f"and {len(excluded) - LISTED} more"] if len(excluded) > LISTED else []
    return "; ".join([*excluded[:LISTED], *more])


def _explain(taken: Sequence[SeriesFacts], fit: Sequence[SeriesFacts], settings: SeriesSettings) -> str:
    name, best = label(taken[0]), PREFERENCES[settings.prefer][1](taken[0])
    if len(fit) == 1:
        return f"{name} is the only one that qualifies ({_slice_count(taken[0])})"
    if settings.take == "all":
        return f"all {len(taken)} series that qualify: {', '.join(label(s).removeprefix('series ') for s in taken)}"
    first = PREFERENCES[settings.prefer][0]
    ties = sum(first(s) == first(taken[0]) for s in fit)
    tie = "; the first of those that are equal" if ties > 1 else ""
    return f"{name} of {len(fit)} that qualify: {best}{tie}"


def _verdicts(
    view: _View, why_not: Mapping[SeriesUID, str], taken: Sequence[SeriesFacts], chosen: str
) -> tuple[SeriesVerdict, ...]:
    uids = {s.series_uid for s in taken}
    return tuple(
        SeriesVerdict(
            label=label(s),
            orthanc_id=s.orthanc_id,
            qualifies=not why_not[s.series_uid],
            taken=s.series_uid in uids,
            reason=why_not[s.series_uid] or (chosen if s.series_uid in uids else f"qualifies; {chosen}"),
        )
        for s in view.series
    )


# -- one series


def label(series: SeriesFacts) -> str:
    """How a reason names a series: by its number, which identifies nobody."""
    number = series.attributes.get("SeriesNumber")
    return f"series {number}" if isinstance(number, int) else "a series without a number"


def _order_of(series: SeriesFacts) -> tuple[float, str]:
    number = series.attributes.get("SeriesNumber")
    return (number if isinstance(number, int) else math.inf, series.series_uid)


def _exclusion(series: SeriesFacts, route: _Route, view: _View) -> str:
    """Why a route can't take a series; empty where it can."""
    for check in (_kind, _image_type, _orientation, _slices, _thickness):
        reason = check(series, route.settings.series)
        if reason:
            return reason
    outcome = route.where.test({"study": view.study, "s": view.records[series.series_uid]})
    return "" if outcome.value else outcome.reason


def _kind(series: SeriesFacts, settings: SeriesSettings) -> str:
    modality = series.attributes.get("Modality", "")
    sop_class = str(series.attributes.get("SOPClassUID", ""))
    if settings.modality and modality not in settings.modality:
        return f"modality {code_word(modality)}, {_either(settings.modality)} wanted"
    if modality in NOT_IMAGES and not settings.modality:
        return f"modality {code_word(modality)}: nothing that a model reads"
    if sop_class == SECONDARY_CAPTURE or sop_class.startswith(f"{SECONDARY_CAPTURE}."):
        return "secondary captures"
    return ""


def _image_type(series: SeriesFacts, settings: SeriesSettings) -> str:
    value = series.attributes.get("ImageType", ())
    values = [str(item).upper() for item in (value if isinstance(value, tuple | list) else (value,))]
    found = next((word for word in settings.image_type_excludes if any(word.upper() in item for item in values)), None)
    return f"Image Type has {found}" if found else ""


def _orientation(series: SeriesFacts, settings: SeriesSettings) -> str:
    plane = series.attributes.get("Orientation") or "unknown"
    if not settings.orientation or plane in settings.orientation:
        return ""
    return f"orientation {code_word(plane)}, {_either(settings.orientation)} wanted"


def _slices(series: SeriesFacts, settings: SeriesSettings) -> str:
    count = slices(series)
    if count < settings.slices_min:
        return f"{_slice_count(series)}, at least {settings.slices_min} wanted"
    return f"{_slice_count(series)}, at most {settings.slices_max} wanted" if count > settings.slices_max else ""


def _thickness(series: SeriesFacts, settings: SeriesSettings) -> str:
    limits = (settings.thickness_min_mm, settings.thickness_max_mm)
    standard = (
        SeriesSettings.model_fields["thickness_min_mm"].default,
        SeriesSettings.model_fields["thickness_max_mm"].default,
    )
    if limits == standard:
        return ""
    low_mm, high_mm = limits
    thick_mm = thickness_mm(series)
    if thick_mm is None:
        return f"slice thickness not given, {low_mm:g} to {high_mm:g} mm wanted"
    if thick_mm < low_mm:
        return f"slices are {thick_mm:g} mm thick, at least {low_mm:g} mm wanted"
    return f"slices are {thick_mm:g} mm thick, at most {high_mm:g} mm wanted" if thick_mm > high_mm else ""


def slices(series: SeriesFacts) -> int:
    """Images of a series; a multi-frame object counts with its frames."""
    frames = series.attributes.get("NumberOfFrames")
    return series.instances * (frames if isinstance(frames, int) and frames > 1 else 1)


def thickness_mm(series: SeriesFacts) -> float | None:
    """Slice Thickness (0018,0050), or None where it is absent or not a number."""
    value = series.attributes.get("SliceThickness")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _slice_count(series: SeriesFacts) -> str:
    return "1 slice" if slices(series) == 1 else f"{slices(series)} slices"


def _either(words: Iterable[str]) -> str:
    return " or ".join(words)


def _thinness(series: SeriesFacts) -> float:
    thick_mm = thickness_mm(series)
    return math.inf if thick_mm is None else thick_mm


PREFERENCES: Mapping[str, tuple[Callable[[SeriesFacts], float], Callable[[SeriesFacts], str]]] = {
    "most_slices": (lambda s: -slices(s), lambda s: f"most slices ({slices(s)})"),
    "thinnest": (_thinness, lambda s: f"thinnest slices ({_thinness(s):g} mm)" if _thinness(s) < math.inf else "first"),
    "first": (lambda s: _order_of(s)[0], lambda _: "the lowest series number"),
}
"""``prefer`` -> (what is least for the best series, how the choice is worded). Ties go by series number, then UID."""
