"""The OHIF viewer, served from here, and the images that it asks for, passed on from Orthanc's DICOMweb.

A browser never talks to the archive: it needs no address and no password of it, and sees the studies that its person
opened in the viewer and no other, whatever it searches for. Opening is written down, since the viewer shows the
patient's name, and so is each later look. What is asked of the archive is put together here, never passed on as it
came. OHIF's files are not part of this project: set-up fetches its published build (docs/console.md).
Next: auth.py, pictures.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import urllib3
from cachetools import TTLCache
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from pydicom import dcmread

from medai.router.console.api import REFUSALS, JobName, StudyNumber, ledger_of, now_of, settings_of
from medai.router.console.auth import Operator, address_of
from medai.router.console.caches import Shelf
from medai.router.console.looks import MOST_LOOKS, looked
from medai.router.console.outlines import frame_bits
from medai.router.console.pages import Someone
from medai.router.console.responses import Fault
from medai.router.errors import OrthancUnreachable
from medai.router.ledger.accounts import Account
from medai.router.orthanc.client import Orthanc
from medai.router.reports import story
from medai.router.reports.readings import ResultObject
from medai.router.settings.tables import ConsoleSettings
from medai.router.words import counted

CONFIG = "app-config.js"
PASSED_ON = ("Content-Type", "Content-Length", "Content-Encoding", "Content-Location")
CHUNK_BYTES = 256 * 1024
OPEN_S = 12 * 3600.0
"""A study that was opened may be looked at for so long; then its page in the viewer is loaded again."""
NARROWING = frozenset(
    ("includefield", "limit", "offset", "SeriesInstanceUID", "0020000E", "SOPInstanceUID", "00080018", "Modality",
     "00080060", "SOPClassUID", "00080016", "SeriesNumber", "00200011", "accept", "viewport", "window", "quality",
     "annotation")
)  # fmt: skip
"""What a request within a study may ask; whatever names studies or patients is left out (DICOMweb lets the last one
win: a study of the query would stand for that of the path)."""
UID = r"[0-9]+(?:\.[0-9]+)*"
WITHIN_STUDY = re.compile(
    rf"{UID}(?:/(?:series|instances|metadata|frames|bulk|rendered|thumbnail|{UID}|[0-9A-Fa-f,]+))*"
)
INSTANCE = re.compile(
    rf"(?P<study>{UID})/series/{UID}/instances/(?P<instance>{UID})(?:/frames/(?P<numbers>[0-9]+(?:,[0-9]+)*))?"
)
BOUNDARY = "medai-frame-boundary"
KEPT = 4
"""So many segmentations stay in memory for the viewer."""
ASKED = 1000
"""So many are known to be some; one that is asked for again is fetched again."""
NAME = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")
BLANK = {"init-service-worker.js": "text/javascript"}
"""Asked for by OHIF's page, but would fetch code from elsewhere: answered empty."""
viewer_api = APIRouter(
    prefix="/dicom-web", tags=["images"],
    responses={**REFUSALS, 502: {"model": Fault, "description": "The archive answered with an error."}},
)  # fmt: skip
viewer_pages = APIRouter(include_in_schema=False)
viewer_files = APIRouter(include_in_schema=False)
"""Must be included last: it takes every name that is a file of the viewer."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The frames of a binary segmentation, whose bits follow each other without a gap (PS3.5 8.1.1)."""

    study: str
    frames: int
    pixels: int
    """Of one frame."""
    data: bytes = field(repr=False)

    def frame(self, number: int) -> bytes:
        """Frame ``number`` (from 1), its first pixel in the first bit."""
        return frame_bits(self.data, number - 1, self.pixels).to_bytes((self.pixels + 7) // 8, "little")


class NoBits(Exception):
    """An instance is no uncompressed binary segmentation, or is not there."""


class Bits:
    """Binary segmentations, whose frames are cut out here where they begin within a byte.

    OHIF 3.13 asks for a segmentation whole and for its frames when that fails. From a whole one it cuts such frames at
    the wrong bit, and draws the segments beside their place; and Orthanc 1.10.1 refuses frames whose rows are no whole
    bytes (both measured). So such a segmentation is refused whole, and its frames are made here.
    """

    def __init__(self) -> None:
        self._kept: Shelf[Packed] = Shelf(KEPT)
        self._asked: Shelf[bool] = Shelf(ASKED)

    def was_asked(self, instance: str) -> bool:
        """Whether one of this SOP Instance UID was asked for lately."""
        return instance in self._asked

    def of(self, study: str, instance: str, orthanc: Orthanc) -> Packed | None:
        """That of a SOP Instance UID; None where it is no uncompressed binary segmentation of this study."""
        try:
            packed = self._kept.get(instance, lambda: _fetched(instance, orthanc))
        except NoBits:
            return None
        self._asked.get(instance, lambda: True)
        return packed if packed.study == study else None


def _fetched(instance: str, orthanc: Orthanc) -> Packed:
    found = orthanc.instance_with_uid(instance)
    if found is None:
        raise NoBits
    dataset = dcmread(BytesIO(orthanc.file(found)))
    if dataset.get("BitsAllocated") != 1 or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        raise NoBits
    return Packed(
        study=str(dataset.StudyInstanceUID), frames=int(dataset.NumberOfFrames),
        pixels=int(dataset.Rows) * int(dataset.Columns), data=bytes(dataset.PixelData),
    )  # fmt: skip


class Opened:
    """Who opened which study in the viewer: they may see its images, and nobody else's."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._open: TTLCache[tuple[str, str], bool] = TTLCache(MOST_LOOKS, OPEN_S, timer)
        self._lock = threading.Lock()

    def open(self, account: str, study_uid: str) -> None:
        """From now on."""
        with self._lock:
            self._open[(account, study_uid)] = True

    def __contains__(self, look: tuple[str, str]) -> bool:
        with self._lock:
            return look in self._open


def folder(settings: ConsoleSettings) -> Path | None:
    """Where the viewer lies; None: it is not installed."""
    place = Path(settings.viewer) if settings.viewer else Path(sys.prefix) / "share" / "ohif"
    return place if (place / "index.html").is_file() else None


def installed(request: Request) -> Path:
    """The viewer's folder; 404 with what to do where there is none."""
    place: Path | None = request.app.state.viewer
    if place is None:
        raise HTTPException(
            404, "the viewer is not installed: run ./medai setup, or name its folder in [console] viewer"
        )
    return place


Installed = Annotated[Path, Depends(installed)]


# -- images


@viewer_api.get("/studies")
def find_studies(
    request: Request,
    who: Operator,
    study: Annotated[str, Query(alias="StudyInstanceUID", pattern=rf"^{UID}$", max_length=64)] = "",
    patient: Annotated[str, Query(alias="00100020", pattern=r"^[^*?\\]+$", max_length=64)] = "",
) -> Response:
    """QIDO-RS for a study that was opened, or for those of one patient that were opened; no other is listed."""
    if study:
        _look(request, who, study)
        asked = {"StudyInstanceUID": study}
    elif patient:
        asked = {"00100020": patient}
    else:
        raise HTTPException(422, "name a study (StudyInstanceUID) or a patient (00100020)")
    fields = [("includefield", field) for field in request.query_params.getlist("includefield")]
    query = urlencode([*asked.items(), *fields])
    found = request.app.state.orthanc.get(f"{_root(request)}studies?{query}")
    mine = [each for each in found if (who.name, _study_uid(each)) in request.app.state.opened]
    for each in mine:
        _look(request, who, _study_uid(each))
    return Response(json.dumps(mine), media_type="application/dicom+json")


def _study_uid(answer: Mapping[str, Any]) -> str:
    return str(answer.get("0020000D", {}).get("Value", [""])[0])


@viewer_api.get("/studies/{path:path}")
def within_study(path: str, request: Request, who: Operator) -> Response:
    """QIDO-RS and WADO-RS within a study that was opened in the viewer."""
    if not WITHIN_STUDY.fullmatch(path):
        raise HTTPException(404, "no such resource of a study")
    _look(request, who, path.partition("/")[0])
    named = INSTANCE.fullmatch(path)
    if named and (bits := _bits(request, named)) and bits.pixels % 8:
        if not named["numbers"]:
            raise HTTPException(406, "frames of this segmentation begin within a byte: ask for them one by one")
        return _frames(bits, named["numbers"])
    query = urlencode([item for item in request.query_params.multi_items() if item[0] in NARROWING])
    return _passed_on(request, f"studies/{path}" + (f"?{query}" if query else ""))


def _bits(request: Request, named: re.Match[str]) -> Packed | None:
    """The instance's packed frames. Of thousands of frames of images none is looked up: a segmentation is asked for
    whole first, and stays known for a while."""
    bits: Bits = request.app.state.bits
    if named["numbers"] and not bits.was_asked(named["instance"]):
        return None
    return bits.of(named["study"], named["instance"], request.app.state.orthanc)


def _frames(bits: Packed, numbers: str) -> Response:
    """WADO-RS frames (PS3.18 10.4.1.1.6), each beginning with a byte of its own."""
    wanted = [int(number) for number in numbers.split(",")]
    if not all(1 <= number <= bits.frames for number in wanted):
        raise HTTPException(404, f"the segmentation has {counted(bits.frames, 'frame')}")
    head = f"--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    body = b"".join(head + bits.frame(number) + b"\r\n" for number in wanted) + f"--{BOUNDARY}--\r\n".encode()
    kind = f'multipart/related; type="application/octet-stream"; boundary={BOUNDARY}'
    return Response(body, headers={"Content-Type": kind})


def _look(request: Request, who: Account, study_uid: str) -> None:
    """Write down who looks at which study; 403 for one that they did not open, 404 for one that nobody knows."""
    study_id = _known(request, study_uid)
    opened = (who.name, study_uid) in request.app.state.opened
    action = "viewer" if opened else "viewer refused"
    looked(request, who, action, study_id)
    if not opened:
        raise HTTPException(403, "open this study in the viewer first")


def _open(request: Request, who: Account, study_uid: str) -> None:
    """Let somebody see a study's images; each time it is written down."""
    study_id = _known(request, study_uid)
    ledger_of(request).accounts.note_action(who.name, "viewer", now_of(request), study_id=study_id)
    request.app.state.looks.is_new(who.name, address_of(request), "viewer", study_id)
    request.app.state.opened.open(who.name, study_uid)


def _known(request: Request, study_uid: str) -> int:
    study_id = story.study_number(ledger_of(request), study_uid)
    if study_id is None:
        raise HTTPException(404, "the router knows no such study")
    return study_id


def _passed_on(request: Request, path: str) -> Response:
    """Orthanc's answer, streamed; the addresses in it are made to lead back here."""
    here = f"host={request.headers.get('Host', '')};proto={request.url.scheme}"
    asked = {"Accept": request.headers.get("Accept", "*/*"), "Forwarded": here}
    answer = request.app.state.orthanc.passed_on(_root(request) + path, asked)
    if answer.status >= 400:
        answer.drain_conn()
        answer.release_conn()
        raise HTTPException(404 if answer.status == 404 else 502, f"the archive answered {answer.status}")
    headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
    return StreamingResponse(_chunks(answer), status_code=answer.status, headers=headers)


def _root(request: Request) -> str:
    return "/" + settings_of(request).console.dicom_web.strip("/") + "/"


def _chunks(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer.stream(CHUNK_BYTES, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise OrthancUnreachable("the archive stopped in the middle of an answer") from error
    finally:
        answer.release_conn()


# -- pages


@viewer_pages.get("/studies/{study_id}/viewer", dependencies=[Depends(installed)])
def open_study(study_id: StudyNumber, request: Request, _who: Someone) -> Response:
    """To the viewer, with this study; what the AI drew lies over its images at once."""
    study = story.study(ledger_of(request), study_id)
    if study is None:
        raise HTTPException(404, "there is no such study")
    return _to_viewer(study.study_uid, None)


@viewer_pages.get("/readings/{job_id}/viewer", dependencies=[Depends(installed)])
def open_reading(job_id: JobName, request: Request, _who: Someone) -> Response:
    """To the viewer, with this reading's segmentation."""
    found = story.read_objects(ledger_of(request), job_id)
    if found is None:
        raise HTTPException(404, "there is no such reading")
    return _to_viewer(found.study_uid, found.results.get("seg"))


def _to_viewer(study_uid: str, seg: ResultObject | None) -> Response:
    query = {"StudyInstanceUIDs": study_uid}
    if seg is not None and seg.series_uid:
        query["initialSeriesInstanceUID"] = seg.series_uid
    return RedirectResponse("/viewer?" + urlencode(query, quote_via=quote), status_code=303)


@viewer_pages.get("/viewer")
def viewer(
    request: Request,
    place: Installed,
    who: Someone,
    studies: Annotated[str, Query(alias="StudyInstanceUIDs", pattern=rf"^({UID}(,{UID})*)?$", max_length=1024)] = "",
) -> Response:
    """OHIF's own page, which opens the studies that it names to whoever may see whose they are."""
    if studies:
        for study_uid in studies.split(","):
            _open(request, who, study_uid)
    page = (place / "index.html").read_text(encoding="utf-8")
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": _policy(page)})


@viewer_pages.get(f"/{CONFIG}", dependencies=[Depends(installed)])
def config() -> Response:
    """How OHIF finds the images: here."""
    return Response(f"window.config = {json.dumps(CONFIGURATION)};\n", media_type="text/javascript")


@viewer_files.get("/{name:path}")
def file(name: str, place: Installed) -> Response:
    """A file of the viewer; there is no secret among them."""
    if name in BLANK:
        return Response("", media_type=BLANK[name])
    found = place / name
    if not NAME.fullmatch(name) or name == "index.html" or not found.is_file():
        raise HTTPException(404, "there is no such page")
    hashed = re.search(r"\.[0-9a-f]{16}\.|^[0-9a-f]{16}\.", name)
    return FileResponse(
        found, headers={"Cache-Control": "public, max-age=31536000, immutable" if hashed else "no-cache"}
    )


def _policy(page: str) -> str:
    """What OHIF may do: run its own scripts (inline ones by their hash) and workers; fetch from here, and no further.

    It needs eval: its array library writes the code of its loops (measured: without it no segmentation is drawn).
    """
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in inline)
    return (
        f"default-src 'self'; script-src 'self' 'unsafe-eval' {hashes}; worker-src 'self' blob:; "
        "connect-src 'self' data: blob:; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        "font-src 'self' data:; frame-ancestors 'none'; form-action 'self'"
    )


CONFIGURATION: dict[str, Any] = {
    "name": "Med-AI",
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "customizationService": {"ohif.tours": {"$set": []}},  # who reads studies needs no tour of the scrollbar
    "showStudyList": False,
    "maxNumberOfWebWorkers": 3,
    "showErrorDetails": "production",
    "strictZSpacingForVolumeViewport": True,
    "disableConfirmationPrompts": True,  # a segmentation that is opened is drawn, without a question
    "investigationalUseDialog": {"option": "configure", "days": 90},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "wadoUriRoot": "/dicom-web",
                "qidoSupportsIncludeField": False,
                "supportsReject": False,
                "supportsStow": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "singlepart": "bulkdata,video,pdf",
                "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
                "omitQuotationForMultipartRequest": True,
            },
        }
    ],
}
"""OHIF's configuration (docs.ohif.org, Configuration files)."""
