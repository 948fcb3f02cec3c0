"""A training sees the same patches again after a kill, fits what it is given, and says what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trainings import history, kill_in_the_middle, losses

from medai.models.geometry import Geometry
from medai.models.networks.definition import build, definition
from medai.models.volume import Volume
from medai.training.cases import Example
from medai.training.cli import main
from medai.training.config import parse
from medai.training.data.datasets import write_pair
from medai.training.errors import ConfigError
from medai.training.fitting.fit import learning_rate, recompute_activations

EPOCHS = 12
CONFIG = f"""
name = "balls"
seed = 4
[data]
modality = "MR"
classes = {{ small = [1], large = [2] }}
[split]
test = 0.25
validation = 0.25
[feed]
axes = "LPS"
[inferer]
multiple = 8
[network]
channels = [4, 8, 16]
[augmentation]
rotate_deg = 5
[optimiser]
lr = 1e-2
warmup_epochs = 0.5
ema = 0.8
[budget]
epochs = {EPOCHS}
patch = [16, 24, 16]
crop = "centre"
batch = 2
validate_every = 2
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small volumes with two balls of different brightness each."""
    folder = tmp_path_factory.mktemp("balls")
    draw = np.random.default_rng(0)
    for number in range(8):
        z, y, x = np.mgrid[:18, :24, :18]
        labels = np.zeros((18, 24, 18), np.uint8)
        labels[(z - 9) ** 2 + (y - 6) ** 2 + (x - 9) ** 2 < 10] = 1
        labels[(z - 9) ** 2 + (y - 16) ** 2 + (x - 9) ** 2 < 30] = 2
        voxels = (draw.normal(100, 10, labels.shape) + 80 * (labels == 1) + 160 * (labels == 2)).astype(np.int16)
        geometry = Geometry(
            origin_mm=(0.0, 0.0, 0.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(1.0,) * 3, shape=labels.shape
        )
        write_pair(
            Example(volume=Volume(voxels=voxels, geometry=geometry, modality="MR"), labels=labels), f"b{number}", folder
        )
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "balls.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training to its end; nobody changes it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "balls.toml").write_text(CONFIG, encoding="utf-8")
    assert main(["fit", str(folder / "balls.toml"), "--data", str(data), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_training_learns_and_leaves_a_whole_run_folder(trained: Path) -> None:
    rows = history(trained)
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert {"best.safetensors", "last.pt", "summary.json", "split.json", "config.toml"} <= {
        p.name for p in trained.iterdir()
    }
    assert any((trained / "tensorboard").iterdir())


def test_a_killed_training_goes_on_with_the_same_losses(
    data: Path, config: Path, trained: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    kill_in_the_middle(["fit", str(config), "--data", str(data), "--out", str(killed)], killed)
    assert len(history(killed)) < EPOCHS, "killed too late to show anything"
    assert main(["fit", str(config), "--data", str(data), "--out", str(killed), "--resume"]) == 0
    np.testing.assert_allclose(losses(killed), losses(trained), rtol=1e-4)


def test_a_second_training_does_not_write_over_the_first(data: Path, config: Path, copied: Path) -> None:
    before = (copied / "history.csv").read_bytes()
    assert main(["fit", str(config), "--data", str(data), "--out", str(copied)]) == 1
    assert (copied / "history.csv").read_bytes() == before


def test_a_resumed_training_must_be_the_same(
    data: Path, config: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", str(config), "--data", str(data), "--out", str(copied)]
    assert main([*command, "--resume", "--set", "optimiser.lr=0.5"]) == 1
    assert "must be the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("budget.epoch=5", "did you mean epochs"),
        ("data.classes={}", "no training case|at least"),
        ("network.name='u-net'", "unet"),
        ("budget.epochs", "KEY=VALUE"),
    ],
)
def test_a_wrong_configuration_is_said_in_words(
    change: str, words: str, data: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["fit", str(config), "--data", str(data), "--out", str(tmp_path / "run"), "--set", change])
    assert code in (1, 2)
    said = capsys.readouterr().err
    assert any(word in said for word in words.split("|"))


@pytest.mark.parametrize(
    ("name", "channels"), [("unet", (4, 8, 16)), ("densenet", (8, 2, 2)), ("deeplabv3plus", (8, 12, 16))]
)
@pytest.mark.parametrize("sides", [(16, 24, 16), (32, 16)])
def test_every_network_gives_logits_of_the_images_size(
    name: str, channels: tuple[int, ...], sides: tuple[int, ...]
) -> None:
    network = build(definition(name, dims=len(sides), channels_in=1, channels_out=3, channels=channels))
    assert network(torch.zeros((1, 1, *sides))).shape == (1, 3, *sides)


def test_recomputed_activations_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    network = build(definition("unet", dims=3, channels_in=1, channels_out=2, channels=(4, 8)))
    image = torch.randn((1, 1, 8, 8, 8), requires_grad=True)

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        network(image).square().mean().backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    plain = gradients()
    recompute_activations(network)
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_rate_warms_up_and_ends_at_nothing() -> None:
    config = parse(
        {
            "name": "x",
            "data": {"classes": {"a": [1]}},
            "optimiser": {"lr": 0.1, "warmup_epochs": 2},
            "budget": {"epochs": 10},
        },
        where="test",
    )
    rates = [learning_rate(epoch, config) for epoch in (0, 1, 2, 6, 10)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(0.1)
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.0, abs=1e-9)


def test_the_same_image_under_two_names_is_leakage(data: Path, config: Path, tmp_path: Path) -> None:
    import shutil

    twice = tmp_path / "twice"
    shutil.copytree(data, twice)
    for part in ("images", "labels"):
        for number in range(1, 8):
            shutil.copy(twice / part / "b0.nii.gz", twice / part / f"b{number}.nii.gz")
    assert main(["fit", str(config), "--data", str(twice), "--out", str(tmp_path / "run")]) == 1


def test_a_training_may_start_from_the_weights_of_another(
    data: Path, config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = trained, tmp_path / "second"
    command = ["fit", str(config), "--data", str(data), "--out", str(second), "--set", "budget.epochs=2"]
    assert main([*command, "--set", f"network.start='{first}'", "--set", "optimiser.lr=1e-3"]) == 0
    assert float(history(second)[0]["loss"]) < 0.8 * float(history(first)[0]["loss"])
    other = ["--set", f"network.start='{first}'", "--set", "network.channels=[4,8]"]
    assert main([*command[:-3], str(tmp_path / "third"), *other]) == 1
    assert "do not fit" in capsys.readouterr().err


def test_repeated_cases_come_more_often(data: Path, tmp_path: Path) -> None:
    from medai.training.fitting.segmentation import repeated

    cases = [SimpleNamespace(name=name) for name in "ab"]
    assert [case.name for case in repeated(cases, {"b": 3})] == ["a", "b", "b", "b"]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="names c, which is no training case"):
        repeated(cases, {"c": 2})  # type: ignore[arg-type]


def test_an_unknown_section_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean budget"):
        parse({"name": "x", "data": {"classes": {"a": [1]}}, "budgets": {}}, where="test")
