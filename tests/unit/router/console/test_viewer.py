"""The viewer's images, attacked: no search and no trick with a query shows a study that was not opened."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from console_cases import Archive, World
from fastapi.testclient import TestClient

from medai.router.ledger.accounts import Role
from medai.router.reports.story import actions

MINE, OTHER = "1.2.3", "1.2.4"


class Answer:
    """Orthanc's, as urllib3 gives it."""

    status = 200
    headers: ClassVar = {"Content-Type": "application/dicom+json"}

    def stream(self, _amount: int, *, decode_content: bool) -> Any:
        assert not decode_content
        yield b"[]"

    def release_conn(self) -> None:
        """Nothing is held."""


@dataclass
class DicomWeb(Archive):
    """An archive that lists whatever a query lets it, as DICOMweb does: the last of several wins, * is any."""

    asked: list[str] = field(default_factory=list)

    def get(self, path: str) -> list[dict[str, Any]]:
        self.asked.append(path)
        return [{"0020000D": {"vr": "UI", "Value": [uid]}, "00100020": {"Value": ["77"]}} for uid in (MINE, OTHER)]

    def passed_on(self, path: str, _headers: object) -> Answer:
        self.asked.append(path)
        return Answer()


@pytest.fixture
def archive(world: World, tmp_path: Path) -> DicomWeb:
    archive = DicomWeb()
    world.app.state.orthanc = archive
    (tmp_path / "index.html").write_text("<html></html>")
    world.app.state.viewer = tmp_path
    for uid in (MINE, OTHER):
        world.job(uid)
    return archive


def opened(world: World) -> TestClient:
    client = world.client(Role.OPERATOR)
    client.cookies.set("medai_session", client.headers["Authorization"].partition(" ")[2])
    assert client.get(f"/viewer?StudyInstanceUIDs={MINE}").status_code == 200
    return client


def lines(world: World) -> list[tuple[str, str, int | None]]:
    rows = [row for row in actions(world.ledger) if row.action not in ("login", "reading", "delivered")]
    return [(row.account, row.action, row.study_id) for row in rows][::-1]


@pytest.mark.parametrize(
    "query",
    [
        f"StudyInstanceUID={MINE}", f"StudyInstanceUID=*&StudyInstanceUID={MINE}", f"StudyInstanceUID={MINE}&0020000D=*",
        f"0020000D=*&StudyInstanceUID={MINE}", f"StudyInstanceUID={MINE}&PatientName=*&fuzzymatching=true",
        "00100020=77", "00100020=*&00100020=77", "PatientID=*&00100020=77", "00100020=77&00100010=*",
    ],
)  # fmt: skip
def test_no_search_lists_a_study_that_was_not_opened(world: World, archive: DicomWeb, query: str) -> None:
    client = opened(world)
    found = json.loads(client.get(f"/dicom-web/studies?{query}&includefield=00081030").text)
    assert [each["0020000D"]["Value"] for each in found] == [[MINE]]
    (asked,) = archive.asked
    names = parse_qs(urlsplit(asked).query)
    assert names.pop("includefield") == ["00081030"]
    assert names in ({"StudyInstanceUID": [MINE]}, {"00100020": ["77"]}), "what is asked is put together here"


@pytest.mark.parametrize("query", ["00100020=77", "00100020=MRN-PLANT-1", "00100020=%25"])
def test_a_search_by_patient_lists_nothing_to_who_opened_nothing(world: World, archive: DicomWeb, query: str) -> None:
    assert world.client(Role.OPERATOR).get(f"/dicom-web/studies?{query}").json() == []


@pytest.mark.parametrize(
    "query", ["", "StudyInstanceUID=*", "00100020=*", "00100020=7?", "PatientID=77", "0020000D=" + MINE]
)
def test_a_search_without_one_study_or_one_patient_is_refused(world: World, archive: DicomWeb, query: str) -> None:
    assert opened(world).get(f"/dicom-web/studies?{query}").status_code == 422
    assert archive.asked == []


@pytest.mark.parametrize("path", ["", "/series", "/metadata", "/series/1.2/instances/1.3/frames/1"])
def test_a_study_that_was_not_opened_is_refused_and_the_try_is_written_down(
    world: World, archive: DicomWeb, path: str
) -> None:
    client = opened(world)
    for _ in range(3):
        assert client.get(f"/dicom-web/studies/{OTHER}{path}").status_code == 403
    assert archive.asked == []
    assert lines(world) == [("operator", "viewer", 1), ("operator", "viewer refused", 2)]
    admin = world.client(Role.ADMINISTRATOR).get(f"/dicom-web/studies/{MINE}{path}")
    assert admin.status_code == 403, "who opened it is one person"


@pytest.mark.parametrize("query", ["0020000D=1.2.4", "StudyInstanceUID=*&0020000D=*&PatientID=77", "00100020=77"])
def test_within_a_study_no_query_leads_to_another(world: World, archive: DicomWeb, query: str) -> None:
    client = opened(world)
    assert client.get(f"/dicom-web/studies/{MINE}/series?{query}&includefield=00100010&limit=3").status_code == 200
    assert archive.asked == [f"/dicom-web/studies/{MINE}/series?includefield=00100010&limit=3"]


def test_each_opening_is_written_down_and_later_looks_now_and_then(world: World, archive: DicomWeb) -> None:
    client = opened(world)
    for _ in range(5):
        client.get(f"/dicom-web/studies/{MINE}/series")
    assert lines(world) == [("operator", "viewer", 1)]
    client.get(f"/viewer?StudyInstanceUIDs={MINE}")
    world.now += 1000
    client.get(f"/dicom-web/studies/{MINE}/series")
    assert lines(world) == [("operator", "viewer", 1)] * 3
    world.now += 12 * 3600 - 1000
    assert client.get(f"/dicom-web/studies/{MINE}/series").status_code in (401, 403)


def test_a_reader_opens_nothing(world: World, archive: DicomWeb) -> None:
    client = world.client(Role.READER)
    client.get(f"/viewer?StudyInstanceUIDs={MINE}")
    assert client.get(f"/dicom-web/studies/{MINE}/series").status_code == 403
    assert client.get("/dicom-web/studies?00100020=77").status_code == 403
    assert lines(world) == []


def test_the_viewer_opens_no_study_that_nobody_knows(world: World, archive: DicomWeb) -> None:
    client = world.client(Role.OPERATOR)
    assert client.get("/viewer?StudyInstanceUIDs=1.9").status_code == 404
    assert client.get("/viewer?StudyInstanceUIDs=*").status_code == 422
