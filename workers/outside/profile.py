"""What becomes of each attribute: DICOM PS3.15, table E.1-1, the basic profile, and what is done beyond it.

The table comes from dicom-anonymizer, which makes it from the standard itself. Beyond it goes whatever the table does
not know and could name somebody: private and unknown attributes, every name of a person, every date and time, free
text, addresses, and bytes that are no pixels. The one option taken is to retain the patient's characteristics (sex,
age, size and weight), which models need. Next: deidentify.py.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.tag import BaseTag

EDITION = "2026c"
BASIC = ("113100", "Basic Application Confidentiality Profile")
RETAIN_PATIENT = ("113108", "Retain Patient Characteristics Option")
METHOD = "DICOM PS3.15 E Basic Profile, patient characteristics kept"


class Action(Enum):
    """What is done to an attribute."""

    KEEP = auto()
    """Kept: what it says is looked through for the patient all the same, and sequences are gone into."""
    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()
    """Another value of its kind, as the attribute must have one."""
    UID = auto()
    """A pseudonym, the same wherever the UID stands."""


def _plain(entries: object) -> frozenset[int]:
    return frozenset((each[0] << 16) | each[1] for each in _listed(entries) if len(each) == 2)


def _listed(entries: object) -> list[tuple[int, ...]]:
    assert isinstance(entries, list)
    return entries


_REPEATING = [each for each in _listed(table.X_TAGS) if len(each) == 4]
"""Group, element, and which of their bits count: curves, overlays, private attributes."""
_TABLE: dict[int, Action] = {
    **dict.fromkeys(_plain(table.X_Z_U_STAR_TAGS), Action.KEEP),  # references: their UIDs become pseudonyms
    **dict.fromkeys(_plain(table.D_TAGS) | _plain(table.Z_D_TAGS), Action.DUMMY),
    **dict.fromkeys(_plain(table.X_D_TAGS) | _plain(table.X_Z_D_TAGS), Action.DUMMY),
    **dict.fromkeys(_plain(table.Z_TAGS) | _plain(table.X_Z_TAGS), Action.EMPTY),
    **dict.fromkeys(_plain(table.X_TAGS), Action.REMOVE),
    **dict.fromkeys(_plain(table.U_TAGS), Action.UID),
}  # fmt: skip
CHARACTERISTICS = {
    "PatientSex": re.compile(r"[MFO]"),
    "PatientAge": re.compile(r"[0-9]{3}[DWMY]"),
    "PatientSize": re.compile(r"[0-9.]{1,8}"),
    "PatientWeight": re.compile(r"[0-9.]{1,8}"),
}
"""What is kept of the patient, and how it must look."""
OLDEST_Y = 90
"""From here on ages are one: there are few such patients, and each is known in town."""
_NAMING = frozenset({"PN", "DA", "DT", "TM", "LT", "ST", "UT", "UC", "UR", "AE", "UN"})
"""Value representations that go wherever the table does not say otherwise."""
_BYTES = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "OB or OW"})
_PIXELS = frozenset({0x7FE00010})
_LOOKUP_GROUP = 0x0028
_NO_GROUPS = frozenset({0x0000, 0x0002, 0x0400, 0xFFFC})
"""Commands, the file's own header (made anew), signatures and what is encrypted, padding."""


def action_of(tag: BaseTag, vr: str) -> Action:
    """What is done to an attribute, at whatever level it stands."""
    if tag.is_private or tag.element == 0 or tag.group in _NO_GROUPS or not dictionary_has_tag(tag):
        return Action.REMOVE
    if any(tag.group & group_bits == group & group_bits and tag.element & bits == element & bits
           for group, element, group_bits, bits in _REPEATING):  # fmt: skip
        return Action.REMOVE
    if keyword_for_tag(tag) in CHARACTERISTICS:
        return Action.KEEP
    if (known := _TABLE.get(int(tag))) is not None:
        return known
    return _beyond(tag, vr)


def _beyond(tag: BaseTag, vr: str) -> Action:
    if vr == "UI":
        return Action.UID
    if vr in _NAMING or (vr in _BYTES and tag not in _PIXELS and tag.group != _LOOKUP_GROUP):
        return Action.REMOVE
    return Action.KEEP


def characteristic(keyword: str, value: str) -> str:
    """The patient's sex, age, size or weight as it is sent; empty where it is none."""
    value = value.strip()
    if not CHARACTERISTICS[keyword].fullmatch(value):
        return ""
    old = keyword == "PatientAge" and value[3] == "Y" and int(value[:3]) >= OLDEST_Y
    return f"{OLDEST_Y:03}Y" if old else value
