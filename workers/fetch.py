"""Get a job's series out of Orthanc: the images that the router decided on, and only those.

Measured (docs/orthanc.md, section 3): ``/file`` over a few kept-alive connections is the fastest way to
pixels. Next: pipeline.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5

from pydicom.dataset import Dataset

from medai.router.contract import Job, content_hash, sources_hash
from medai.router.errors import OrthancRefused, PermanentError, TemporaryError
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import WorkerSettings
from medai.router.words import counted
from medai.workers.dicom_file import Unreadable, read_image

DEFAULTS = WorkerSettings()
DAMAGED = "an image of the series is not readable DICOM: it is damaged or cut short"


def fetch(
    job: Job,
    orthanc: Orthanc,
    worker: WorkerSettings = DEFAULTS,
    *,
    tell: Callable[[str], None] = lambda _digest: None,
) -> list[Dataset]:
    """Every image of the job's series, with pixels, in Orthanc's order; ``tell`` gets the hash over their bytes.

    Nothing is fetched of a series that is larger than ``worker`` allows, by the sizes that Orthanc tells.
    Raises TemporaryError when the series is not the one that the router saw (a late image is on its way to make a
    new revision), PermanentError when it is gone, too large or unreadable, OrthancUnreachable when Orthanc is away.
    """
    wanted = _wanted(job, orthanc)
    _require_small(list(wanted.values()), worker)
    with ThreadPoolExecutor(max_workers=worker.fetch_threads, thread_name_prefix="fetch") as pool:
        read = list(pool.map(lambda name: _read(orthanc, name, worker.max_image_bytes), wanted))
    digest = content_hash([md5 for _, md5 in read])
    if job.content_hash not in ("", digest):
        raise TemporaryError("the images were sent again meanwhile: waiting for the router to decide again")
    tell(digest)
    return [image for image, _ in read]


def _wanted(job: Job, orthanc: Orthanc) -> dict[str, int]:
    """Orthanc's names of the images, each with the size of its file in bytes."""
    found: dict[str, str] = {}
    sizes: dict[str, int] = {}
    try:
        for series in job.series_orthanc_ids:
            for item in orthanc.instances(series):
                found[str(item["MainDicomTags"]["SOPInstanceUID"])] = str(item["ID"])
                sizes[str(item["ID"])] = int(item.get("FileSize") or 0)
    except OrthancRefused as error:
        if error.status == 404:
            if orthanc.exists("studies", job.study_orthanc_id):
                raise PermanentError("the series was deleted from the archive before it could be read") from error
            raise TemporaryError("the study is no longer where it was: waiting for the router to decide") from error
        raise
    if sources_hash(found) != job.sources_hash:
        raise TemporaryError(
            f"the series holds {counted(len(found), 'image')} now, {job.sources_count} when it was chosen: "
            "waiting for the router to decide again"
        )
    return {name: sizes[name] for name in found.values()}


def _require_small(sizes: Sequence[int], worker: WorkerSettings) -> None:
    largest, total = max(sizes, default=0), sum(sizes)
    if largest > worker.max_image_bytes:
        raise PermanentError(
            f"an image of the series has {largest / 2**30:.2f} GiB: "
            f"the limit is {worker.max_image_gb:g} GiB (worker.max_image_gb); nothing was fetched"
        )
    if total > worker.max_series_bytes:
        raise PermanentError(
            f"the series has {total / 2**30:.2f} GiB in {counted(len(sizes), 'image')}: "
            f"the limit is {worker.max_series_gb:g} GiB (worker.max_series_gb); nothing was fetched"
        )


def _read(orthanc: Orthanc, name: str, max_bytes: int) -> tuple[Dataset, str]:
    """An image and the MD5 of its file, by which Orthanc knows it, too."""
    data = orthanc.file(name)
    try:
        return read_image(data, max_bytes=max_bytes), md5(data, usedforsecurity=False).hexdigest()
    except Unreadable as error:
        detail = str(error)
        raise PermanentError(f"an image of the series {detail}" if detail else DAMAGED) from error
