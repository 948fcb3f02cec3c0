"""Both hippocampi in a whole T1 head: brain mask, pose against a template, two crops, one network.

The network knows crops of one side (as its training data hold them); the other side's crop is mirrored on the way
in and out. Each crop is cut twice: where the template says, then again around what was found. Next:
images/registration.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict

from medai.models.errors import ModelRefused
from medai.models.format.bundle import Bundle, read_bundle
from medai.models.format.recipe import Inferer
from medai.models.geometry import Geometry
from medai.models.images.boxes import bounding_box
from medai.models.images.preprocess import nifti_to_volume, resample_onto, to_axial
from medai.models.images.registration import Pose, pose_of
from medai.models.networks.sliding import predict
from medai.models.segmenters.cleaning import clean
from medai.models.segmenters.deepbet import DeepBet
from medai.models.segmenters.feed import scale
from medai.models.segmenters.likeliest import likeliest
from medai.models.segmenters.network import NetworkSegmenter
from medai.models.volume import Labels, Volume, Voxels

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
WHOLE_HEAD_MM = 90.0
"""A volume whose least extent is below this is a crop, as training cases are."""
RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


class Localisation(BaseModel):
    """``localise`` in inference.json. Points are LPS millimetres of the template; boxes (x, y, z) voxels of 1 mm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str
    """File in the bundle."""
    brain_model: str = "mr_brain"
    """The bundle beside this one that finds the brain."""
    centre_mm: dict[Side, tuple[float, float, float]]
    box: tuple[int, int, int] = (36, 52, 36)
    place_in_box: tuple[float, float, float] = (0.42, 0.60, 0.42)
    """Where the centre of the structure lies in a training case, as a fraction of (x, y, z)."""
    known_side: Side
    """The side that the training cases show."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One side's answer: probabilities [class, slice, row, column] on their own grid in the patient."""

    probabilities: Voxels
    geometry: Geometry


class Hippocampus(NetworkSegmenter):
    """Segments: for each of SIDES, the classes of the network in their order."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        parameters = dict(bundle.parameters)
        self._place = Localisation.model_validate(parameters.pop("localise"))
        super().__init__(bundle, device, parameters=parameters)
        brain = read_bundle(bundle.folder.parent / self._place.brain_model, None)
        self._brain = DeepBet(brain, device)
        self._template = nifti_to_volume(bundle.folder / self._place.template, modality="MR")

    def labels(self, volume: Volume) -> Labels:
        """Segment numbers; a crop as in training is taken for one hippocampus of the known side."""
        extents = [n * s for n, s in zip(volume.geometry.shape[::-1], volume.geometry.spacing_mm, strict=True)]
        if min(extents) < WHOLE_HEAD_MM:
            return self._numbered(super().labels(volume), self._place.known_side)
        pose = self._pose(volume)
        labels = np.zeros(volume.geometry.shape, dtype=np.uint8)
        for side in SIDES:
            crop = self._crop(volume, pose, side)
            found = likeliest(crop.probabilities, crop.geometry, volume.geometry)
            box = bounding_box(found)
            drawn = self._numbered(found[box], side)
            np.copyto(labels[box], drawn, where=drawn > 0)
        return clean(labels, self.recipe.cleaning)

    def _numbered(self, classes: Labels, side: Side) -> Labels:
        """Class numbers as segment numbers."""
        first = SIDES.index(side) * (len(self.segments) // len(SIDES))
        return np.where(classes > 0, classes + np.uint8(first), np.uint8(0)).astype(np.uint8)

    def _pose(self, volume: Volume) -> Pose:
        axial, _ = to_axial(volume)
        return pose_of(axial, self._brain.labels(axial), self._template)

    def _crop(self, volume: Volume, pose: Pose, side: Side) -> Crop:
        """Look where the template says; then again, with what was found in its usual place."""
        frame = volume.geometry.frame_of_reference_uid
        expected = pose.point(np.asarray(self._place.centre_mm[side]))
        quick = self.recipe.inferer.model_copy(update={"shifted": False, "mirror": ()})
        first = self._answer(volume, self._grid(expected, pose, side, frame), quick)
        found = 1.0 - first.probabilities[0]
        if not (found > 0.5).any():
            raise ModelRefused(f"the {side} hippocampus was not found: is it a whole T1 head?")
        index = np.argwhere(found > 0.5).mean(axis=0)[::-1]
        centre = (first.geometry.affine @ np.append(index, 1.0))[:3]
        return self._answer(volume, self._grid(centre, pose, side, frame), self.recipe.inferer)

    def _grid(self, centre_mm: npt.NDArray[np.float64], pose: Pose, side: Side, frame: str = "") -> Geometry:
        """A box of 1 mm, turned like the head, RAS for the known side; the other side's x axis is turned round."""
        turn = pose.rotation() @ np.asarray(RAS).reshape(3, 3)
        if side != self._place.known_side:
            turn = turn @ np.diag([-1.0, 1.0, 1.0])
        steps = np.asarray(self._place.place_in_box) * (np.asarray(self._place.box) - 1)
        origin = centre_mm - turn @ steps
        x, y, z = self._place.box
        return Geometry(
            origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=tuple(float(value) for value in turn.ravel()),  # type: ignore[arg-type] # nine of them
            spacing_mm=(1.0, 1.0, 1.0),
            shape=(z, y, x),
            frame_of_reference_uid=frame,
        )

    def _answer(self, volume: Volume, grid: Geometry, inferer: Inferer) -> Crop:
        array = scale(resample_onto(volume.voxels, volume.geometry, grid), self.recipe.feed.intensity)
        return Crop(probabilities=predict(self._runner, array, inferer, self.device), geometry=grid)
