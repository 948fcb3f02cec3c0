"""Is what a model drew plausible? Volumes and edges are looked at; what cannot be true is refused.

Next: bundle.py (where the limits come from).
"""

from __future__ import annotations

import numpy as np

from models.bundle import Bundle
from models.errors import ModelRefused, ModelUnavailable
from models.preprocess import to_axial
from models.volume import Labels, Segment, Segmentation, Volume, Voxels


def finish(labels: Labels, volume: Volume, bundle: Bundle) -> Segmentation:
    """Check a label map for plausibility. Raises ModelRefused where there is hardly anything in it."""
    if labels.shape != volume.geometry.shape or labels.dtype != np.uint8:
        raise ModelUnavailable(
            f"{bundle.name} gave labels of another shape or type than its source: a fault in the model"
        )
    remarks: list[str] = []
    for segment in bundle.segments:
        remarks += _remarks(labels == segment.number, segment, volume, bundle)
    return Segmentation(
        labels=labels,
        segments=bundle.segments,
        geometry=volume.geometry,
        model=bundle.card,
        warnings=tuple(remarks),
    )


def _remarks(mask: Voxels, segment: Segment, volume: Volume, bundle: Bundle) -> list[str]:
    ml = int(mask.sum()) * volume.geometry.voxel_ml
    plausible = bundle.plausible[segment.number]
    if not plausible.refuse_below_ml < ml <= plausible.refuse_above_ml:
        raise ModelRefused(
            f"{segment.name}: nothing plausible was found ({ml:.0f} ml). Does the series show it, in the contrast "
            "that the model knows?"
        )
    remarks = []
    least, most = plausible.ml
    if not least <= ml <= most:
        remarks.append(f"{segment.name}: {ml:.0f} ml is outside the expected range of {least:.0f} to {most:.0f} ml")
    if plausible.warn_at_edge:
        edges = _edges(to_axial(Volume(voxels=mask, geometry=volume.geometry, modality=volume.modality))[0].voxels)
        if edges:
            remarks.append(
                f"{segment.name}: the mask touches the edge of the field of view ({', '.join(edges)}): "
                "the structure may be cut off"
            )
    return remarks


def _edges(axial: Voxels) -> list[str]:
    faces = {
        "feet": axial[0],
        "head": axial[-1],
        "front": axial[:, 0],
        "back": axial[:, -1],
        "right": axial[:, :, 0],
        "left": axial[:, :, -1],
    }
    return [name for name, face in faces.items() if face.any()]
