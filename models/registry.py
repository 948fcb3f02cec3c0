"""Which models there are, whether each can run here, and the one place that loads them.

A model is a folder in MONAI's bundle layout (format/bundle.py). Nothing is discovered by name: the registry looks in
the folders it is given, those shipped in ``models/bundles`` by default. torch is imported by ``load`` alone.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medai.models.confined.sandbox import Limits
from medai.models.errors import ModelUnavailable
from medai.models.format.bundle import Bundle, Description, describe, read_bundle
from medai.models.format.metadata import Guard
from medai.models.volume import ModelCard

if TYPE_CHECKING:
    from medai.models.confined.classifier import ConfinedSeriesKind
    from medai.models.segmenters.load import Segmenter
    from medai.models.segmenters.series_kind import SeriesKind

SHIPPED = Path(__file__).resolve().parent / "bundles"
CLASSIFIER = "series_kind"
"""The one bundle that draws nothing: it tells what a series shows, and models with a guard ask it."""


class Registry:
    """Models by name. ``folders`` hold bundles; an earlier folder wins where two hold the same name.

    ``weights`` gives, per model, the path of weights that are not shipped ([models.weights] in medai.toml).
    ``device`` is "auto" (CUDA where there is one), "cpu" or "cuda"; ``threads`` 0 leaves torch's own choice.
    ``limits`` hold models that do not ship.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (SHIPPED,),
        weights: Mapping[str, str] | None = None,
        *,
        device: str = "auto",
        threads: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self._weights = dict(weights or {})
        self._device, self._threads, self._limits = device, threads, limits
        self._folders = _bundles(folders)
        self._bundles: dict[str, Bundle] = {}
        self._loaded: dict[str, Segmenter] = {}
        self._classifier: SeriesKind | ConfinedSeriesKind | None = None
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """All models, whether or not they can run here."""
        return tuple(sorted(self._folders))

    def metadata(self, name: str) -> Bundle:
        """A model's bundle. Raises ModelUnavailable, saying what to do."""
        if name not in self._bundles:
            self._bundles[name] = read_bundle(self._folder(name), self._weights.get(name))
        return self._bundles[name]

    def card(self, name: str) -> ModelCard:
        """What results say of a model; its version ends with the first 8 digits of the weights' SHA-256."""
        return self.metadata(name).card

    def describe(self) -> tuple[Description, ...]:
        """Every model with its availability and, where it cannot run, the reason."""
        return tuple(describe(self._folders[name], self._weights.get(name)) for name in self.names())

    def load(self, name: str) -> Segmenter:
        """The model, ready to run; loaded once. Raises ModelUnavailable, saying what to do."""
        with self._lock:
            if name not in self._loaded:
                bundle = self.metadata(name)
                self._loaded[name] = open_bundle(
                    bundle, device=self._device, threads=self._threads, limits=self._limits
                )
            return self._loaded[name]

    def guard(self, name: str) -> Guard | None:
        """Which body parts a model may read; None: any. Raises ModelUnavailable."""
        return self.metadata(name).guard

    def classifier(self) -> SeriesKind | ConfinedSeriesKind | None:
        """The model that tells what a series shows, loaded once; None where there is no such bundle.

        Raises ModelUnavailable when it is there and cannot run.
        """
        if CLASSIFIER not in self._folders:
            return None
        with self._lock:
            if self._classifier is None:
                bundle = self.metadata(CLASSIFIER)
                self._classifier = open_classifier(
                    bundle, device=self._device, threads=self._threads, limits=self._limits
                )
            return self._classifier

    def folder(self, name: str) -> Path:
        """Where a model's bundle lies, whether or not it can run. Raises ModelUnavailable for an unknown name."""
        return self._folder(name)

    def _folder(self, name: str) -> Path:
        if name in self._folders:
            return self._folders[name]
        near = difflib.get_close_matches(name, self._folders, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ModelUnavailable(f"there is no model {name!r}; there are {', '.join(self.names()) or 'none'}.{hint}")


def ships(folder: Path) -> bool:
    """Whether a bundle's folder is one of those that ship."""
    return folder.resolve().parent == SHIPPED


def open_bundle(bundle: Bundle, *, device: str = "auto", threads: int = 0, limits: Limits | None = None) -> Segmenter:
    """A bundle's segmenter: in this process where it ships, else in a confined one. Raises ModelUnavailable."""
    with _understandable(bundle.name):
        from medai.models.confined.segmenter import ConfinedSegmenter
        from medai.models.segmenters.load import load, torch_device
    if ships(bundle.folder):
        return load(bundle, device=device, threads=threads)
    return ConfinedSegmenter(bundle, torch_device(device), threads=threads, limits=limits)


def open_classifier(
    bundle: Bundle, *, device: str = "auto", threads: int = 0, limits: Limits | None = None
) -> SeriesKind | ConfinedSeriesKind:
    """The same for a bundle that tells what a series shows."""
    with _understandable(bundle.name):
        from medai.models.confined.classifier import ConfinedSeriesKind
        from medai.models.segmenters.load import torch_device
        from medai.models.segmenters.series_kind import SeriesKind
    if ships(bundle.folder):
        return SeriesKind(bundle, torch_device(device))
    return ConfinedSeriesKind(bundle, torch_device(device), threads=threads, limits=limits)


@contextmanager
def _understandable(name: str) -> Iterator[None]:
    """A package that is missing, in words."""
    try:
        yield
    except ImportError as error:
        raise ModelUnavailable(
            f"{name} needs a Python package that is missing ({error.name}): pip install 'med-ai[worker]'"
        ) from error


def _bundles(folders: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ModelUnavailable(f"the folder of models {folder} does not exist")
        for metadata in sorted(folder.glob("*/configs/metadata.json")):
            bundle = metadata.parents[1]
            found.setdefault(bundle.name, bundle)
    return found
