"""What a destination for DICOM objects is sent, in which order, and what is kept of a delivery."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from dicom_cases import slice_of, to_bytes
from pydicom import dcmread

from medai.router.contract import Form
from medai.router.delivery import objects
from medai.router.delivery.objects import ObjectCarrier, Received, StowServer
from medai.router.errors import DestinationRefused, DestinationUnreachable, OrthancRefused, PermanentError
from medai.router.files.parcel import Parcel, pack, unpack
from medai.router.ledger.deliveries import Deliveries, Delivery
from medai.router.orthanc.client import Orthanc
from medai.router.settings.destinations import DicomDestination, StowDestination

ARCHIVED = {Form.SEG: "seg-id", Form.SR: "sr-id", Form.SC: "sc-id"}


@dataclass
class Way:
    """Remembers what it was given."""

    refuses: Exception | None = None
    given: list[Any] = field(default_factory=list)

    def send(self, resources: Sequence[str], passed_on: Mapping[Form, bytes]) -> str:
        self.given.append((list(resources), dict(passed_on)))
        return "taken"

    def reject(self, notes: Sequence[bytes]) -> str:
        if self.refuses:
            raise self.refuses
        self.given.append(list(notes))
        return "1 rejection note"


@dataclass
class Ledger:
    """The three questions that a carrier has."""

    older: list[bytes] = field(default_factory=list)
    withdrawn: bool = False

    def objects_of(self, _job_id: str) -> dict[Form, str]:
        return ARCHIVED

    def superseded(self, _delivery: Delivery) -> list[bytes]:
        return self.older

    def withdrawal_owed(self, _delivery: Delivery) -> bool:
        return self.withdrawn


class Gone:
    def file(self, _resource: str) -> bytes:
        raise OrthancRefused("404", status=404, code=17)


def carried(
    way: Way,
    *,
    payload: bytes | None = None,
    kind: str = "result",
    ledger: Ledger | None = None,
    archive: Any = None,
    **settings: Any,
) -> str | Received:
    delivery = Delivery(
        id=1, job_id="j", destination="p", kind=kind, control_id="", payload=payload, attempts=0, refusals=0, since=0.0
    )
    destination = DicomDestination(modality="P", **settings)
    return ObjectCarrier(way, destination, cast(Deliveries, ledger or Ledger()), cast(Orthanc, archive or Gone()))(
        delivery
    )


def note(text: bytes) -> bytes:
    packed = pack(Parcel(note=text))
    assert packed is not None
    return packed


def test_a_result_without_a_parcel_goes_as_it_is_in_the_archive() -> None:
    way = Way()
    assert carried(way) == "taken"
    assert way.given == [(["seg-id", "sr-id", "sc-id"], {})]


def test_only_the_wanted_forms_go_and_what_the_reading_lacks_is_told() -> None:
    way = Way()
    assert carried(way, results=("sr", "pdf", "gsps")) == "taken; without pdf, gsps"
    assert way.given == [(["sr-id"], {})]


def test_notes_of_earlier_revisions_follow_the_new_objects_and_those_without_one_do_not() -> None:
    way, ledger = Way(), Ledger(older=[note(b"one"), b"", note(b"two")])
    assert carried(way, ledger=ledger) == "taken; 1 rejection note for earlier revisions"
    assert way.given[1:] == [[b"one", b"two"]]
    way = Way()
    assert carried(way, ledger=ledger, rejection_notes=False) == "taken"
    assert len(way.given) == 1


def test_a_destination_that_takes_no_notes_has_its_result_and_one_that_is_away_has_not() -> None:
    ledger = Ledger(older=[note(b"one")])
    assert "it takes no rejection notes" in str(carried(Way(refuses=DestinationRefused("none")), ledger=ledger))
    with pytest.raises(DestinationUnreachable):
        carried(Way(refuses=DestinationUnreachable("away")), ledger=ledger)
    with pytest.raises(DestinationRefused):
        carried(Way(refuses=DestinationRefused("none")), kind="withdrawal", payload=note(b"mine"))


def test_a_withdrawal_sends_its_own_note_first() -> None:
    way = Way()
    carried(way, kind="withdrawal", payload=note(b"mine"), ledger=Ledger(older=[note(b"one")]))
    assert way.given == [[b"mine", b"one"]]


def test_what_is_withdrawn_meanwhile_is_not_sent_and_its_note_is_kept() -> None:
    way = Way()
    payload = pack(Parcel(forms={Form.PDF: b"page"}, note=b"mine"))
    found = carried(way, payload=payload, ledger=Ledger(withdrawn=True))
    assert found == Received(receipt="not sent: withdrawn before it was there", keep=note(b"mine"))
    assert way.given == []


def test_a_result_that_the_archive_no_longer_has_needs_a_person() -> None:
    with pytest.raises(PermanentError, match="no longer in the archive"):
        carried(Way(), payload=note(b"mine"))
    server = StowServer(cast(Orthanc, Gone()), StowDestination(stow_url="http://w"), "web")
    with pytest.raises(PermanentError, match="no longer in the archive"):
        server.send(["seg-id"], {})
    with pytest.raises(PermanentError, match="nothing to send to the DICOMweb server web"):
        server.send([], {})


@pytest.mark.parametrize(("patient", "left"), [("MRN-1", {Form.PDF, Form.RTSTRUCT}), ("MERGED", {Form.RTSTRUCT})])
def test_a_page_that_shows_the_patient_is_left_out_when_the_study_has_another(patient: str, left: set[Form]) -> None:
    class Archive:
        def file(self, _resource: str) -> bytes:
            return to_bytes(slice_of(1, study="p", PatientID=patient))

    content = to_bytes(slice_of(0, study="p", PatientID="MRN-1"))
    payload = pack(Parcel(forms={Form.PDF: content, Form.RTSTRUCT: content}, note=content))
    way = Way()
    found = carried(way, payload=payload, archive=Archive(), results=("rtstruct", "pdf"))
    assert isinstance(found, Received)
    assert found.receipt == "taken" + ("; without pdf" if Form.PDF not in left else "")
    assert set(way.given[0][1]) == left
    kept = unpack(found.keep).note
    assert dcmread(io.BytesIO(kept or b"")).PatientID == patient


def test_a_result_is_taken_back_by_its_note_or_not_at_all() -> None:
    assert objects.withdrawn(pack(Parcel(forms={Form.PDF: b"page"}, note=b"mine")) or b"", "N") == note(b"mine")
    assert objects.withdrawn(pack(Parcel(forms={Form.PDF: b"page"})) or b"", "N") is None
