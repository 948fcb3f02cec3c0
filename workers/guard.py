"""Do the pixels show what the model reads? BodyPartExamined lies often, and a brain model finds a brain in a belly.

A bundle's ``guard`` names the parts that its model may read; the classifier series_kind says from the pixels alone
which part a series shows, and whether it lies as its header says. What does not fit is refused in words, or noted, as
``[worker] guard`` says. Where no classifier can run, work goes on and the result says so. Next: pipeline.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import structlog
from pydicom.dataset import Dataset

from medai.models.errors import ModelRefused, ModelUnavailable
from medai.models.format.metadata import Guard
from medai.models.volume import Check, Volume
from medai.workers.results.body_part import UNPAIRED

NAME = "series kind"
"""Of the check, as results and the ledger show it."""
UPRIGHT_LEAST = 0.3
"""How sure the classifier must be that the pixels lie as the header says. It chooses among five ways to lie: a series
that is turned gets less than 0.2, and one that is not more than 0.4 (docs/README.md of series_kind)."""
WORDS = {"head_neck": "head and neck", "other": "another part"}
"""Of the classifier's parts, where its own word is not what people say."""
PARTS = UNPAIRED | {"BREAST", "EXTREMITY", "FOOT", "HAND", "HIP", "KNEE", "LEG", "SHOULDER", "THORAX", "ARM", "ANKLE"}
"""Values of BodyPartExamined that are repeated in a reason; anything else in it may be anything."""
log = structlog.get_logger(__name__)


class Kind(Protocol):
    """What a series shows (medai.models.segmenters.series_kind.Kind)."""

    @property
    def part(self) -> str:
        """The likeliest part."""

    @property
    def probabilities(self) -> Mapping[str, float]:
        """Of each part."""

    @property
    def upright(self) -> float:
        """Probability that the pixels lie as the header says, among five ways."""


class Classifier(Protocol):
    """Who tells (medai.models.segmenters.series_kind.SeriesKind)."""

    def classify(self, volume: Volume) -> Kind:
        """What a volume shows."""


class Models(Protocol):
    """Where guards and the classifier come from (medai.models.registry.Registry)."""

    def guard(self, name: str) -> Guard | None:
        """Which parts a model may read; None: any."""

    def classifier(self) -> Classifier | None:
        """The one that tells; None where there is none. Raises ModelUnavailable where it cannot run."""


class Watch:
    """Looks at each series before its model does."""

    def __init__(self, models: Models, mode: Literal["refuse", "warn", "off"]) -> None:
        self._models, self._mode = models, mode
        self._told = False

    def look(self, model: str, volume: Volume, header: Dataset | None = None) -> Check | None:
        """What came of it; None for a model that reads anything. Raises ModelRefused, saying what was seen."""
        guard = self._models.guard(model) if self._mode != "off" else None
        if guard is None:
            return None
        classifier = self._classifier()
        if classifier is None:
            text = "the body part was not checked: there is no model series_kind here that can run"
            return Check(name=NAME, passed=None, text=text)
        check = judge(classifier.classify(volume), guard, model=model, header=header)
        if check.passed is False and self._mode == "refuse":
            raise ModelRefused(check.text)
        return check

    def _classifier(self) -> Classifier | None:
        try:
            found, reason = self._models.classifier(), "there is none"
        except ModelUnavailable as error:
            found, reason = None, str(error)
        if found is None and not self._told:
            self._told = True
            log.warning("series_kind_missing", reason=reason)
        return found


def judge(kind: Kind, guard: Guard, *, model: str, header: Dataset | None) -> Check:
    """Whether what was seen is what the model reads."""
    seen = f"{WORDS.get(kind.part, kind.part)} ({kind.probabilities[kind.part]:.2f})"
    if sum(kind.probabilities.get(part, 0.0) for part in guard.parts) < guard.least:
        reads = " or ".join(WORDS.get(part, part) for part in guard.parts)
        text = f"the pixels look like {seen}, but the model {model} reads {reads}{_header_says(header)}"
        return Check(name=NAME, passed=False, text=text)
    if kind.upright < UPRIGHT_LEAST:
        text = (
            f"the pixels do not lie as the header says (upright {kind.upright:.2f}): "
            "is the orientation in the headers of this series true?"
        )
        return Check(name=NAME, passed=False, text=text)
    return Check(name=NAME, passed=True, text=f"the pixels look like {seen}, which the model reads")


def _header_says(header: Dataset | None) -> str:
    part = str(header.get("BodyPartExamined") or "").strip().upper() if header is not None else ""
    if part in PARTS:
        return f"; the header says BodyPartExamined {part}: is the series labelled wrongly?"
    return ": is this the right series for it?"
