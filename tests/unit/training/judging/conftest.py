"""Bundles here are made on the spot, one for nearly every test: they run in this process, without one of their own."""

from __future__ import annotations

import pytest

from medai.models.format.bundle import Bundle
from medai.models.segmenters.load import Segmenter, load
from medai.training.judging import model


@pytest.fixture(autouse=True)
def opened_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the bundles that would have been given a process of their own, unless they ship."""
    opened: list[str] = []

    def here(bundle: Bundle, *, device: str, threads: int) -> Segmenter:
        opened.append(bundle.name)
        return load(bundle, device=device, threads=threads)

    monkeypatch.setattr(model, "open_bundle", here)
    return opened
