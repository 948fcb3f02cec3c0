"""What is tidied in what a network drew: pieces, holes, what lies outside the patient.

It is done on the network's own grid, before the way back to the source's, which is many times as fine; there, only what
hung together by corners may come apart. Each segment is worked on within its own box, so that small structures cost
little. Next: likeliest.py (the way back).
"""

from __future__ import annotations

import cc3d
import fill_voids
import numpy as np

from medai.models.format.recipe import Cleaning
from medai.models.images.boxes import bounding_box
from medai.models.segmenters.likeliest import winners
from medai.models.volume import Labels, Voxels


def tidied(probabilities: Voxels, cleaning: Cleaning, patient: Labels | None = None) -> Voxels:
    """Probabilities [class, slice, row, column] whose likeliest classes are tidy; changed in place.

    What tidying changes becomes certain, so that it stays as it is on any other grid.
    """
    drawn = winners(probabilities)
    wanted = clean(drawn, cleaning, patient)
    z, y, x = np.nonzero(wanted != drawn)
    probabilities[:, z, y, x] = 0.0
    probabilities[wanted[z, y, x], z, y, x] = 1.0
    return probabilities


def clean(labels: Labels, cleaning: Cleaning, patient: Labels | None = None) -> Labels:
    """The label map, tidied as the recipe says. ``patient`` is 1 in the patient; None where that is not known."""
    kept = labels
    if cleaning.inside_body and patient is not None:
        kept = np.where(within(labels > 0, patient > 0), labels, np.uint8(0)).astype(np.uint8)
    if not cleaning.components and not cleaning.fill_holes:
        return kept
    found = np.zeros_like(kept)
    whole = bounding_box(kept)
    drawn, tidy = np.ascontiguousarray(kept[whole]), found[whole]
    if not drawn.size:
        return found
    statistics = cc3d.statistics(drawn)
    for number in np.flatnonzero(statistics["voxel_counts"][1:]) + 1:
        box = statistics["bounding_boxes"][number]
        mask = drawn[box] == number
        if cleaning.components:
            mask = largest(mask, cleaning.components)
        if cleaning.fill_holes:
            mask = np.asarray(fill_voids.fill(mask.astype(np.uint8))) > 0
        tidy[box][mask & (tidy[box] == 0)] = number
    return found


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
