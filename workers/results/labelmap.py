"""The mask as Label Map Segmentation: one frame a slice for all segments, RLE compressed.

A label map has one label a voxel, and so has every mask of ours (``Segmentation.labels``): segments cannot overlap
here. RLE Lossless is what the most readers have. Next: rtstruct.py.
"""

from __future__ import annotations

from pydicom import Dataset
from pydicom.uid import RLELossless

from medai.workers.results.context import Context
from medai.workers.results.segments import encode_segmentation


def encode_labelmap(context: Context) -> Dataset:
    """The label map of this job; raises GeometryMismatch when the mask does not fit its images."""
    return encode_segmentation(
        context,
        kind="labelmap",
        segmentation_type="LABELMAP",
        what="label map",
        transfer_syntax_uid=RLELossless,
    )
