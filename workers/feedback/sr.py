"""A reader's structured report beside ours: the same measurement of the same site, and what is said of the whole.

A measurement is told by its concept, its finding site with laterality, and its unit, or by the tracking identifier
that it shares with ours. Volumes are compared in ml. Next: runner.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydicom import Dataset
from pydicom.sr.coding import Code

from medai.models.images.header import items, text
from medai.router.ledger.edits import Compared
from medai.workers.feedback.seg import ADDED_LIMIT, codes

DEEPEST = 32
"""Content items nested more deeply are not looked at."""
FINDING_SITE = Code("363698007", "SCT", "")
LATERALITIES = (Code("272741003", "SCT", ""), Code("106233006", "SCT", ""))
"""Laterality and Topographical modifier, below a finding site."""
TRACKING_UID = Code("112040", "DCM", "")
VOLUME = Code("118565006", "SCT", "")
MEAN_ATTENUATION = Code("112031", "DCM", "")
QUANTITIES = ((VOLUME, "volume"), (MEAN_ATTENUATION, "mean_attenuation"))
MILLILITRES: Mapping[str, float] = {"ml": 1.0, "mL": 1.0, "cm3": 1.0, "mm3": 0.001, "l": 1000.0, "L": 1000.0}
"""UCUM units of volume -> ml."""
STATEMENTS: Mapping[str, str] = {
    **dict.fromkeys(("accept", "accepted", "agree", "agreed", "confirmed"), "accepted"),
    **dict.fromkeys(("reject", "rejected", "disagree", "disagreed", "refused"), "rejected"),
}
"""What a coded value that says no more than this word means for the whole."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a group of measurements was made, as far as the report says."""

    codes: tuple[Code, ...] = ()
    tracking: str = ""
    segment: int | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Number:
    """One measurement."""

    concept: Code
    meaning: str
    value: float
    unit: str
    site: Site

    def same(self, other: Number) -> bool:
        """Of the same thing: concept and unit, and the site or the tracking identifier."""
        if self.concept != other.concept or self.unit != other.unit:
            return False
        if self.site.tracking and self.site.tracking == other.site.tracking:
            return True
        mine, theirs = self.site.codes, other.site.codes
        return bool(mine) and len(mine) == len(theirs) and all(any(a == b for b in theirs) for a in mine)


def compare_srs(ours: Dataset, theirs: Dataset, names: Mapping[int, str]) -> list[Compared]:
    """Every measurement of both; ``names``: our segment number -> its name. Raises NotAVolume."""
    left, right = list(numbers_of(ours)), list(numbers_of(theirs))
    rows = []
    for one in list(left):
        fits = [two for two in right if one.same(two)]
        if fits:
            rows.append(_row(one, names, outcome="matched", ours=one.value, theirs=fits[0].value))
            left.remove(one)
            right.remove(fits[0])
    rows += [_row(one, names, outcome="removed", ours=one.value) for one in left]
    strange = [replace(two, site=replace(two.site, segment=None)) for two in right[:ADDED_LIMIT]]
    rows += [_row(two, names, outcome="added", theirs=two.value) for two in strange]
    return rows


def _row(
    number: Number,
    names: Mapping[int, str],
    *,
    outcome: str,
    ours: float | None = None,
    theirs: float | None = None,
) -> Compared:
    known = next((name for code, name in QUANTITIES if code == number.concept), number.meaning)
    structure = names.get(number.site.segment or 0, "") or number.site.name
    return Compared(
        structure=structure, outcome=outcome, quantity=known, unit=number.unit[:32], ours=ours, theirs=theirs,
        segment=number.site.segment,
    )  # fmt: skip


def verdict_of(report: Dataset) -> str:
    """What a report says of the whole: ``accepted`` or ``rejected`` where a code does, else ``verified`` or nothing."""
    for item in _walk(report, 0):
        if text(item, "ValueType") == "CODE":
            for value in items(item, "ConceptCodeSequence"):
                said = STATEMENTS.get(text(value, "CodeMeaning").strip().casefold())
                if said:
                    return said
    return "verified" if text(report, "VerificationFlag") == "VERIFIED" else ""


def numbers_of(report: Dataset) -> Iterator[Number]:
    """The numeric measurements of a report, each with the site of its group."""
    yield from _numbers(report, Site(), 0)


def _numbers(container: Dataset, above: Site, depth: int) -> Iterator[Number]:
    children = items(container, "ContentSequence")
    site = _site(children, above)
    for item in children:
        if text(item, "ValueType") == "NUM":
            number = _number(item, _site(items(item, "ContentSequence"), site))
            if number is not None:
                yield number
        elif depth < DEEPEST:
            yield from _numbers(item, site, depth + 1)


def _number(item: Dataset, site: Site) -> Number | None:
    measured = items(item, "MeasuredValueSequence")
    if not measured:
        return None
    try:
        value = float(text(measured[0], "NumericValue"))
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    (unit,) = codes(measured[0], "MeasurementUnitsCodeSequence")[:1]
    factor = MILLILITRES.get(unit.value)
    (concept,) = codes(item, "ConceptNameCodeSequence")[:1]
    return Number(
        concept=concept,
        meaning=_meaning(item, "ConceptNameCodeSequence"),
        value=round(value * factor, 3) if factor else value,
        unit="ml" if factor else unit.value,
        site=site,
    )


def _site(children: Sequence[Dataset], above: Site) -> Site:
    """What the items of a group say of where it was measured; what they are silent about, the group above says."""
    found = above
    for item in children:
        (name,) = codes(item, "ConceptNameCodeSequence")[:1]
        if name == FINDING_SITE:
            sides = [each for each in items(item, "ContentSequence") if _names(each) in LATERALITIES]
            parts = [item, *sides]
            found = replace(
                found,
                codes=tuple(codes(part, "ConceptCodeSequence")[0] for part in parts),
                name=" ".join(_meaning(part, "ConceptCodeSequence") for part in (*sides, item)).strip(),
            )
        elif name == TRACKING_UID:
            found = replace(found, tracking=text(item, "UID"))
        for reference in items(item, "ReferencedSOPSequence"):
            if "ReferencedSegmentNumber" in reference:
                number = reference.ReferencedSegmentNumber
                several = [number] if isinstance(number, (int, str)) else list(number)
                if len(several) == 1:  # a total of several segments is none of them
                    found = replace(found, segment=int(several[0]))
    return found


def _names(item: Dataset) -> Code:
    return codes(item, "ConceptNameCodeSequence")[0]


def _meaning(item: Dataset, keyword: str) -> str:
    found = items(item, keyword)
    return text(found[0], "CodeMeaning").strip() if found else ""


def _walk(container: Dataset, depth: int) -> Iterator[Dataset]:
    for item in items(container, "ContentSequence"):
        yield item
        if depth < DEEPEST:
            yield from _walk(item, depth + 1)
