"""Bytes to a pydicom Dataset, or to the words that say why not: the one place where foreign files are parsed.

Next: fetch.py (images from Orthanc), source_files.py (images from a disk).
"""

from __future__ import annotations

from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from medai.router.errors import PermanentError
from medai.router.files import dicom_scan

NESTED = f"holds sequences that are nested more than {dicom_scan.DEPTH_LIMIT} deep"


class Unreadable(PermanentError):
    """A file that is no readable DICOM image; the text, which may be empty, goes on after "an image of the series"."""


def read_image(data: bytes, *, max_bytes: int, headers_only: bool = False) -> Dataset:
    """One DICOM file, with pixels unless ``headers_only``; ``max_bytes`` bounds what a deflated one unpacks to.

    Raises Unreadable, also for a file without SOP Instance UID: one that ends within its header reads as an empty one.
    """
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
