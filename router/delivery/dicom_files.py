"""Change a DICOM file on its way out: another transfer syntax, or the patient that the archive names by now.

The only module of the daemon that reads DICOM, by the library that comes with pynetdicom anyway and without an array
library; it is imported by a courier that has something of ours to send, and by nobody else. What needs no change
leaves byte for byte. Next: dicom_node.py and stow.py (who send).
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from pydicom import Dataset, dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
"""What a patient's update or merge changes in the archive (hl7/patients.py)."""


def reference(content: bytes) -> tuple[str, str]:
    """SOP Class and SOP Instance UID of a file."""
    dataset = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)


def deflated(content: bytes) -> bytes:
    """The same object in Deflated Explicit VR Little Endian; one in compressed frames stays as it is."""
    dataset = dcmread(io.BytesIO(content))
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return content
    return _written(dataset, DeflatedExplicitVRLittleEndian)


def variants(content: bytes) -> Iterator[bytes]:
    """A file as it is, then in the syntaxes that a node which refuses that may take: Explicit, then Implicit VR.

    One in Implicit VR is in what every node takes (PS3.5 10.1), and may hold what Explicit VR has no room for. Of
    compressed frames only those in RLE are unpacked: the others need libraries that only workers have.
    """
    yield content
    dataset = dcmread(io.BytesIO(content))
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        _unpack(dataset)
    elif syntax.is_encapsulated or syntax == ImplicitVRLittleEndian:
        return
    for other in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        if other != syntax:
            yield _written(dataset, other)


def under_patient(content: bytes, like: bytes) -> bytes:
    """A file under the patient that another file of the same study names; as it is where that is the same one.

    ``like`` is an object of the same reading, as the archive holds it: after an update or a merge of the patient it
    says something else than what the worker wrote.
    """
    wanted = dcmread(io.BytesIO(like), stop_before_pixels=True, specific_tags=["SpecificCharacterSet", *PATIENT])
    known = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=["SpecificCharacterSet", *PATIENT])
    other = [name for name in PATIENT if name in wanted and _text(wanted, name) != _text(known, name)]
    if not other:
        return content
    dataset = dcmread(io.BytesIO(content))
    dataset.decode()  # by its own character set, before it has the other file's
    if "SpecificCharacterSet" in wanted:
        dataset.SpecificCharacterSet = wanted.SpecificCharacterSet
    for name in other:
        setattr(dataset, name, _text(wanted, name))
    return _written(dataset, dataset.file_meta.TransferSyntaxUID)


def _text(dataset: Dataset, name: str) -> str:
    """Spaces and empty components at the end carry no meaning (PS3.5 6.2)."""
    return str(dataset.get(name) or "").rstrip("^ ")


def _unpack(dataset: Dataset) -> None:
    """Frames in RLE as plain ones; pydicom does it without an array library."""
    frames = b"".join(bytes(frame) for frame, _ in get_decoder(RLELossless).iter_buffer(dataset))
    dataset.PixelData = frames + b"\0" * (len(frames) % 2)
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated <= 8 else "OW"
    dataset["PixelData"].is_undefined_length = False
    if dataset.SamplesPerPixel > 1:
        dataset.PlanarConfiguration = 1  # RLE compresses each colour on its own


def _written(dataset: Dataset, syntax: UID) -> bytes:
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    return buffer.getvalue()
