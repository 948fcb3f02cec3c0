"""Get a job's series out of Orthanc: the images that the router decided on, and only those.

Measured (orthanc.md): ``/file`` over a few kept-alive connections is the fastest way to pixels. Next: pipeline.py.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from router.contract import Job, sources_hash
from router.errors import OrthancRefused, PermanentError, TemporaryError
from router.orthanc import Orthanc

UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
    struct.error,
)
"""What pydicom raises on a file that is damaged or cut short."""


DAMAGED = "an image of the series is not readable DICOM: it is damaged or cut short"


def fetch(job: Job, orthanc: Orthanc, *, threads: int = 4) -> list[Dataset]:
    """Every image of the job's series, with pixels, in Orthanc's order.

    Raises TemporaryError when the series is not the one that the router saw (a late image is on its way to make a
    new revision), PermanentError when it is gone or unreadable, OrthancUnreachable when Orthanc is away.
    """
    wanted = _wanted(job, orthanc)
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="fetch") as pool:
        return list(pool.map(lambda name: _read(orthanc, name), wanted))


def _wanted(job: Job, orthanc: Orthanc) -> Sequence[str]:
    found: dict[str, str] = {}
    try:
        for series in job.series_orthanc_ids:
            for item in orthanc.instances(series):
                found[str(item["MainDicomTags"]["SOPInstanceUID"])] = str(item["ID"])
    except OrthancRefused as error:
        if error.status == 404:
            raise PermanentError("the series was deleted from the archive before it could be read") from error
        raise
    if sources_hash(found) != job.sources_hash:
        raise TemporaryError(
            f"the series holds {len(found)} images now, {job.sources_count} when it was chosen: "
            "waiting for the router to decide again"
        )
    return list(found.values())


def _read(orthanc: Orthanc, name: str) -> Dataset:
    data = orthanc.file(name)
    try:
        image = pydicom.dcmread(BytesIO(data))
    except UNREADABLE as error:
        raise PermanentError(DAMAGED) from error
    if "SOPInstanceUID" not in image:  # a file that ends within its header reads as an empty one
        raise PermanentError(DAMAGED)
    return image
