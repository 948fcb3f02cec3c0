"""Frames of an enhanced object, treated as images while results are made, and named as frames in the end.

SEG, SR and key image are made from one header a slice. Of an enhanced object each frame gets a header as a single-frame
image would have it, under a UID that no image has; ``refer_to_frames`` then puts the object's own class and UID, with
the frame's number, wherever such a UID stands (PS3.3 10.3 and 10.8, Referenced Frame Number). Next: source.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.uid import UID, generate_uid

from medai.models.images.header import text
from medai.models.images.slices import functional_group
from medai.models.volume import Stack

SINGLE: Mapping[str, str] = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
"""The class that a frame would have as an image of its own; by modality."""
OTHER = "1.2.840.10008.5.1.4.1.1.7"
GROUPS = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "FrameAnatomySequence"),
    "PixelValueTransformationSequence",
)
"""Functional groups whose attributes a single-frame image has itself."""
LEFT_OUT = frozenset(
    {
        *("PixelData", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "NumberOfFrames"),
        *("DimensionIndexSequence", "DimensionOrganizationSequence"),
        *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    }
)
EVIDENCE = frozenset({"ReferencedInstanceSequence", "CurrentRequestedProcedureEvidenceSequence"})
"""Where whole objects are listed, not their frames."""


@dataclass(frozen=True, kw_only=True)
class FrameName:
    """A frame as a reference names it: ``number`` counts from 1."""

    sop_class_uid: str
    sop_instance_uid: str
    number: int


def headers_of(stack: Stack) -> tuple[tuple[Dataset, ...], Mapping[str, FrameName]]:
    """One header for each slice; and, of enhanced objects, which frame each of their UIDs stands for."""
    if not stack.frames:
        return stack.datasets, {}
    headers, names = [], {}
    shared = {id(image): _shared(image) for image in stack.datasets}
    for image, number in zip(stack.datasets, stack.frames, strict=True):
        header = _header(image, shared[id(image)], number)
        headers.append(header)
        names[str(header.SOPInstanceUID)] = FrameName(
            sop_class_uid=str(image.SOPClassUID), sop_instance_uid=str(image.SOPInstanceUID), number=number
        )
    return tuple(headers), names


def refer_to_frames(result: Dataset, names: Mapping[str, FrameName]) -> None:
    """Name frames in place of the images that stood for them, everywhere in a result."""
    if names:
        _rename(result, names, whole=False)


def _rename(dataset: Dataset, names: Mapping[str, FrameName], *, whole: bool) -> None:
    for element in dataset:
        if element.VR != "SQ":
            continue
        objects = whole or element.keyword in EVIDENCE
        if any(_stands_for(item, names) for item in element.value):
            element.value = _referring(element, names, objects)
        for item in element.value:
            _rename(item, names, whole=objects)


def _stands_for(item: Dataset, names: Mapping[str, FrameName]) -> FrameName | None:
    return names.get(str(item.get("ReferencedSOPInstanceUID", "")))


def _referring(element: DataElement, names: Mapping[str, FrameName], objects: bool) -> list[Dataset]:
    """The items of a sequence, each object once with all frames that are meant."""
    kept: dict[str, Dataset] = {}
    numbers: dict[str, list[int]] = {}
    for item in element.value:
        name = _stands_for(item, names)
        uid = name.sop_instance_uid if name else str(item.get("ReferencedSOPInstanceUID", id(item)))
        kept.setdefault(uid, item)
        if name is not None:
            kept[uid].ReferencedSOPClassUID = UID(name.sop_class_uid)
            kept[uid].ReferencedSOPInstanceUID = UID(uid)
            numbers.setdefault(uid, []).append(name.number)
    if not objects:
        for uid, frames in numbers.items():
            kept[uid].ReferencedFrameNumber = frames
    return list(kept.values())


def _shared(image: Dataset) -> Dataset:
    """The attributes of the object itself."""
    header = Dataset()
    for element in image:
        if element.keyword not in LEFT_OUT:
            header.add(element)
    header.add_new("SOPClassUID", "UI", SINGLE.get(text(image, "Modality"), OTHER))
    _take_moment(header, text(image, "AcquisitionDateTime"))
    return header


def _header(image: Dataset, shared: Dataset, number: int) -> Dataset:
    header = Dataset()
    header.update(shared)
    for name in GROUPS:
        for element in functional_group(image, number - 1, name) or ():
            header.add(element)
    content = functional_group(image, number - 1, "FrameContentSequence") or Dataset()
    _take_moment(header, text(content, "FrameAcquisitionDateTime"))
    if header.get("FrameLaterality") in ("L", "R"):
        header.add_new("Laterality", "CS", header.FrameLaterality)
    # New elements: those of the object itself are shared by all headers.
    header.add_new("SOPInstanceUID", "UI", generate_uid(entropy_srcs=[str(image.SOPInstanceUID), "frame", str(number)]))
    header.add_new("InstanceNumber", "IS", number)
    return header


def _take_moment(header: Dataset, moment: str) -> None:
    """Acquisition date and time of a DT, where the header has none."""
    if len(moment) >= 8 and not text(header, "AcquisitionDate"):
        header.add_new("AcquisitionDate", "DA", moment[:8])
        header.add_new("AcquisitionTime", "TM", moment[8:].split("+")[0].split("-")[0])
