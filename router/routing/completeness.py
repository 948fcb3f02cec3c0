"""When a study counts as complete, for one route: a pure function of what was seen, the time and the policy.

A list of what there is (MPPS, IAN) wins over counts, and counts that the study announces win over the clock; a quiet
period decides where nothing is announced. A decision to WAIT says exactly when to look again.
Next: rules.py (which route takes the study), daemon/loop.py (who asks).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from medai.router.contract import Decision, Verdict
from medai.router.settings.routes import CompletenessSettings

MPPS, IAN = "mpps", "ian"


@dataclass(frozen=True, kw_only=True)
class Announced:
    """What scanner and archives said of a study by name, and when they last did (seconds since the epoch)."""

    instances: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    """Who said it (``mpps`` or ``ian``) -> SOP Instance UIDs that there are."""
    open_steps: int = 0
    """Performed procedure steps that are in progress."""
    said_at: float = 0.0


NOTHING = Announced()


@dataclass(frozen=True, kw_only=True)
class SeriesProgress:
    """How much of one series has come. ``expected``: DICOM keyword -> announced number of images."""

    series_uid: str
    instances: int
    last_instance_at: float
    expected: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """How much of one study has come; times are seconds since the epoch.

    ``expected``: what announced it (a DICOM keyword, ``order`` or ``mpps``) -> number of images of the whole study.
    """

    instances: int
    first_instance_at: float
    last_instance_at: float
    expected: Mapping[str, int]
    series: tuple[SeriesProgress, ...] = ()
    announced: Announced = NOTHING
    present: frozenset[str] | None = None
    """SOP Instance UIDs that are here. None: nobody looked, and each image counts as one of those that were announced,
    which can make a study complete that is not, and never the other way round."""


def decide(study: StudyProgress, now: float, policy: CompletenessSettings) -> Decision:
    """COMPLETE, or WAIT with the moment to look again, or SKIP for a study that stays without images.

    Of several trusted counts the largest is the one to reach. A count that is not reached holds the study until
    ``max_wait_s`` (at least ``quiet_s``) after the last image; then it goes on with what is there. So does a list with
    something missing; a step in progress holds it until ``max_step_s``.
    """
    if study.instances <= 0:
        return _empty(study, now, policy)
    if _clock_went_back(study, now, policy):
        return _complete("the clock went back since the last image: the wait cannot be measured")
    promise = _promise(study, policy)
    if promise is not None:
        return _promised(study, promise, now, policy)
    announced = _trusted(study.expected, policy)
    if announced and study.instances >= announced:
        return _complete(
            f"all {announced} announced images are here" if announced > 1 else "the one announced image is here"
        )
    short = f"{study.instances} of {announced} announced images" if announced else _short_series(study.series, policy)
    if short:
        return _short(study, short, now, policy)
    return _quiet(study, now, policy)


@dataclass(frozen=True, kw_only=True)
class _Promise:
    """What a route trusts of what was announced by name: how much of it is here, and from when on it is waited."""

    instances: int
    here: int
    open: bool
    since: float


def _promise(study: StudyProgress, policy: CompletenessSettings) -> _Promise | None:
    said = study.announced
    trusted = (sops for name, sops in said.instances.items() if name in policy.expect)
    named: frozenset[str] = frozenset().union(*trusted)
    in_progress = said.open_steps > 0 and MPPS in policy.expect
    if not named and not in_progress:
        return None
    here = min(len(named), study.instances) if study.present is None else len(named & study.present)
    since = max(study.last_instance_at, said.said_at)
    return _Promise(instances=len(named), here=here, open=in_progress, since=since)


def _promised(study: StudyProgress, promise: _Promise, now: float, policy: CompletenessSettings) -> Decision:
    wait_s = max(policy.max_wait_s, policy.quiet_s)
    short = f"{promise.here} of {promise.instances} announced objects"
    if promise.open:
        wait_s = max(policy.max_step_s, wait_s)
        what = short if promise.here < promise.instances else _images(study.instances)
        if now < promise.since + wait_s:
            return _wait(f"the scanner has not ended its procedure step; {what} here", promise.since + wait_s)
        return _complete(
            f"the scanner's procedure step was still in progress after {wait_s:.1f} s without a new image: "
            f"going on with what is here ({what})"
        )
    if promise.here >= promise.instances:
        all_of_them = f"all {promise.instances} announced objects are here"
        return _complete(all_of_them if promise.instances > 1 else "the one announced object is here")
    if now < promise.since + wait_s:
        return _wait(f"{short} are here", promise.since + wait_s)
    return _complete(f"only {short} came, and no new image for {wait_s:.1f} s: going on with what is here")


def _trusted(expected: Mapping[str, int], policy: CompletenessSettings) -> int:
    return max((count for name, count in expected.items() if name in policy.expect and count > 0), default=0)


def _short_series(series: Iterable[SeriesProgress], policy: CompletenessSettings) -> str:
    """What is missing of the series whose counts are not reached; empty where none is short."""
    counts = [(item.instances, _trusted(item.expected, policy)) for item in series]
    short = [(here, announced) for here, announced in counts if here < announced]
    if not short:
        return ""
    here, announced = (sum(column) for column in zip(*short, strict=True))
    which = "the only series" if len(counts) == 1 else f"{len(short)} of {len(counts)} series"
    return f"{here} of {announced} announced images of {which}"


def _short(study: StudyProgress, what: str, now: float, policy: CompletenessSettings) -> Decision:
    wait_s = max(policy.max_wait_s, policy.quiet_s)
    due_at = study.last_instance_at + wait_s
    if now < due_at:
        return _wait(f"{what} are here", due_at)
    return _complete(f"only {what} came, and no new image for {wait_s:.1f} s: going on with what is here")


def _quiet(study: StudyProgress, now: float, policy: CompletenessSettings) -> Decision:
    due_at = study.last_instance_at + policy.quiet_s
    if now < due_at:
        return _wait(
            f"{_images(study.instances)} here; complete after {policy.quiet_s:.1f} s without a new one", due_at
        )
    return _complete(f"no new image for {policy.quiet_s:.1f} s; {_images(study.instances)} here")


def _empty(study: StudyProgress, now: float, policy: CompletenessSettings) -> Decision:
    wait_s = max(policy.max_wait_s, policy.quiet_s)
    due_at = study.first_instance_at + wait_s
    if now < due_at and not _clock_went_back(study, now, policy):
        return _wait("no image of this study is here yet", due_at)
    return Decision(verdict=Verdict.SKIP, reason=f"no image of this study came within {wait_s:.1f} s")


def _clock_went_back(study: StudyProgress, now: float, policy: CompletenessSettings) -> bool:
    """True when the last image lies further in the future than any wait: a stepped clock, not a slow sender.

    Without this a study would wait as long as the clock's step; a smaller step merely adds itself to the wait.
    """
    latest = max(study.first_instance_at, study.last_instance_at, study.announced.said_at)
    return latest - now > policy.quiet_s + policy.max_wait_s + 1.0


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _wait(reason: str, due_at: float) -> Decision:
    return Decision(verdict=Verdict.WAIT, reason=reason, due_at=due_at)


def _complete(reason: str) -> Decision:
    return Decision(verdict=Verdict.COMPLETE, reason=reason)
