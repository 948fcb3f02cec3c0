"""What is tidied in a label map before it is judged: pieces, holes, what lies outside the patient.

Each segment is worked on within its own box, so that small structures cost little. Next: load.py.
"""

from __future__ import annotations

import cc3d
import fill_voids
import numpy as np

from medai.models.format.recipe import Cleaning
from medai.models.segmenters.boxes import bounding_box
from medai.models.segmenters.feed import body
from medai.models.volume import Labels, Volume, Voxels


def clean(labels: Labels, axial: Volume, cleaning: Cleaning) -> Labels:
    """The label map [slice, row, column] of an axial volume, tidied as the recipe says."""
    kept = labels
    if cleaning.inside_body and axial.unit == "HU":
        patient = body(axial.voxels)
        kept = np.where(within(labels > 0, patient > 0), labels, np.uint8(0)).astype(np.uint8)
    if not cleaning.components and not cleaning.fill_holes:
        return kept
    tidied = np.zeros_like(kept)
    for number in np.unique(kept[kept > 0]):
        box = bounding_box(kept == number)
        mask = kept[box] == number
        if cleaning.components:
            mask = largest(mask, cleaning.components)
        if cleaning.fill_holes:
            mask = np.asarray(fill_voids.fill(mask.astype(np.uint8))) > 0
        tidied[box][mask & (tidied[box] == 0)] = number
    return tidied


def largest(mask: Voxels, count: int) -> Voxels:
    """The largest ``count`` pieces of a mask (26 neighbours), each at least a twentieth of the largest."""
    pieces = cc3d.connected_components(mask.astype(np.uint8))
    sizes = np.bincount(pieces[mask], minlength=1)
    order = np.argsort(-sizes, kind="stable")[:count]
    kept = np.zeros(len(sizes), dtype=bool)
    kept[order] = sizes[order] > sizes.max() / 20
    kept[0] = False
    found: Voxels = kept[pieces]
    return found


def within(mask: Voxels, region: Voxels) -> Voxels:
    """The pieces of a mask of which at least half lies in the region (both bool)."""
    pieces = cc3d.connected_components(mask.astype(np.uint8))
    sizes = np.bincount(pieces[mask], minlength=1)
    inside = np.bincount(pieces[mask & region], minlength=len(sizes))
    found: Voxels = ((2 * inside >= sizes) & (sizes > 0))[pieces] & mask
    return found
