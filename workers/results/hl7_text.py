"""HL7 v2 text: escapes, times, names and patient identifiers out of DICOM. Next: oru.py.

HL7 v2.5.1 chapter 2.7 (escape sequences), 2.A.89 (XPN), 2.A.14 (CX); DICOM PS3.5 6.2 (PN).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from pydicom import Dataset

from medai.models.images.header import text
from medai.router.hl7.text import unescape
from medai.workers.sound_header import sound_date, sound_time

ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""C0 and C1 controls and Unicode's line and paragraph separators: no field holds them, and some receivers end a segment
at every one that looks like a line's end."""
IMAGED = ("Acquisition", "Content", "Series", "Study")
"""Whose date and time tell when the patient was imaged, the best first."""
NAME_REPRESENTATIONS = ("A", "I", "P")
"""XPN.8 (table 0465) of DICOM's three component groups: alphabetic, ideographic, phonetic."""
DEGREES_OF_A_NAME = 5


def escape(text: object) -> str:
    """One component's text: delimiters escaped, line ends and other control characters made spaces."""
    plain = CONTROL.sub(" ", str(text)).strip()
    return "".join(ESCAPES.get(character, character) for character in plain)


def as_received(text: str) -> str:
    """A field that came from the RIS and goes back as it came, components and escapes kept."""
    return CONTROL.sub(" ", text).replace("|", ESCAPES["|"]).strip()


def components(*parts: object) -> str:
    """A composite of escaped components, empty ones at the end left out."""
    return "^".join(escape(part) for part in parts).rstrip("^")


def segment(name: str, fields: dict[int, str]) -> str:
    """One segment with its numbered fields; empty ones at the end are left out."""
    last = max((number for number, value in fields.items() if value), default=0)
    return "|".join([name, *(fields.get(number, "") for number in range(1, last + 1))])


def timestamp(moment: datetime) -> str:
    """DTM to the second, with the offset from UTC where the time knows it."""
    return moment.strftime("%Y%m%d%H%M%S%z")


def dicom_timestamp(date: str, time: str, offset: str = "") -> str:
    """DTM of a DICOM date and time (DA, TM and Timezone Offset From UTC); empty when the date is unusable."""
    day, clock = sound_date(date), sound_time(time)
    if not day:
        return ""
    digits = re.match(r"(?:\d{6}|\d{4})", clock)
    if digits is None:
        return day
    zone = offset if re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", offset) else ""
    return f"{day}{digits.group()}{zone}"


def first_moment(header: Dataset, *names: str) -> tuple[str, str]:
    """Date and time of the first of "Acquisition", "Series", … whose both are sound, else of the first sound date."""
    pairs = [(sound_date(text(header, f"{name}Date")), sound_time(text(header, f"{name}Time"))) for name in names]
    return next((pair for pair in pairs if all(pair)), None) or next((pair for pair in pairs if pair[0]), ("", ""))


def person_name(name: object) -> str:
    """DICOM PN to XPN: family^given^middle^prefix^suffix becomes family^given^middle^suffix^prefix.

    Ideographic and phonetic groups follow as repetitions, each marked in XPN.8.
    """
    repetitions: list[str] = []
    for group, representation in zip(str(name or "").split("="), NAME_REPRESENTATIONS, strict=False):
        parts = [part.strip() for part in group.split("^")]
        if not any(parts):
            continue
        family, given, middle, prefix, suffix = (parts + [""] * DEGREES_OF_A_NAME)[:DEGREES_OF_A_NAME]
        marked = "" if representation == "A" else representation
        repetitions.append(components(family, given, middle, suffix, prefix, "", "L" if marked else "", marked))
    return "~".join(repetitions)


def patient_identifier(identifier: str, authority: str) -> str:
    """CX with an assigning authority, which may be an HD (namespace&universal id&type) already."""
    hd = "&".join(escape(part) for part in authority.split("&"))
    return f"{escape(identifier)}^^^{hd}^MR" if identifier else ""


def assigned(identifier: str) -> tuple[str, str]:
    """Number and assigning authority (an HD) of a CX."""
    number, _, _, authority, *_ = [*identifier.split("^"), "", "", ""]
    return unescape(number), "&".join(unescape(part) for part in authority.split("&"))


def may_be_one(authority: str, other: str) -> bool:
    """Whether two authorities (HD) may be the same: by their namespaces, else universal ids; or one is not said."""
    one, two = authority.split("&"), other.split("&")
    if one[0] and two[0]:
        return one[0] == two[0]
    return not any(one) or not any(two) or (one[1:2] == two[1:2] != [])


def issuer(header: Dataset) -> str:
    """Issuer of Patient ID as an HD: namespace, and the universal id where the qualifiers give one."""
    namespace = text(header, "IssuerOfPatientID").strip()
    qualifiers = header.get("IssuerOfPatientIDQualifiersSequence")
    if not qualifiers or not qualifiers[0].get("UniversalEntityID"):
        return namespace
    item = qualifiers[0]
    return f"{namespace}&{item.UniversalEntityID}&{item.get('UniversalEntityIDType') or 'ISO'}"


def join(segments: Sequence[str]) -> bytes:
    """The message: UTF-8, every segment ended by a carriage return."""
    return "".join(f"{text}\r" for text in segments).encode("utf-8")
