"""Cases straight from an Orthanc: the series there that a person has drawn a SEG or RTSTRUCT on.

What an algorithm drew by itself (Segment Algorithm Type AUTOMATIC, as our own results are) is left out: a model must
not learn from a model. Headers are read when the data set is opened, pixels when a case is loaded. The login comes
from the URL or from MEDAI_ORTHANC__USERNAME and MEDAI_ORTHANC__PASSWORD and is never shown. Next: dicom_cases.py.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import pydicom
import urllib3
from pydicom.errors import InvalidDicomError

from medai.training.cases import Dataset
from medai.training.data.dicom_cases import ImageSeries, LabelObject, Wish, cases_of, image_series, references
from medai.training.errors import DataError

CONNECTIONS = 4
TIMEOUT_S = 60.0


class Archive:
    """The few calls of Orthanc's REST API that reading needs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        user = unquote(parts.username or "") or os.environ.get("MEDAI_ORTHANC__USERNAME", "")
        password = unquote(parts.password or "") or os.environ.get("MEDAI_ORTHANC__PASSWORD", "")
        self.address = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, self.address, parts.path.rstrip("/"), "", ""))
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            headers=urllib3.make_headers(basic_auth=f"{user}:{password}") if user else {},
            timeout=urllib3.Timeout(connect=5.0, read=TIMEOUT_S),
            retries=urllib3.Retry(total=2, redirect=0),
        )

    def get(self, path: str) -> bytes:
        """Raises DataError."""
        return self._call("GET", path, None)

    def find(self, level: str, **query: str) -> list[str]:
        """Orthanc's ids of the resources that match."""
        body = json.dumps({"Level": level, "Query": query, "CaseSensitive": True}).encode()
        found: list[str] = json.loads(self._call("POST", "/tools/find", body))
        return found

    def file(self, instance: str) -> pydicom.Dataset:
        """An instance, whole."""
        try:
            return pydicom.dcmread(BytesIO(self.get(f"/instances/{instance}/file")))
        except (InvalidDicomError, ValueError, EOFError) as error:
            raise DataError(f"an image of the Orthanc at {self.address} is damaged") from error

    def instances(self, series: str) -> list[str]:
        """Orthanc's ids of a series' instances."""
        found: Any = json.loads(self.get(f"/series/{series}"))
        return [str(one) for one in found["Instances"]]

    def _call(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            answer = self._pool.request(method, self._base + path, body=body)
        except urllib3.exceptions.HTTPError:
            # The cause is not kept: its text may quote the URL.
            raise DataError(f"the Orthanc at {self.address} does not answer: is it running there?") from None
        if answer.status in (401, 403):
            raise DataError(
                f"the Orthanc at {self.address} refuses the login: put it in the URL, or in "
                "MEDAI_ORTHANC__USERNAME and MEDAI_ORTHANC__PASSWORD"
            )
        if answer.status >= 400:
            raise DataError(f"the Orthanc at {self.address} answered {answer.status}")
        return answer.data


def read_orthanc(url: str, wish: Wish) -> Dataset:
    """All series with expert labels. Raises DataError."""
    archive = Archive(url)
    objects: list[LabelObject] = []
    images: dict[str, ImageSeries] = {}
    for modality in ("SEG", "RTSTRUCT"):
        for series in archive.find("Series", Modality=modality):
            for instance in archive.instances(series):
                whole = archive.file(instance)
                objects.append(LabelObject(header=whole, read=partial(archive.file, instance)))
                for uid in references(whole):
                    if uid not in images:
                        images.update(_image_series(archive, uid))
                whole.pop("PixelData", None)
    wanted = Wish(labels=wish.labels, experts_only=True)
    return cases_of(f"orthanc-{archive.address}", list(images.values()), objects, wanted)


def _image_series(archive: Archive, uid: str) -> dict[str, ImageSeries]:
    """Nothing where the series is not in this archive."""
    found = archive.find("Series", SeriesInstanceUID=uid)
    if not found:
        return {}
    instances = archive.instances(found[0])
    header = archive.file(instances[0])
    return {uid: image_series(header, partial(_load, archive, instances))}


def _load(archive: Archive, instances: list[str]) -> list[pydicom.Dataset]:
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return list(threads.map(archive.file, instances))
