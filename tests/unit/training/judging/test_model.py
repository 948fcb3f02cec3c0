"""Which expert labels a model's segments answer to, as the command line may say it."""

from __future__ import annotations

import shutil
from pathlib import Path

import judging_cases as cases
import pytest

from medai.training.errors import ConfigError, TrainingError
from medai.training.judging.model import open_model, parse_class, require_classes
from medai.training.judging.options import read_names, with_classes


def test_a_class_is_a_name_labels_and_segments() -> None:
    name, entry = parse_class("lungs=1,2:3")
    assert (name, entry.labels, entry.segments) == ("lungs", (1, 2), (3,))


@pytest.mark.parametrize("text", ["lungs", "lungs=1", "lungs=1:", "=1:1", "lungs=a:1", "lungs:1=1", ""])
def test_what_is_no_class_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write NAME=LABELS:SEGMENTS, for instance lungs=1,2:1"):
        parse_class(text)


def test_a_run_is_opened_as_the_bundle_that_it_would_be_with_its_split(tmp_path: Path) -> None:
    run = cases.make_run(tmp_path / "run")
    with open_model(run, draws=False) as model:
        assert model.name == "run"
        assert model.segmenter is None
        assert model.kept is not None
        assert model.weights_bytes == sum(path.stat().st_size for path in model.bundle.weights) > 0
        assert set(model.classes) == {"shell", "core"}
        require_classes(model)
        folder = model.bundle.folder
    assert not folder.exists(), "made for the occasion"


def test_a_bundle_that_somebody_brought_is_opened_apart_and_what_was_just_trained_is_not(
    tmp_path: Path, opened_here: list[str]
) -> None:
    run = cases.make_run(tmp_path / "run")
    with open_model(run) as model:
        assert model.segmenter is not None
        assert opened_here == []
        shutil.copytree(model.bundle.folder, tmp_path / "brought")
    with open_model(tmp_path / "brought"):
        assert opened_here == ["brought"]


def test_classes_that_are_said_go_over_the_bundles_and_must_be_drawn(tmp_path: Path) -> None:
    with open_model(cases.make_run(tmp_path / "run"), draws=False) as model:
        assert with_classes(model, []) is model
        assert dict(with_classes(model, ["both=1,2:1,2"]).classes)["both"].segments == (1, 2)
        with pytest.raises(ConfigError, match=r"--class x: run draws the segments \[1, 2\]"):
            with_classes(model, ["x=1:1,9"])
        assert dict(with_classes(model, ["x=1:1,9"], some=True).classes)["x"].segments == (1,)
        with pytest.raises(ConfigError, match="--class x"):
            with_classes(model, ["x=1:9"], some=True)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not a folder: name a bundle"), open_model(tmp_path / "none"):
        pass


def test_names_are_one_a_line_without_comments(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("# chosen by hand\n a \n\nb\n")
    assert read_names(tmp_path / "names") == ("a", "b")
