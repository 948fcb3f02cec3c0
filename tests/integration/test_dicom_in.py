"""Who may send to a real Orthanc that is configured as ``medai up`` does, and what a stranger gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_cases import slice_of
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE, build_role
from servers import OrthancServer, make_orthanc, running

from medai.router.cli import check
from medai.router.settings.tables import Settings

MR = "1.2.840.10008.5.1.4.1.1.4"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
NAMED = {"senders": [{"ae_title": "CT1", "host": "127.0.0.1"}, {"ae_title": "ELSEWHERE", "host": "10.9.8.7"}]}


def settings(**dicom_in: Any) -> Settings:
    return Settings(dicom_in=dicom_in)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[OrthancServer]:
    with running(make_orthanc(tmp_path / "orthanc", **settings(**NAMED).dicom_in.orthanc())) as orthanc:
        yield orthanc


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[OrthancServer]:
    with running(make_orthanc(tmp_path / "orthanc", **settings(open=True).dicom_in.orthanc())) as orthanc:
        yield orthanc


def taken(orthanc: OrthancServer, *, calling: str, called: str = "ORTHANC", deflated: bool = False) -> bool:
    """Whether an image is stored."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(MR, DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", orthanc.dicom_port, ae_title=called)
    if not association.is_established:
        return False
    answer = association.send_c_store(slice_of(0, study=f"{calling} {called}")) if association.accepted_contexts else {}
    if association.is_established:
        association.release()
    return "Status" in answer


def found(orthanc: OrthancServer, *, calling: str, level: str) -> list[int]:
    """The statuses of a query for all patients, or of a retrieval of them."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(level)
    ae.add_requested_context(MR)
    association = ae.associate(
        "127.0.0.1", orthanc.dicom_port, ae_title="ORTHANC", ext_neg=[build_role(MR, scp_role=True)]
    )
    if not association.is_established:
        return []
    query = Dataset()
    query.QueryRetrieveLevel, query.PatientName, query.StudyInstanceUID = "STUDY", "*", ""
    ask = {FIND: association.send_c_find, GET: association.send_c_get}.get(level)
    answers = ask(query, level) if ask else association.send_c_move(query, calling, level)
    statuses = [int(status.Status) for status, _ in answers if "Status" in status]
    if association.is_established:
        association.release()
    return statuses


def test_a_node_that_nobody_named_stores_nothing(closed: OrthancServer) -> None:
    assert not taken(closed, calling="EVIL")
    assert closed.get("/instances") == []
    assert taken(closed, calling="CT1")
    assert len(closed.get("/instances")) == 1


def test_a_named_node_is_let_in_from_its_own_address_alone(closed: OrthancServer) -> None:
    assert not taken(closed, calling="ELSEWHERE")
    assert closed.get("/instances") == []


def test_whoever_calls_the_archive_by_another_name_is_refused(opened: OrthancServer) -> None:
    assert not taken(opened, calling="CT1", called="WHATEVER")
    assert taken(opened, calling="CT1")


@pytest.mark.parametrize("calling", ["EVIL", "CT1"])
@pytest.mark.parametrize("level", [FIND, MOVE, GET])
def test_nobody_asks_the_archive_for_patients_by_dicom(closed: OrthancServer, level: str, calling: str) -> None:
    assert taken(closed, calling="CT1")
    assert [status for status in found(closed, calling=calling, level=level) if status < 0xA000] == []


def test_a_deflated_image_that_unpacks_to_a_gigabyte_is_not_taken(opened: OrthancServer) -> None:
    assert not taken(opened, calling="CT1", deflated=True)
    assert taken(opened, calling="CT1"), "the same image as it is usually sent"


def findings(orthanc: OrthancServer, **dicom_in: Any) -> list[tuple[str, str]]:
    made = Settings(orthanc={"url": orthanc.url}, dicom_in=dicom_in)
    return [(f.level, f.text) for f in check.check(made) if f.what == "dicom in"]


def test_check_says_whom_the_port_lets_in(opened: OrthancServer) -> None:
    ((level, text),) = findings(opened, open=True)
    assert (level, "a choice" in text) == ("ok", True)
    ((level, text),) = findings(opened)
    assert (level, "name [[dicom_in.senders]]" in text) == ("warning", True)
    ((level, text),) = findings(opened, **NAMED)
    assert (level, "DicomAlwaysAllowStore is true there" in text) == ("warning", True)


def test_check_finds_a_port_that_is_closed_to_strangers(closed: OrthancServer) -> None:
    assert findings(closed, **NAMED) == [("ok", "a stranger may not send images")]


def test_check_names_an_archive_that_answers_to_any_name(tmp_path: Path) -> None:
    with running(make_orthanc(tmp_path / "orthanc")) as orthanc:
        assert ("warning", True) in [(level, "DicomCheckCalledAet" in text) for level, text in findings(orthanc)]
