"""Make a foreign header sound: what can't be read goes, texts become Unicode, dates and times are the calendar's.

Results are built of the header of one image. Whatever its writer did (a character set misspelt or left out, a byte that
looks like a backslash, a date with dots, a birth date of zeros), no value may stop a result or stand in it as something
that it is not. Sources: PS3.5 6.1 (character sets), 6.2 (value representations). Next: pipeline.py (who asks).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

UNICODE = "ISO_IR 192"
NUMBERS = frozenset({"DS", "IS", "FD", "FL"})
TEXTS = frozenset({"SH", "LO", "PN", "UC", "ST", "LT", "UT"})
"""Value representations whose bytes follow Specific Character Set."""
LONG = frozenset({"ST", "LT", "UT"})
"""Of them those in which a backslash is a letter, and lines may end."""
TEXT_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C}
NAME_DELIMITERS = {0xE5, *TEXT_DELIMITERS}
_TIME = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(\.\d{1,6})?)?)?")


def make_sound(header: Dataset) -> None:
    """Change a header in place, sequences too: see the module. What decides about pixels was read before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes what it warns of; the values are dealt with here
        _walk(header, _encodings(header), declared=bool(_declared(header)))
    header.SpecificCharacterSet = UNICODE


def sound_date(text: str) -> str:
    """A DICOM date (DA), also in the form of ACR-NEMA (1960.12.31); empty where the calendar has no such day."""
    digits = re.sub(r"^(\d{4})[.\-/](\d{2})[.\-/](\d{2})$", r"\1\2\3", text.strip())
    if not re.fullmatch(r"\d{8}", digits):
        return ""
    try:
        datetime.strptime(digits, "%Y%m%d")  # noqa: DTZ007 - a calendar date has no zone
    except ValueError:
        return ""
    return digits


def sound_time(text: str) -> str:
    """A DICOM time (TM), also with colons (10:15:00); empty where no clock shows it."""
    digits = text.strip()
    if re.fullmatch(r"\d{2}:\d{2}(:\d{2}(\.\d*)?)?", digits):
        digits = digits.replace(":", "")
    return digits if _TIME.fullmatch(digits) else ""


def _walk(header: Dataset, encodings: Sequence[str], *, declared: bool) -> None:
    for tag in list(header.keys()):
        try:
            _mend(header, tag, encodings, declared=declared)
        except Exception:  # noqa: BLE001 - pydicom raises errors of many kinds for a value that is not what its VR says
            del header[tag]


def _mend(header: Dataset, tag: Any, encodings: Sequence[str], *, declared: bool) -> None:
    raw = header.get_item(tag)
    kind = _kind(header, tag, raw)
    if kind in TEXTS:
        text = _decoded(raw, kind, encodings, declared=declared)
        _put(header, tag, kind, text if kind in LONG or "\\" not in text else text.split("\\"))
        return
    element = header[tag]
    if kind == "SQ":
        for item in element.value:
            _walk(item, _encodings(item) if _declared(item) else encodings, declared=declared or bool(_declared(item)))
            if "SpecificCharacterSet" in item:
                item.SpecificCharacterSet = UNICODE
    elif kind in NUMBERS and not _finite(element.value):
        del header[tag]
    elif kind in ("DA", "TM"):
        mend = sound_date if kind == "DA" else sound_time
        _put(header, tag, kind, mend("" if element.value is None else str(element.value)))


def _kind(header: Dataset, tag: Any, raw: Any) -> str:
    """The value representation; of an attribute that does not say it, the dictionary's."""
    return str(raw.VR) if raw is not None and raw.VR not in (None, "UN") else str(header[tag].VR)


def _put(header: Dataset, tag: Any, kind: str, value: Any) -> None:
    header[tag] = DataElement(tag, kind, value, validation_mode=config.IGNORE)


def _declared(header: Dataset) -> list[str]:
    found = header.get("SpecificCharacterSet")
    listed = [found] if isinstance(found, str) or found is None else list(found)
    return [str(term or "") for term in listed] if any(listed) else []


def _encodings(header: Dataset) -> list[str]:
    """Python's codecs for what a header declares; none where it declares nothing that is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a term that is misspelt
        warnings.filterwarnings("error", message="Unknown encoding")  # pydicom would take the default one for it
        try:
            return list(convert_encodings(_declared(header))) if _declared(header) else []
        except (LookupError, TypeError, ValueError, UserWarning):
            return []


def _decoded(raw: Any, kind: str, encodings: Sequence[str], *, declared: bool) -> str:
    stored = raw.value
    if isinstance(raw, RawDataElement):
        text = _text(stored or b"", kind, encodings, declared=declared)
    else:
        text = _said(stored, kind, encodings, declared=declared)
    lines = "\r\n\t\f" if kind in LONG else ""
    return "".join(letter for letter in text if letter in lines or not _is_control(letter)).strip(" ")


def _said(stored: Any, kind: str, encodings: Sequence[str], *, declared: bool) -> str:
    """The text of a value that pydicom has converted already."""
    if isinstance(stored, PersonName):
        original = stored.original_string
        return _text(original, kind, encodings, declared=declared) if isinstance(original, bytes) else str(stored)
    if isinstance(stored, Sequence) and not isinstance(stored, str | bytes):
        return "\\".join(_said(one, kind, encodings, declared=declared) for one in stored)
    return "" if stored is None else str(stored)


def _text(data: bytes, kind: str, encodings: Sequence[str], *, declared: bool) -> str:
    """Bytes by the declared character sets; else as UTF-8, else as Latin 1, as most writers without one mean."""
    data = data.rstrip(b"\x00")
    for attempt in (_by_declaration if declared and encodings else _as_utf8, _as_utf8):
        try:
            return attempt(data, kind, encodings)
        except (UnicodeError, LookupError, ValueError):
            continue
    return data.decode("iso8859-1")


def _as_utf8(data: bytes, _kind: str, _encodings: Sequence[str]) -> str:
    return data.decode("utf-8")


def _by_declaration(data: bytes, kind: str, encodings: Sequence[str]) -> str:
    if b"\x1b" not in data:
        return data.decode(encodings[0])
    if kind == "PN":
        return "=".join(
            decode_bytes(group, encodings, {ord(mark) for mark in "^="} | NAME_DELIMITERS) for group in data.split(b"=")
        )
    return decode_bytes(data, encodings, TEXT_DELIMITERS)


def _is_control(letter: str) -> bool:
    return ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0


def _finite(value: Any) -> bool:
    """Whether a number, or each of several, is one; pydicom keeps a text that is none as it is."""
    if value is None or value == "":
        return True
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return all(math.isfinite(float(number)) for number in numbers)
