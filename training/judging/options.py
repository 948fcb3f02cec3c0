"""Options that evaluate, compare and promote share, and what they read and write alike.

Next: choice.py (which cases), case.py (how one is drawn), evaluate.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medai.training.cases import Dataset
from medai.training.data.datasets import open_dataset
from medai.training.errors import ConfigError, DataError
from medai.training.judging.model import Model, parse_class
from medai.training.metrics import TOLERANCE_MM


def class_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, where the bundle does not say it: shared with compare."""
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="NAME=LABELS:SEGMENTS",
        help="which expert labels which segments answer to, instead of what the bundle says",
    )


def data_arguments(parser: argparse.ArgumentParser) -> None:
    """Where cases come from: shared with compare and promote."""
    parser.add_argument("--data", required=True, metavar="DIR", help="images/ and labels/, dataset.json, DICOM, arrays")
    parser.add_argument("--format", default="auto", help="the data's format, where it cannot be guessed")
    parser.add_argument(
        "--ignore-labels", action="store_true", help="expert labels that no class names count as background"
    )


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """How models run and are measured: shared with compare and promote."""
    parser.add_argument(
        "--tolerance-mm", type=float, default=TOLERANCE_MM, metavar="MM", help="of the surface Dice (1 mm)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (0: torch's choice)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")


def with_classes(model: Model, texts: Sequence[str], *, some: bool = False) -> Model:
    """The model with the classes of ``--class``. Raises ConfigError for segments that it does not draw.

    ``some``: one of a class's segments is enough, where models draw the same thing in different pieces.
    """
    if not texts:
        return model
    classes = dict(parse_class(text) for text in texts)
    numbers = {segment.number for segment in model.bundle.segments}
    for name, entry in classes.items():
        drawn = tuple(number for number in entry.segments if number in numbers)
        if not drawn or (len(drawn) < len(entry.segments) and not some):
            raise ConfigError(f"--class {name}: {model.name} draws the segments {sorted(numbers)}")
        classes[name] = entry.model_copy(update={"segments": drawn})
    return replace(model, bundle=replace(model.bundle, evaluation=classes))


def open_data(options: argparse.Namespace, model: Model) -> Dataset:
    """The data set of ``--data``, read in the modality of the model where the format names none."""
    modalities = sorted(model.bundle.spec.modalities)
    return open_dataset(options.data, kind=options.format, modality=modalities[0] if modalities else "MR")


def read_names(path: Path) -> tuple[str, ...]:
    """Case names, one a line; blank lines and # comments are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of names") from error
    names = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not names:
        raise DataError(f"{path} names no case")
    return names
