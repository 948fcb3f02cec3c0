"""A recipe says how a network is fed and read, and refuses what contradicts itself."""

from __future__ import annotations

import pytest

from medai.models.format.recipe import Inferer


def test_a_window_has_as_many_sides_as_the_network_reads() -> None:
    with pytest.raises(ValueError, match="roi has 3 sides, the network reads 2 dimensions"):
        Inferer(dims=2, roi=(8, 8, 8))
