"""What is wrong with a data set, from the facts of its cases. Pure: no files, no voxels.

An error is what must not be trained on; a warning is what a person should look at. Outliers are told by the modified
z-score (Iglewicz and Hoaglin 1993: 0.6745 x distance from the median / median absolute deviation), with a floor below
which differences do not count. Next: report.py (for people), command.py (the command).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from medai.training.cases import Dataset
from medai.training.qa.facts import Facts
from medai.training.words import counted

Z_LIMIT = 3.5
"""Modified z-score from which a value is an outlier."""
FEWEST = 6
"""Cases that a spread can be told from."""
SAME = 0.98
"""Correlation of thumbnails from which two images are nearly the same."""
OBLIQUE_DEG = 1.0
SKEW = 1e-3
SCALE_FACTOR = 2.5
"""Step between the ranges of values, in order, from which a new scale begins."""
FEW = 0.02
"""Groups of up to this share of the cases are named case by case."""
RARE = 0.1
"""A case without labels is an error where fewer than this share of the cases have none."""
CT_AIR_HU, CT_METAL_HU = -1100.0, 32000.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to look at; ``case`` is empty for what concerns the whole set."""

    level: Literal["error", "warning"]
    check: str
    text: str
    case: str = ""


def check(dataset: Dataset, facts: Sequence[Facts]) -> list[Finding]:
    """All findings, errors first."""
    readable = [one for one in facts if not one.fault]
    found = [
        *_of_the_set(dataset),
        *_unreadable(facts),
        *_grids(readable),
        *_values(readable),
        *_label_values(readable, dataset.label_names),
        *_label_shapes(readable, dataset.label_names),
        *_volumes(readable, dataset.label_names),
        *_duplicates(readable),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def _of_the_set(dataset: Dataset) -> Iterator[Finding]:
    for oddity in dataset.oddities:
        yield Finding(level="error" if oddity.fatal else "warning", check="files", text=oddity.text)


def _unreadable(facts: Sequence[Facts]) -> Iterator[Finding]:
    for one in facts:
        if one.fault:
            yield Finding(level="error", check="reading", case=one.name, text=one.fault)


# --- grids -------------------------------------------------------------------------------------------------------


def _grids(facts: Sequence[Facts]) -> Iterator[Finding]:
    axes = Counter(one.axes for one in facts)
    if len(axes) > 1:
        tally = ", ".join(f"{name} ({counted(count, 'case')})" for name, count in axes.most_common())
        yield Finding(level="warning", check="orientation", text=f"axes grow to different sides: {tally}")
    for one in facts:
        if one.skew > SKEW:
            yield Finding(level="error", check="orientation", case=one.name, text="the axes are not at right angles")
        if one.oblique_deg > OBLIQUE_DEG:
            text = f"oblique: its axes are {one.oblique_deg:.1f} degrees off the patient's"
            yield Finding(level="warning", check="orientation", case=one.name, text=text)
    for axis, letter in enumerate("xyz"):
        spacings = [one.spacing_mm[axis] for one in facts]
        yield from _outliers(facts, spacings, "spacing", f"voxels of {{:.3g}} mm along {letter}", floor=0.1)
        extents = [one.extent_mm[axis] for one in facts]
        yield from _outliers(facts, extents, "size", f"{{:.0f}} mm long along {letter}", floor=0.15)


# --- values ------------------------------------------------------------------------------------------------------


def _values(facts: Sequence[Facts]) -> Iterator[Finding]:
    for one in facts:
        if one.not_finite:
            text = f"{counted(one.not_finite, 'voxel')} without a number (NaN or infinite)"
            yield Finding(level="error", check="values", case=one.name, text=text)
        if one.low >= one.high:
            yield Finding(level="error", check="values", case=one.name, text="all voxels have the same value")
        elif one.modality == "CT":
            yield from _hounsfield(one)
    yield from _scales([one for one in facts if one.modality != "CT" and one.high > one.low])
    windows = [one for one in facts if one.modality == "CT" and one.high > one.low]
    for place, name in enumerate(("1st percentile", "median")):
        values = [one.percentiles[place] for one in windows]
        yield from _outliers(windows, values, "values", f"{name} {{:.0f}} HU", floor=150.0, logarithmic=False)


def _scales(facts: Sequence[Facts]) -> Iterator[Finding]:
    """Values without a unit: images whose range is another by SCALE_FACTOR or more are on another scale."""
    groups: list[list[Facts]] = []
    for one in sorted(facts, key=_range):
        if groups and _range(one) < SCALE_FACTOR * max(_range(groups[-1][-1]), 1e-9):
            groups[-1].append(one)
        else:
            groups.append([one])
    if len(groups) < 2:
        return
    parts = [
        f"{counted(len(group), 'case')} over about {_short(np.median([_range(one) for one in group]))}"
        for group in groups
    ]
    text = f"values lie on {len(groups)} scales (1st to 99th percentile): {'; '.join(parts)}. Scale each image"
    yield Finding(level="warning", check="values", text=text)
    for group in groups:
        if len(group) <= max(1, FEW * len(facts)):
            for one in group:
                text = f"values spread over {_short(_range(one))}, on another scale than nearly all cases"
                yield Finding(level="warning", check="values", case=one.name, text=text)


def _short(value: float) -> str:
    """Three digits, without an exponent: 383,000."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _range(one: Facts) -> float:
    return one.percentiles[2] - one.percentiles[0]


def _hounsfield(one: Facts) -> Iterator[Finding]:
    if one.low >= 0:
        text = f"values from {one.low:.4g} to {one.high:.4g} and none below 0: not Hounsfield units?"
        yield Finding(level="error", check="values", case=one.name, text=text)
    elif one.percentiles[0] < CT_AIR_HU:
        text = f"1st percentile {one.percentiles[0]:.0f} HU: padding below air (-1024) should be set to air"
        yield Finding(level="warning", check="values", case=one.name, text=text)
    if one.high > CT_METAL_HU:
        yield Finding(level="warning", check="values", case=one.name, text=f"values up to {one.high:.0f} HU")


# --- labels ------------------------------------------------------------------------------------------------------


def _label_values(facts: Sequence[Facts], names: Mapping[int, str]) -> Iterator[Finding]:
    used = {value for one in facts for value in one.labels}
    for value in sorted(names.keys() - used):
        text = f"no case holds {_named(value, names)}"
        yield Finding(level="warning", check="labels", text=text)
    bare = [one for one in facts if not one.labels]
    for one in bare:
        rare = len(bare) < RARE * len(facts) or len(bare) == 1
        yield Finding(level="error" if rare else "warning", check="labels", case=one.name, text="nothing is labelled")
    for one in facts:
        strange = sorted(one.labels.keys() - names.keys()) if names else []
        if strange:
            text = f"values that mean nothing here: {', '.join(map(str, strange[:8]))}"
            yield Finding(level="error", check="labels", case=one.name, text=text)
    yield from _sometimes_missing(facts, names, used)


def _sometimes_missing(facts: Sequence[Facts], names: Mapping[int, str], used: set[int]) -> Iterator[Finding]:
    labelled = [one for one in facts if one.labels]
    for value in sorted(used & names.keys() if names else used):
        lacking = [one for one in labelled if value not in one.labels]
        if len(lacking) == 1 or 0 < len(lacking) < RARE * len(labelled):
            for one in lacking:
                text = f"{_named(value, names)} is missing, which nearly all other cases hold"
                yield Finding(level="warning", check="labels", case=one.name, text=text)


def _label_shapes(facts: Sequence[Facts], names: Mapping[int, str]) -> Iterator[Finding]:
    pieces: dict[int, list[int]] = defaultdict(list)
    gaps: dict[int, list[int]] = defaultdict(list)
    for one in facts:
        for value, label in one.labels.items():
            pieces[value].append(label.pieces)
            gaps[value].append(label.gap_slices)
    for one in facts:
        for value, label in one.labels.items():
            name = _named(value, names)
            if label.faces:
                text = f"{name} touches the image's edge ({', '.join(label.faces)}): cut off?"
                yield Finding(level="warning", check="clipped", case=one.name, text=text)
            if label.pieces > max(1.0, float(np.median(pieces[value]))):
                text = f"{name} lies in {label.pieces} pieces, the smallest of {_count(label.smallest_piece)}"
                yield Finding(level="warning", check="pieces", case=one.name, text=text)
            if label.gap_slices > float(np.median(gaps[value])):
                text = f"{name} is missing on {counted(label.gap_slices, 'slice')} between others"
                yield Finding(level="warning", check="gaps", case=one.name, text=text)


def _volumes(facts: Sequence[Facts], names: Mapping[int, str]) -> Iterator[Finding]:
    for value in sorted({value for one in facts for value in one.labels}):
        holding = [one for one in facts if value in one.labels]
        volumes = [one.labels[value].ml for one in holding]
        yield from _outliers(holding, volumes, "volume", f"{_named(value, names)} has {{:.3g}} ml", floor=0.1)


def _count(voxels: int) -> str:
    return "1 voxel" if voxels == 1 else f"{voxels} voxels"


def _named(value: int, names: Mapping[int, str]) -> str:
    return f"{names[value]} ({value})" if value in names else f"label {value}"


# --- duplicates --------------------------------------------------------------------------------------------------


def _duplicates(facts: Sequence[Facts]) -> Iterator[Finding]:
    same: dict[str, list[Facts]] = defaultdict(list)
    for one in facts:
        same[one.digest].append(one)
    for group in same.values():
        for one in group[1:]:
            text = f"the same image as {group[0].name}" + _of_whom(one, group[0])
            yield Finding(level="error", check="duplicates", case=one.name, text=text)
    for one, other, alike in _near(facts):
        text = f"nearly the same image as {other.name} (correlation {alike:.4f})" + _of_whom(one, other)
        yield Finding(level="warning", check="duplicates", case=one.name, text=text)
    people = Counter(one.patient for one in facts)
    shared = sum(count for count in people.values() if count > 1)
    if shared:
        several = sum(1 for count in people.values() if count > 1)
        text = (
            f"patients with more than one case: {several} ({counted(shared, 'case')}); a split keeps each on one side"
        )
        yield Finding(level="warning", check="patients", text=text)


def _of_whom(one: Facts, other: Facts) -> str:
    return "" if one.patient == other.patient else ", yet said to be of another patient"


def _near(facts: Sequence[Facts]) -> Iterator[tuple[Facts, Facts, float]]:
    shapes = [one for one in facts if one.thumbnail.any()]
    if len(shapes) < 2:
        return
    stack = np.stack([one.thumbnail for one in shapes])
    alike: npt.NDArray[np.float32] = np.triu(stack @ stack.T, k=1)
    for row, column in np.argwhere(alike > SAME):
        one, other = shapes[column], shapes[row]
        if one.digest != other.digest:
            yield one, other, float(alike[row, column])


# --- outliers ----------------------------------------------------------------------------------------------------


def _outliers(
    facts: Sequence[Facts],
    values: Sequence[float],
    name: str,
    text: str,
    *,
    floor: float,
    logarithmic: bool = True,
) -> Iterator[Finding]:
    """``floor`` is the least deviation that counts: a share of the median, or a difference if not ``logarithmic``."""
    scores = z_scores(values, floor=floor, logarithmic=logarithmic)
    median = float(np.median(values)) if len(values) else 0.0
    for one, value, score in zip(facts, values, scores, strict=True):
        if abs(score) > Z_LIMIT:
            detail = f"{text.format(value)}; half of the cases have more than {median:.4g}"
            yield Finding(level="warning", check=name, case=one.name, text=f"{detail} (robust z {score:+.1f})")


def z_scores(values: Sequence[float], *, floor: float, logarithmic: bool = True) -> npt.NDArray[np.float64]:
    """Modified z-scores; zeros for fewer than FEWEST values."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < FEWEST:
        return np.zeros(len(numbers))
    scale = np.log(np.maximum(numbers, 1e-9)) if logarithmic else numbers
    distance = scale - np.median(scale)
    spread = max(float(np.median(np.abs(distance))), floor * 0.6745)
    scores: npt.NDArray[np.float64] = 0.6745 * distance / spread
    return scores
