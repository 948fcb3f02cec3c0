"""The mask as DICOM Segmentation (BINARY, PS3.3 C.8.20), voxel for voxel on the grid of its source. Next: sr.py."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from medai.workers.results.context import Context
from medai.workers.results.segments import encode_segmentation


def encode_seg(context: Context) -> Dataset:
    """The SEG of this job, the same bytes at every attempt; raises GeometryMismatch when the mask does not fit."""
    return encode_segmentation(
        context,
        kind="seg",
        segmentation_type="BINARY",
        what="segmentation",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
