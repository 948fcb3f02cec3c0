"""What a destination for DICOM objects gets of one reading, by C-STORE or by STOW-RS, and what it is told afterwards.

SEG, SR and key image are in the archive and are sent from there; the other forms, and the note that rejects all of it,
lie in the delivery's parcel. The note must name the patient under whom the objects went: a merge may have given the
study another between reading and delivery, and the archive's objects with it. So the parcel is brought under the
archive's patient when it is sent, and the note is kept as of then. A merge after that changes nothing in it: the
destination has the objects under the patient that it got them with, or has moved them by the RIS's word itself.
Next: dicom_node.py and stow.py (the two ways), files/parcel.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from medai.router.contract import Form
from medai.router.delivery import stow
from medai.router.errors import DestinationRefused, OrthancRefused, PermanentError
from medai.router.files import parcel as parcels
from medai.router.files.parcel import Parcel
from medai.router.ledger.deliveries import WITHDRAWAL, Deliveries, Delivery
from medai.router.orthanc.client import UNKNOWN_RESOURCE, Orthanc
from medai.router.settings.destinations import StowDestination, TakesObjects
from medai.router.words import counted

NAMES_PATIENT = frozenset({Form.PDF})
"""Forms whose picture names the patient: what is drawn can't be brought under another."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """A receipt, and what of the payload may still be wanted: the rest need not be kept."""

    receipt: str
    keep: bytes


class Way(Protocol):
    """How objects get to one destination; both raise TemporaryError or PermanentError."""

    def send(self, resources: Sequence[str], passed_on: Mapping[Form, bytes]) -> str:
        """Objects of the archive by their id there, and others as files; returns the receipt."""
        ...

    def reject(self, notes: Sequence[bytes]) -> str:
        """Rejection notes; returns how many, in words. DestinationRefused: it takes none."""
        ...


class StowServer:
    """STOW-RS. The archive's objects are fetched for it: in the ledger every picture would lie twice."""

    def __init__(self, orthanc: Orthanc, destination: StowDestination, name: str) -> None:
        self._orthanc = orthanc
        self._destination = destination
        self._name = name

    def send(self, resources: Sequence[str], passed_on: Mapping[Form, bytes]) -> str:
        """In one request."""
        files = [*(archived(self._orthanc, each) for each in resources), *passed_on.values()]
        if not files:
            raise PermanentError(f"there is nothing to send to the DICOMweb server {self._name}")
        return self._store(files)

    def reject(self, notes: Sequence[bytes]) -> str:
        """In one request."""
        self._store(notes)
        return counted(len(notes), "rejection note")

    def _store(self, files: Sequence[bytes]) -> str:
        from medai.router.delivery import dicom_files  # slow to import, and most sites have no such server

        return stow.send(
            {dicom_files.reference(content)[1]: content for content in files}, self._destination, name=self._name
        )


class ObjectCarrier:
    """Carries one destination's deliveries (courier.Carrier)."""

    def __init__(self, way: Way, destination: TakesObjects, deliveries: Deliveries, orthanc: Orthanc) -> None:
        self._way = way
        self._destination = destination
        self._deliveries = deliveries
        self._orthanc = orthanc

    def __call__(self, delivery: Delivery) -> str | Received:
        """Deliver a result, or the word that it is withdrawn."""
        if delivery.kind == WITHDRAWAL:
            return self._way.reject([*_notes([delivery.payload or b""]), *self._older(delivery)])
        keep = parcels.note_alone(delivery.payload) or b""
        if self._deliveries.withdrawal_owed(delivery):
            return Received(receipt="not sent: withdrawn before it was there", keep=keep)
        objects = self._deliveries.objects_of(delivery.job_id)
        parcel = self._as_archived(parcels.unpack(delivery.payload), objects)
        receipt = self._send(objects, parcel) + self._reject_older(delivery)
        if delivery.payload is None:
            return receipt
        return Received(receipt=receipt, keep=parcels.pack(Parcel(note=parcel.note)) or b"")

    def _send(self, objects: Mapping[Form, str], parcel: Parcel) -> str:
        wanted = self._destination.results
        passed_on = {form: parcel.forms[form] for form in wanted if form in parcel.forms}
        if Form.SEG_DEFLATED in wanted and Form.SEG in objects:
            from medai.router.delivery import dicom_files

            passed_on[Form.SEG_DEFLATED] = dicom_files.deflated(archived(self._orthanc, objects[Form.SEG]))
        receipt = self._way.send([objects[form] for form in wanted if form in objects], passed_on)
        missing = [form.value for form in wanted if form not in objects and form not in passed_on]
        return receipt + (f"; without {', '.join(missing)}" if missing else "")

    def _reject_older(self, delivery: Delivery) -> str:
        """Only now, when the destination has what takes their place. One that takes no notes is told nothing."""
        notes = self._older(delivery) if self._destination.rejection_notes else []
        if not notes:
            return ""
        try:
            return f"; {self._way.reject(notes)} for earlier revisions"
        except DestinationRefused:
            return "; it takes no rejection notes, and shows earlier revisions beside this one"

    def _older(self, delivery: Delivery) -> list[bytes]:
        """Sent again with each later revision, and with a withdrawal: that costs little, and nothing is forgotten."""
        return _notes(self._deliveries.superseded(delivery))

    def _as_archived(self, parcel: Parcel, objects: Mapping[Form, str]) -> Parcel:
        """Under the patient whom the archive names by now."""
        if (not parcel.forms and parcel.note is None) or not objects:
            return parcel
        from medai.router.delivery import dicom_files

        like = archived(self._orthanc, objects.get(Form.SR) or next(iter(objects.values())))
        forms = {form: dicom_files.under_patient(content, like) for form, content in parcel.forms.items()}
        for form in NAMES_PATIENT & forms.keys():
            if forms[form] != parcel.forms[form]:  # it would show another patient than it is filed under
                del forms[form]
        note = None if parcel.note is None else dicom_files.under_patient(parcel.note, like)
        return Parcel(forms=forms, note=note)


def archived(orthanc: Orthanc, resource: str) -> bytes:
    """An object's file; raises PermanentError where the archive no longer has it."""
    try:
        return orthanc.file(resource)
    except OrthancRefused as error:
        if error.code != UNKNOWN_RESOURCE:
            raise
        raise PermanentError("the results are no longer in the archive, and cannot be sent") from error


def withdrawn(payload: bytes, _number: str) -> bytes | None:
    """What takes a delivered result back: its note. None where a reading has none."""
    return parcels.note_alone(payload)


def _notes(payloads: Sequence[bytes]) -> list[bytes]:
    notes = (parcels.unpack(payload).note for payload in payloads)
    return [note for note in notes if note is not None]
