"""Run a model over cases with expert labels: what evaluate, compare and promote have in common.

``open_model`` takes a bundle or a run folder; ``choose`` says which cases may judge it; ``judge_case`` draws one case
by the segmenter that the worker would use and measures it. Next: metrics.py (the figures), evaluate.py (the command).
"""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medai.models.errors import ModelRefused, ModelsError
from medai.models.format.bundle import Bundle, EvaluationClass, read_bundle
from medai.models.segmenters.load import Segmenter, load
from medai.models.volume import Labels
from medai.training.cases import Case, Dataset, Example
from medai.training.errors import ConfigError, DataError, LeakageError, TrainingError
from medai.training.export.bundle import bundle_of_run
from medai.training.metrics import TOLERANCE_MM, Measures, measure
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
    segmenter = load(bundle, device=device, threads=threads) if draws else None
    name = source.resolve().name
    return Model(name=name, bundle=bundle, kept=kept, summary=summary, source=source, segmenter=segmenter)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The cases that judge, and why these. ``seen``: how many of them the model knew from its training."""

    cases: tuple[Case, ...]
    side: str
    reason: str
    seen: int = 0


def choose(
    dataset: Dataset, kept: KeptSplit | None, *, side: str = "", names: Sequence[str] = (), limit: int = 0
) -> Chosen:
    """The cases to judge on: ``names``, or a side of the model's own split, or (side "all") every case.

    Without either: ``test`` where all test cases of the model's split are in the data set, else all. Raises
    LeakageError when a test case's patient also trained the model.
    """
    chosen = _side(dataset, kept, side, names)
    cases = chosen.cases[:limit] if limit else chosen.cases
    if not cases:
        raise DataError(f"{dataset.name}: the side {chosen.side} holds no case")
    reason = f"{chosen.reason}; the first {limit} of them" if 0 < limit < len(chosen.cases) else chosen.reason
    seen = _seen(cases, dataset, kept)
    if seen and chosen.side == "test":
        raise LeakageError(
            f"{seen[0]} is a test case of a patient who is in the training or validation cases, too: "
            "a model judged on a patient it was trained on looks better than it is"
        )
    return Chosen(cases=cases, side=chosen.side, reason=reason, seen=len(seen))


def _side(dataset: Dataset, kept: KeptSplit | None, side: str, names: Sequence[str]) -> Chosen:
    if names:
        return Chosen(cases=dataset.named(set(names)), side="named", reason="the cases of a list")
    there = {case.name for case in dataset.cases}
    if not side:
        known = kept is not None and bool(kept.sides["test"]) and set(kept.sides["test"]) <= there
        side = "test" if known else "all"
        why = "the test side of the model's split" if known else "all cases: the data set is not that of the split"
    else:
        why = "all cases" if side == "all" else f"the {side} side of the model's split"
    if side == "all":
        return Chosen(cases=dataset.cases, side=side, reason=why)
    if kept is None:
        raise TrainingError(f"the model keeps no split (docs/split.json), so it has no side {side}: use --split all")
    absent = sorted(set(kept.sides[side]) - there)
    if absent:
        raise DataError(
            f"{dataset.name} lacks {len(absent)} of the {len(kept.sides[side])} {side} cases of the model's split "
            f"(of {kept.dataset or 'another data set'}), such as {absent[0]}: use --split all for other data"
        )
    return Chosen(cases=dataset.named(set(kept.sides[side])), side=side, reason=why)


def _seen(cases: Sequence[Case], dataset: Dataset, kept: KeptSplit | None) -> list[str]:
    """Cases that trained the model or chose its checkpoint, by their name or by their patient."""
    if kept is None:
        return []
    patients = {case.patient for case in dataset.cases if case.name in kept.seen}
    return [case.name for case in cases if case.name in kept.seen or case.patient in patients]


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """A model on one case. ``measures`` is by class; empty when the model refused."""

    case: str
    seconds: float
    """From the volume in memory to labels on its grid."""
    peak_mb: float
    """Of the process (CPU) or of the GPU, while it drew."""
    growth_mb: float
    """The peak above what the process held before."""
    voxels: int
    measures: Mapping[str, Measures] = field(hash=False)
    refusal: str = ""
    drawn: Labels | None = field(default=None, repr=False, hash=False, compare=False)

    @property
    def mean_dice(self) -> float:
        """Over the classes that are there; 1 where there is nothing to find."""
        found = [item.dice for item in self.measures.values() if item.dice is not None]
        if self.refusal:
            return 0.0
        return float(np.mean(found)) if found else 1.0


def judge_case(
    model: Model,
    case: Case,
    example: Example,
    *,
    strict: bool = False,
    tolerance_mm: float = TOLERANCE_MM,
    others_are_background: bool = False,
) -> CaseResult:
    """Draw one case and measure it. ``strict`` lets the model refuse as it would in service.

    Raises DataError for label values that no class of the model names.
    """
    if model.segmenter is None:
        raise TrainingError(f"{model.name} draws nothing")
    require_known(case.name, example.labels, model.classes, others_are_background=others_are_background)
    segmenter, volume = model.segmenter, example.volume
    refusal, drawn = "", None
    with Watch(model.bundle) as watch:
        try:
            drawn = segmenter.segment(volume).labels if strict else segmenter.draw(volume)
        except ModelRefused as error:
            refusal = str(error)
    measures: dict[str, Measures] = {}
    if drawn is not None:
        for name, entry in model.classes.items():
            measures[name] = measure(
                np.isin(example.labels, entry.labels),
                np.isin(drawn, entry.segments),
                volume.geometry.spacing_mm,
                tolerance_mm=tolerance_mm,
            )
    return CaseResult(
        case=case.name,
        seconds=watch.seconds,
        peak_mb=watch.peak_mb,
        growth_mb=watch.growth_mb,
        voxels=int(np.prod(volume.geometry.shape)),
        measures=measures,
        refusal=refusal,
        drawn=drawn,
    )


def paired_dice(structure: str, results: Sequence[Sequence[CaseResult]]) -> list[npt.NDArray[np.float64]]:
    """Per model the Dice of one structure by case, for a paired comparison; all models saw the same cases.

    A case that a model refused counts 0. Where one model rightly draws nothing and another draws what is not there,
    nothing is the perfect answer: 1. Cases without the structure on any side are left out.
    """
    scores = [[0.0 if one.refusal else one.measures[structure].dice for one in group] for group in results]
    counted = [place for place in range(len(scores[0])) if any(score[place] is not None for score in scores)]
    return [np.asarray([_or_perfect(score[place]) for place in counted], dtype=np.float64) for score in scores]


def _or_perfect(value: float | None) -> float:
    return 1.0 if value is None else value


def load_case(case: Case) -> Example:
    """A case's voxels; every fault of reading is a DataError that names the case."""
    try:
        return case.load()
    except ModelsError as error:
        raise DataError(f"case {case.name}: {error}") from error


