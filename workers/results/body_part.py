"""Which part of the body, and which side: of the images where they say it, else of what was segmented. Next: seg.py.

Body Part Examined (PS3.16 annex L) and Laterality (0020,0060) of the General Series Module.
"""

from __future__ import annotations

from pydicom import Dataset

from medai.models.images.header import text
from medai.models.volume import Segmentation
from medai.workers.results.source import Source

BODY_PARTS = {
    **{"39607008": "CHEST", "80891009": "HEART", "15825003": "AORTA", "12738006": "BRAIN", "51282000": "SPINE"},
    **{"10200004": "LIVER", "78961009": "SPLEEN", "15776009": "PANCREAS", "28231008": "GALLBLADDER"},
    **{"5366008": "BRAIN", "119238007": "BRAIN", "2748008": "SPINE", "45289007": "HEADNECK", "91609006": "HEADNECK"},
    **{"69695003": "STOMACH", "89837001": "BLADDER", "64033007": "ABDOMEN", "23451007": "ABDOMEN"},
}
"""BodyPartExamined (PS3.16 annex L) by the SCT code of the first segment, where the source says none."""
UNPAIRED = frozenset(
    {*BODY_PARTS.values(), "ABDOMENPELVIS", "CHESTABDOMEN", "CHESTABDPELVIS", "COLON", "CSPINE", "ESOPHAGUS", "HEAD"}
    | {"HEADNECK", "LSPINE", "LSSPINE", "MEDIASTINUM", "NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV"}
    | {"PELVIS", "PROSTATE", "SKULL", "SSPINE", "STERNUM", "THYROID", "TLSPINE", "TSPINE", "UTERUS", "WHOLEBODY"}
)
"""Body parts of which there is one: only then Laterality (0020,0060) is absent rather than empty."""
SIDES = {"24028007": "R", "7771000": "L"}
"""Laterality by the SCT code of a segment's side."""


def name_body_part(result: Dataset, source: Source, segmentation: Segmentation) -> None:
    """Of any image."""
    result.BodyPartExamined = text(source.clean[0], "BodyPartExamined") or _segmented(segmentation)


def name_side(result: Dataset, source: Source, segmentation: Segmentation) -> None:
    """Of a single picture; a SEG says it of each segment, and then it may not say it of the whole series."""
    if result.BodyPartExamined not in UNPAIRED:
        result.Laterality = _side(source, segmentation)


def _segmented(segmentation: Segmentation) -> str:
    kinds = [BODY_PARTS[s.type.value] for s in segmentation.segments if s.type.value in BODY_PARTS]
    return kinds[0] if kinds else "UNKNOWN"


def _side(source: Source, segmentation: Segmentation) -> str:
    """R or L: as the images say, else the side that all segments share; empty where neither tells."""
    stated = {text(source.first, keyword).strip() for keyword in ("Laterality", "ImageLaterality")} & {"R", "L"}
    if len(stated) == 1:
        return stated.pop()
    sides = {SIDES.get(s.modifier.value, "") if s.modifier else "" for s in segmentation.segments}
    return sides.pop() if len(sides) == 1 and not stated else ""
