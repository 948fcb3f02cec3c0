"""A series that shows something else is refused in words; where nobody can tell, work goes on and says so."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from medai.models.errors import ModelRefused, ModelUnavailable
from medai.models.format.metadata import Guard
from medai.models.geometry import Geometry
from medai.models.volume import Volume
from medai.workers.guard import Watch

HEADS = Guard(parts=("head", "head_neck"), least=0.5)
VOLUME = Volume(
    voxels=np.zeros((3, 3, 3), np.int16),
    geometry=Geometry(
        origin_mm=(0.0, 0.0, 0.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(1.0, 1.0, 1.0), shape=(3, 3, 3)
    ),
    modality="MR",
)


@dataclass(frozen=True)
class Seen:
    """What a fake classifier tells."""

    probabilities: dict[str, float]
    upright: float = 0.98

    @property
    def part(self) -> str:
        return max(self.probabilities, key=lambda part: self.probabilities[part])


@dataclass
class Models:
    """A registry with one guarded model and perhaps a classifier."""

    seen: Seen | None = None
    guards: dict[str, Guard] = field(default_factory=lambda: {"mr_hippocampus": HEADS})
    away: str = ""
    looked: int = 0

    def guard(self, name: str) -> Guard | None:
        return self.guards.get(name)

    def classifier(self) -> Models | None:
        if self.away:
            raise ModelUnavailable(self.away)
        return self if self.seen else None

    def classify(self, volume: Volume) -> Seen:
        assert volume is VOLUME
        assert self.seen is not None
        self.looked += 1
        return self.seen


HEAD = Seen({"head": 0.90, "head_neck": 0.08, "abdomen": 0.02})
ABDOMEN = Seen({"head": 0.02, "head_neck": 0.01, "abdomen": 0.97})


def header(part: str) -> Dataset:
    image = Dataset()
    image.BodyPartExamined = part
    return image


def test_a_series_that_shows_what_the_model_reads_passes_and_says_what_was_seen() -> None:
    check = Watch(Models(HEAD), "refuse").look("mr_hippocampus", VOLUME, header("BRAIN"))
    assert check is not None
    assert (check.name, check.passed) == ("series kind", True)
    assert check.text == "the pixels look like head (0.90), which the model reads"


def test_a_wrongly_labelled_series_is_refused_with_what_was_seen_and_what_was_said() -> None:
    with pytest.raises(ModelRefused) as caught:
        Watch(Models(ABDOMEN), "refuse").look("mr_hippocampus", VOLUME, header("BRAIN"))
    assert str(caught.value) == (
        "the pixels look like abdomen (0.97), but the model mr_hippocampus reads head or head and neck; "
        "the header says BodyPartExamined BRAIN: is the series labelled wrongly?"
    )


@pytest.mark.parametrize("image", [None, Dataset(), header("DOE JANE")])
def test_a_reason_repeats_only_words_that_are_body_parts(image: Dataset | None) -> None:
    with pytest.raises(ModelRefused, match="is this the right series for it") as caught:
        Watch(Models(ABDOMEN), "refuse").look("mr_hippocampus", VOLUME, image)
    assert "DOE" not in str(caught.value)


def test_the_probabilities_of_all_the_models_parts_count_together() -> None:
    either = Seen({"abdomen": 0.40, "head": 0.35, "head_neck": 0.25})
    check = Watch(Models(either), "refuse").look("mr_hippocampus", VOLUME)
    assert check is not None
    assert check.passed is True


def test_pixels_that_do_not_lie_as_the_header_says_are_refused() -> None:
    turned = Seen(HEAD.probabilities, upright=0.03)
    with pytest.raises(ModelRefused, match=r"do not lie as the header says \(upright 0.03\)"):
        Watch(Models(turned), "refuse").look("mr_hippocampus", VOLUME)


def test_a_warning_lets_the_model_read_on() -> None:
    check = Watch(Models(ABDOMEN), "warn").look("mr_hippocampus", VOLUME)
    assert check is not None
    assert check.passed is False
    assert "look like abdomen" in check.text


def test_nobody_looks_where_the_guard_is_off_or_the_model_reads_anything() -> None:
    models = Models(ABDOMEN)
    assert Watch(models, "off").look("mr_hippocampus", VOLUME) is None
    assert Watch(models, "refuse").look("mr_brain", VOLUME) is None
    assert models.looked == 0


@pytest.mark.parametrize("models", [Models(), Models(HEAD, away="weights are missing")])
def test_a_missing_classifier_stops_nothing_is_noted_and_is_logged_once(models: Models) -> None:
    watch = Watch(models, "refuse")
    with capture_logs() as lines:
        checks = [watch.look("mr_hippocampus", VOLUME) for _ in range(3)]
    assert [check.passed for check in checks if check] == [None, None, None]
    assert [line["event"] for line in lines] == ["series_kind_missing"]
