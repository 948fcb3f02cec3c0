"""Any network by its recipe: feed, windows, back onto the source's grid, tidied.

Next: format/recipe.py, networks/runners.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from medai.models.errors import ModelUnavailable
from medai.models.format.bundle import Bundle
from medai.models.format.recipe import Cleaning, Recipe
from medai.models.images.preprocess import to_axial
from medai.models.networks.runners import make_runner
from medai.models.networks.sliding import predict, predict_slices
from medai.models.segmenters.base import Bundled
from medai.models.segmenters.cleaning import clean, tidied
from medai.models.segmenters.feed import Fed, body, to_network
from medai.models.volume import Labels, Volume


class NetworkSegmenter(Bundled):
    """What ``inference.json`` describes, ours or foreign."""

    def __init__(self, bundle: Bundle, device: torch.device, *, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__(bundle, device)
        self.recipe = read_recipe(bundle.name, bundle.parameters if parameters is None else parameters)
        self._runner = make_runner(self.recipe, network_weights(bundle), device, name=bundle.name)

    def labels(self, volume: Volume) -> Labels:
        """The likeliest class of each voxel, as the segments are numbered."""
        fed, cleaning = to_network(volume, self.recipe.feed), self.recipe.cleaning
        patient = _patient(fed, volume) if cleaning.inside_body else None
        if self.recipe.inferer.dims == 2 and fed.grid == fed.upright:
            labels = predict_slices(self._runner, fed.array, self.recipe.inferer, self.device)
            return fed.labels_back(clean(labels, cleaning, patient))
        probabilities = predict(self._runner, fed.array, self.recipe.inferer, self.device)
        drawn = fed.probabilities_back(tidied(probabilities, cleaning, patient))
        return clean(drawn, Cleaning(components=cleaning.components))

    def require_classes(self) -> None:
        """The network's channels must be the declared segments, background first for softmax. Raises ModelUnavailable.

        One run on zeros.
        """
        inferer, segments = self.recipe.inferer, self.bundle.segments
        sides = inferer.roi or (max(32, inferer.multiple),) * inferer.dims
        with torch.inference_mode():
            channels = self._runner(torch.zeros((1, 1, *sides), device=self.device)).shape[1]
        wanted = len(segments) + (inferer.activation == "softmax")
        if channels != wanted:
            background = ", the background first" if inferer.activation == "softmax" else ""
            raise ModelUnavailable(
                f"the network gives {channels} channels; {len(segments)} segments by {inferer.activation} need "
                f"{wanted}{background}: declare every class, or correct inferer.activation"
            )


def _patient(fed: Fed, volume: Volume) -> Labels | None:
    """1 in the patient, on the network's grid; None where values do not tell."""
    if fed.patient is not None or volume.unit != "HU":
        return fed.patient
    axial, turn = to_axial(volume)
    return fed.labels_in(turn.undo(body(axial.voxels)))


def network_weights(bundle: Bundle) -> tuple[Path, ...]:
    """Those of a bundle's hashed files that are a network's; a template beside them is not."""
    return tuple(path for path in bundle.weights if not path.name.endswith(".nii.gz"))


def read_recipe(name: str, parameters: Mapping[str, Any]) -> Recipe:
    """A bundle's inference.json. Raises ModelUnavailable with every fault in it."""
    try:
        return Recipe.model_validate(dict(parameters))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ModelUnavailable(f"{name}: inference.json: {faults}") from error
