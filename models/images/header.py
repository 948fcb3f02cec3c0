"""Read one attribute of a header, whatever its bytes are.

pydicom converts a value when it is first asked for, and raises errors of many kinds for text in a number, a number in
a sequence or bytes of the wrong length. They become one here, in words. Next: slices.py, decode.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_description, tag_for_keyword

from medai.models.errors import NotAVolume


def value(dataset: Dataset, keyword: str, default: Any = None) -> Any:
    """The attribute's value, ``default`` where it is absent; raises NotAVolume where it can't be read."""
    try:
        return dataset.get(keyword, default)
    except Exception as error:
        # What pydicom raises depends on what the bytes are; its text quotes them, so it is not repeated.
        raise NotAVolume(f"an image has an unreadable {_words(keyword)}") from error


def text(dataset: Dataset, keyword: str) -> str:
    """The attribute as text, empty where it is absent; several values as DICOM writes them, with backslashes.

    A backslash in an identifier reads as two values, and is one identifier all the same (PS3.18 F.2.4).
    """
    return joined(value(dataset, keyword))


def joined(found: Any) -> str:
    """A value, or several, as the text that the file holds."""
    if found is None:
        return ""
    several = isinstance(found, Sequence) and not isinstance(found, str | bytes)
    return "\\".join("" if one is None else str(one) for one in found) if several else str(found)


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, none where it is absent; raises NotAVolume where it is something else."""
    found = value(dataset, keyword) or []
    try:
        listed = list(found)
    except TypeError:
        listed = [None]
    if not all(isinstance(item, Dataset) for item in listed):
        raise NotAVolume(f"an image has an unreadable {_words(keyword)}")
    return listed


def item(dataset: Dataset, keyword: str, index: int) -> Dataset | None:
    """One item of a sequence, which may have thousands, None where it has no such one; raises as ``items`` does."""
    found = value(dataset, keyword) or []
    if not isinstance(found, Sequence):
        raise NotAVolume(f"an image has an unreadable {_words(keyword)}")
    one = found[index] if index < len(found) else None
    if one is not None and not isinstance(one, Dataset):
        raise NotAVolume(f"an image has an unreadable {_words(keyword)}")
    return one


def whole(dataset: Dataset, keyword: str) -> int | None:
    """The attribute as a whole number, None where it is absent or empty; raises NotAVolume where it is none."""
    found = value(dataset, keyword)
    if found is None or found == "":
        return None
    try:
        number = int(found)
        exact = number == found
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise NotAVolume(f"an image has an unreadable {_words(keyword)}")
    return number


def _words(keyword: str) -> str:
    """The attribute's name as people write it."""
    tag = tag_for_keyword(keyword)
    return re.sub(r"[^A-Za-z ]", "", dictionary_description(tag)) if tag is not None else keyword
