"""Are the codes of a model's segments there and plausible? Results carry them, so they are checked when it is added.

A SNOMED CT identifier ends with a check digit (Verhoeff's method, SNOMED CT Release File Specification 5.5), so a
typing error is found without the terminology itself. Next: format/bundle.py (where codes are read), foreign/adding.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SCHEMES = frozenset({"SCT", "DCM", "LN", "FMA", "NCIt", "RADLEX", "UMLS", "UBERON", "MA"})
"""Coding scheme designators of PS3.16 chapter 8 that name anatomy or findings; private ones begin with 99."""
RETIRED = frozenset({"SRT", "SNM3", "99SDM"})
CATEGORIES = frozenset(
    {
        *("91723000", "49755003", "85756007", "260787004", "309825002"),
        *("105590001", "91720002", "246464006", "123037004"),
    }
)
"""Segmentation property categories: CID 7150, and Body Structure."""
PARTS = ("category", "type", "modifier", "topography", "site")

# Verhoeff 1969: multiplication in the dihedral group D5, and the permutation that is applied place by place.
_TIMES = ("0123456789", "1234067895", "2340178956", "3401289567", "4012395678")
_TURNED = ("5987604321", "6598710432", "7659821043", "8765932104", "9876543210")
_D5 = tuple(tuple(int(digit) for digit in row) for row in (*_TIMES, *_TURNED))
_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def faults_in(segments: Sequence[Any]) -> list[str]:
    """What is wrong with the numbers and codes of segments (as in metadata.json); empty where all is well."""
    numbers = sorted(item["number"] for item in segments if isinstance(item, Mapping) and "number" in item)
    faults = []
    if numbers and numbers != list(range(1, len(numbers) + 1)):
        faults.append(
            f"segments: the numbers are {numbers}; they must be 1, 2, ... without gaps, as the network's classes"
        )
    for item in segments:
        if isinstance(item, Mapping):
            faults += _faults(item)
    return faults


def remarks_on(segments: Sequence[Any]) -> list[str]:
    """What is unusual, though it may be right."""
    return [
        f"{item.get('name')}: category {item['category'][0]} is not one of DICOM's segmentation categories (CID 7150)"
        for item in segments
        if isinstance(item, Mapping) and _triple(item.get("category")) and item["category"][0] not in CATEGORIES
    ]


def _faults(segment: Mapping[str, Any]) -> Iterator[str]:
    for part in PARTS:
        code = segment.get(part)
        if code is None:
            continue
        name = f"segment {segment.get('name') or segment.get('number')}: {part}"
        if not _triple(code):
            yield f'{name} must be [value, scheme, meaning], for example ["39607008", "SCT", "Lung"]'
            continue
        value, scheme, meaning = code
        if scheme in RETIRED:
            yield f"{name}: the scheme {scheme} is retired; use SCT"
        elif scheme not in SCHEMES and not scheme.startswith("99"):
            yield f"{name}: the scheme {scheme!r} is unknown; use SCT, DCM, ... or one of your own that begins with 99"
        elif not meaning.strip() or len(meaning) > 64:
            yield f"{name}: the meaning must have 1 to 64 characters"
        elif scheme == "SCT" and not sct_identifier(value):
            yield f"{name}: {value!r} is no SNOMED CT identifier (its check digit is wrong): a typing error?"
        elif not 1 <= len(value) <= 16 and scheme != "SCT":
            yield f"{name}: the code value must have 1 to 16 characters"


def _triple(code: Any) -> bool:
    return isinstance(code, list | tuple) and len(code) == 3 and all(isinstance(part, str) for part in code)


def sct_identifier(value: str) -> bool:
    """Whether a text has the form of a SNOMED CT identifier: 6 to 18 digits, the last of which checks the others."""
    if not re.fullmatch(r"[1-9][0-9]{5,17}", value):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        turned = int(digit)
        for _ in range(place % 8):
            turned = _PERMUTATION[turned]
        check = _D5[check][turned]
    return check == 0
