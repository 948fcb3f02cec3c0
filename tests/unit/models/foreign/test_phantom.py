"""The phantom is a volume that the model agrees to read."""

from __future__ import annotations

import pytest

from medai.models.foreign.phantom import phantom
from medai.models.format.metadata import InputSpec


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(
            modalities=frozenset({"CT"}), unit="HU", min_slices=60, min_extent_mm=(300, 250, 200), max_spacing_mm=5
        ),
        InputSpec(modalities=frozenset({"MR"}), unit="arbitrary", max_spacing_mm=1.5, min_extent_mm=(100, 120, 100)),
        InputSpec(modalities=frozenset({"PT", "NM"})),
    ],
)
def test_the_phantom_is_what_the_model_reads(spec: InputSpec) -> None:
    volume = phantom(spec)
    spec.require(volume)
    assert volume.voxels.std() > 50
