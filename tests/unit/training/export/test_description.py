"""What a person says of a model is checked where it is wrong."""

from __future__ import annotations

from pathlib import Path

import judging_cases as cases
import pytest

from medai.training.errors import ConfigError
from medai.training.export.description import read_description


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("title =", "titel =", "titel: there is no such key; did you mean title?"),
        ("modalities =", "modality =", "input.modality: there is no such key; did you mean modalities?"),
        ("colour = [255", "color = [255", "segments.0.color: there is no such key; did you mean colour?"),
        ('licence = "Apache-2.0"\n', "", "licence: Field required"),
        ("number = 2", "number = 1", "two have the same number"),
        ("[input]", '[files]\n"../x" = "y"\n[input]', "must be a path in a folder of the bundle"),
        ("[input]", '[files]\n"docs/x.png" = "y.png"\n[input]', "y.png is not there"),
        ("[input]", "[evaluation.core]\nlabels = [2]\nsegments = [7]\n[input]", "names segments that are not there"),
    ],
)
def test_a_fault_in_a_description_is_named_with_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = cases.write_description(tmp_path, cases.DESCRIPTION.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_description(path)
    assert expected in str(caught.value)
