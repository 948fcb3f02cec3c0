"""One case under judgement: drawn by the segmenter that the worker would use, timed, and measured.

Shared by evaluate, compare and promote. Next: training/metrics.py (the figures), evaluate.py (the command).
"""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medai.models.confined.segmenter import ConfinedSegmenter
from medai.models.errors import ModelRefused, ModelsError
from medai.models.format.metadata import EvaluationClass
from medai.models.volume import Labels
from medai.training.cases import Case, Example
from medai.training.errors import DataError, TrainingError
from medai.training.judging.model import Model
from medai.training.metrics import TOLERANCE_MM, Measures, measure


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
    with Watch(str(segmenter.process.pid) if isinstance(segmenter, ConfinedSegmenter) else "self") as watch:
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


class Watch:
    """Seconds and peak memory between entering and leaving.

    On a CPU the peak is the process's resident set, counted anew for each case where Linux allows that; elsewhere it
    is the largest since the process began. On a GPU it is what torch allocated. ``process`` is where the model runs:
    a number, or this one.
    """

    def __init__(self, process: str = "self") -> None:
        self._process = process
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
            _forget_peak(self._process)
            self._before_mb = _status_mb(self._process, "VmRSS") or 0.0
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._began
        if self._cuda:
            self.peak_mb = torch.cuda.max_memory_allocated() / 1e6
        else:
            ours_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
            self.peak_mb = _status_mb(self._process, "VmHWM") or ours_mb
        self.growth_mb = max(0.0, self.peak_mb - self._before_mb) if self._before_mb else 0.0


def _give_back() -> None:
    """Return freed memory to the system, or what one model left behind would hide what the next one takes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _forget_peak(process: str) -> None:
    """Linux: 5 in clear_refs sets VmHWM back to the present size (proc(5))."""
    try:
        Path(f"/proc/{process}/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _status_mb(process: str, key: str) -> float | None:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None
