"""A model under judgement, from a bundle or from a run, and which expert labels its segments answer to.

Next: choice.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medai.models.format.bundle import Bundle, read_bundle
from medai.models.format.metadata import EvaluationClass
from medai.models.registry import open_bundle
from medai.models.segmenters.load import Segmenter, load
from medai.training.errors import ConfigError, TrainingError
from medai.training.export.bundle import bundle_of_run
from medai.training.runs import KeptSplit, is_run, joint_split, read_run, read_split


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model under judgement. ``kept`` is the split it was trained with, where it is known."""

    name: str
    bundle: Bundle
    kept: KeptSplit | None
    summary: Mapping[str, Any] = field(hash=False)
    """A run's summary.json; empty for a bundle."""
    source: Path
    segmenter: Segmenter | None = field(default=None, hash=False)
    """None: a bundle that draws nothing (a classifier)."""

    @property
    def classes(self) -> Mapping[str, EvaluationClass]:
        """What is compared."""
        return self.bundle.evaluation

    @property
    def weights_bytes(self) -> int:
        """Size of its weight files."""
        return sum(path.stat().st_size for path in self.bundle.weights)


@contextmanager
def open_model(
    path: Path, *, device: str = "auto", threads: int = 0, weights: str | None = None, draws: bool = True
) -> Iterator[Model]:
    """A bundle or a run, loaded. Raises ModelUnavailable, TrainingError."""
    if not path.is_dir():
        raise TrainingError(f"{path} is not a folder: name a bundle, or what `medai-train fit --out RUN` made")
    if is_run(path):
        found = read_run(path)
        with bundle_of_run(path) as folder:
            yield _model(folder, path, device, threads, None, joint_split((found,)), found.summary, draws=draws)
        return
    kept = path / "docs" / "split.json"
    split = read_split(kept) if kept.is_file() else None
    yield _model(path, path, device, threads, weights, split, {}, draws=draws)


def _model(
    folder: Path,
    source: Path,
    device: str,
    threads: int,
    weights: str | None,
    kept: KeptSplit | None,
    summary: Mapping[str, Any],
    *,
    draws: bool,
) -> Model:
    bundle = read_bundle(folder, weights)
    opens = open_bundle if folder == source else load  # what a run has just trained is ours
    segmenter = opens(bundle, device=device, threads=threads) if draws else None
    name = source.resolve().name
    return Model(name=name, bundle=bundle, kept=kept, summary=summary, source=source, segmenter=segmenter)


def require_classes(model: Model) -> None:
    """Raise TrainingError for a model that does not say what its segments are to be compared with."""
    if not model.classes:
        raise TrainingError(
            f"{model.name} does not say which expert labels its segments answer to: add medai.evaluation to "
            "configs/metadata.json, or give --class NAME=LABELS:SEGMENTS, for instance --class lungs=1,2:1"
        )


def parse_class(text: str) -> tuple[str, EvaluationClass]:
    """``NAME=LABELS:SEGMENTS``. Raises ConfigError."""
    name, equals, rest = text.partition("=")
    labels, colon, segments = rest.partition(":")
    try:
        if not (name and equals and colon):
            raise ValueError(text)
        numbers = [tuple(int(number) for number in part.split(",")) for part in (labels, segments)]
    except ValueError as error:
        raise ConfigError(f"--class {text}: write NAME=LABELS:SEGMENTS, for instance lungs=1,2:1") from error
    return name, EvaluationClass(labels=numbers[0], segments=numbers[1])