def require_classes(model: Model) -> None:
    """Raise TrainingError for a model that does not say what its segments are to be compared with."""
    if not model.classes:
        raise TrainingError(
            f"{model.name} does not say which expert labels its segments answer to: add medai.evaluation to "
            "configs/metadata.json, or give --class NAME=LABELS:SEGMENTS, for instance --class lungs=1,2:1"
        )


def require_known(
    name: str, labels: Labels, classes: Mapping[str, EvaluationClass], *, others_are_background: bool
) -> None:
    """Raise DataError when labels hold a value that no class names."""
    known = {value for entry in classes.values() for value in entry.labels} | {0}
    strange = sorted(set(np.unique(labels).tolist()) - known)
    if strange and not others_are_background:
        raise DataError(
            f"case {name} holds the label values {', '.join(map(str, strange))}, which no class of the model names "
            f"({_mapping(classes)}): use --ignore-labels if they are background"
        )


def _mapping(classes: Mapping[str, EvaluationClass]) -> str:
    return "; ".join(f"{name}: {', '.join(map(str, entry.labels))}" for name, entry in classes.items())


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


class Watch:
    """Seconds and peak memory between entering and leaving.

    On a CPU the peak is the process's resident set, counted anew for each case where Linux allows that; elsewhere it
    is the largest since the process began. On a GPU it is what torch allocated.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._cuda = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
        self.seconds, self.peak_mb, self.growth_mb = 0.0, 0.0, 0.0
        self._before_mb = 0.0

    def __enter__(self) -> Watch:
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before_mb = torch.cuda.memory_allocated() / 1e6
        else:
            _give_back()
            _forget_peak()
            self._before_mb = _status_mb("VmRSS") or 0.0
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._began
        if self._cuda:
            self.peak_mb = torch.cuda.max_memory_allocated() / 1e6
        else:
            self.peak_mb = _status_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        self.growth_mb = max(0.0, self.peak_mb - self._before_mb) if self._before_mb else 0.0


def _give_back() -> None:
    """Return freed memory to the system, or what one model left behind would hide what the next one takes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _forget_peak() -> None:
    """Linux: 5 in clear_refs sets VmHWM back to the present size (proc(5))."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _status_mb(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None
