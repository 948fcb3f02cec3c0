"""Bytes to a pydicom Dataset, or to the words that say why not: the one place where foreign files are parsed.

Next: fetch.py (images from Orthanc), source_files.py (images from a disk).
"""

from __future__ import annotations

from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from medai.router.errors import PermanentError
from medai.router.files import dicom_scan

IMPLICIT, EXPLICIT, BIG_ENDIAN = b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"
"""Transfer syntaxes, padded to an even length."""
NESTED = f"holds sequences that are nested more than {dicom_scan.DEPTH_LIMIT} deep"


class Unreadable(PermanentError):
    """A file that is no readable DICOM image; the text, which may be empty, goes on after "an image of the series"."""


def begins_a_data_set(start: bytes) -> bool:
    """Whether bytes look like the first attribute of a data set, group 2 or 8, in either byte order."""
    group, element = start[:2], start[2:4]
    little = group in (b"\x02\x00", b"\x08\x00") and element[1:] == b"\x00"
    return little or (group in (b"\x00\x02", b"\x00\x08") and element[:1] == b"\x00")


def with_preamble(data: bytes) -> bytes:
    """A file that lacks what PS3.10 7.1 puts first (the preamble, or the file meta information as well), with both.

    Devices of the time of ACR-NEMA and some toolkits write the bare data set, Implicit VR Little Endian; whether it
    is explicit, and in which byte order, its first attribute shows.
    """
    if data[128:132] == b"DICM" or not begins_a_data_set(data[:8]):
        return data
    start = bytes(128) + b"DICM"
    if data[:1] == b"\x02":
        return start + data
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    syntax = BIG_ENDIAN if data[:1] == b"\x00" else EXPLICIT if explicit else IMPLICIT
    return start + b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax + data


def read_image(data: bytes, *, max_bytes: int, headers_only: bool = False) -> Dataset:
    """One DICOM file, with pixels unless ``headers_only``; ``max_bytes`` bounds what a deflated one unpacks to.

    Raises Unreadable, also for a file without SOP Instance UID: one that ends within its header reads as an empty one.
    """
    data = with_preamble(data)
    reason = dicom_scan.refusal(data, unpacked_limit=max_bytes, thorough=False)
    if reason:
        raise Unreadable(reason)
    try:
        image = pydicom.dcmread(BytesIO(data), stop_before_pixels=headers_only)
        uid = str(image.get("SOPInstanceUID") or "")
    except RecursionError as error:
        raise Unreadable(NESTED) from error
    except MemoryError:
        raise  # says nothing about the file
    except Exception as error:
        # pydicom raises errors of many kinds on a file that is damaged or cut short.
        raise Unreadable("") from error
    if not uid:
        raise Unreadable("")
    return image
