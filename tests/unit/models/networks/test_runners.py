"""What answers for a network; and nothing pickled is ever run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_cases import (
    PLAIN_CONV,
    Trap,
    TwoClasses,
    checkpoint,
    disguised_torchscript,
    nnunet_network,
    onnx_folder,
    torchscript_folder,
)
from safetensors.torch import save_file

from medai.models.errors import ModelUnavailable
from medai.models.format.recipe import Recipe
from medai.models.networks.definition import SmallUNet
from medai.models.networks.runners import make_runner

CPU = torch.device("cpu")
SMALL = Recipe(network_def={"_target_": "medai.models.networks.definition.SmallUNet", "channels": [4, 4, 8, 8]})
NNUNET = Recipe(
    runner="nnunet",
    network_def={
        "_target_": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        **PLAIN_CONV,
        "input_channels": 1,
        "num_classes": 2,
    },
)


@pytest.fixture
def network() -> SmallUNet:
    torch.manual_seed(0)
    return SmallUNet((4, 4, 8, 8)).eval()


def run(recipe: Recipe, *weights: Path, shape: tuple[int, ...] = (2, 1, 32, 40)) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch and the answer to it."""
    torch.manual_seed(1)
    batch = torch.randn(shape)
    with torch.inference_mode():
        return batch, make_runner(recipe, weights, CPU, name="mine")(batch)


@pytest.mark.parametrize(
    "held",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {"model": state, "best": np.float64(0.9), "curve": [np.float32(1)]},
        lambda state: {"network_weights": state},
        lambda state: {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
    ],
)
def test_weights_are_found_in_a_checkpoint(held: Any, network: SmallUNet, tmp_path: Path) -> None:
    torch.save(held(network.state_dict()), tmp_path / "net.pt")
    batch, found = run(SMALL, tmp_path / "net.pt")
    with torch.inference_mode():
        assert torch.allclose(found, network(batch), atol=2e-2)
    assert found.dtype == torch.float32


def test_safetensors_are_read(network: SmallUNet, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    batch, found = run(SMALL, tmp_path / "net.safetensors")
    with torch.inference_mode():
        assert torch.allclose(found, network(batch), atol=1e-4)


def test_torchscript_and_onnx_answer_alike(tmp_path: Path) -> None:
    shape = (1, 1, 8, 9, 10)
    batch, script = run(Recipe(runner="torchscript"), torchscript_folder(tmp_path) / "model.ts", shape=shape)
    _, onnx = run(Recipe(runner="onnx"), onnx_folder(tmp_path) / "model.onnx", shape=shape)
    assert torch.allclose(script, onnx, atol=1e-6)
    assert torch.equal(script.argmax(1), (batch[:, 0] < -0.5).long())


def test_folds_are_averaged(tmp_path: Path) -> None:
    networks = [nnunet_network(seed) for seed in (0, 1)]
    paths = [tmp_path / f"fold_{number}.pth" for number in range(2)]
    for path, one in zip(paths, networks, strict=True):
        torch.save(checkpoint(one), path)
    batch, found = run(NNUNET, *paths, shape=(1, 1, 16, 16, 16))
    with torch.inference_mode():
        expected = (networks[0](batch) + networks[1](batch)) / 2
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, networks[0](batch), atol=1e-3)


def test_weights_that_do_not_fit_are_named(network: SmallUNet, tmp_path: Path) -> None:
    state = network.state_dict()
    state["extra"] = state.pop("final.bias")
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ModelUnavailable, match=r"mine: .*missing final\.bias; unknown extra"):
        run(SMALL, tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("os.system", "is not one of"),
        ("dynamic_network_architectures.architectures.primus.Primus", "is not one of"),
    ],
)
def test_an_architecture_that_is_not_listed_is_not_built(target: str, text: str, tmp_path: Path) -> None:
    torch.save(checkpoint(nnunet_network(0)), tmp_path / "net.pth")
    recipe = NNUNET.model_copy(update={"network_def": {**NNUNET.network_def, "_target_": target}})
    with pytest.raises(ModelUnavailable, match=text):
        run(recipe, tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["os.system", "torch.nn.Module", "builtins.eval"])
def test_a_layer_that_is_not_listed_is_not_built(name: str, tmp_path: Path) -> None:
    torch.save(checkpoint(nnunet_network(0)), tmp_path / "net.pth")
    recipe = NNUNET.model_copy(update={"network_def": {**NNUNET.network_def, "nonlin": name}})
    with pytest.raises(ModelUnavailable, match=f"nonlin names {name}"):
        run(recipe, tmp_path / "net.pth")


def test_an_answer_of_another_size_is_refused(tmp_path: Path) -> None:
    class Halves(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :, ::2]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Halves()).save(str(tmp_path / "net.ts"))
    with pytest.raises(ModelUnavailable, match=r"mine: the network answered \(2, 1, 16, 40\) to \(2, 1, 32, 40\)"):
        run(Recipe(runner="torchscript"), tmp_path / "net.ts")


class Writes(torch.nn.Module):
    """TorchScript that would write a file: no pickle, and yet not welcome."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.save(images, "written.pt")
        return images


def test_torchscript_that_writes_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Writes()).save("net.ts")
    with pytest.raises(ModelUnavailable, match="names torch's operator save .* may not read or write files"):
        run(Recipe(runner="torchscript"), tmp_path / "net.ts")
    assert not (tmp_path / "written.pt").exists()


def test_a_kind_that_does_not_fit_the_file_is_named(network: SmallUNet, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelUnavailable, match=r"net\.pt is not a TorchScript archive"):
        run(Recipe(runner="torchscript"), tmp_path / "net.pt")
    with pytest.raises(ModelUnavailable, match='is a TorchScript archive: say "runner": "torchscript"'):
        run(SMALL, torchscript_folder(tmp_path) / "model.ts")
    with pytest.raises(ModelUnavailable, match="missing, damaged, not ONNX"):
        run(Recipe(runner="onnx"), tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.safetensors", "net.ts", "net.onnx"])
@pytest.mark.parametrize("runner", ["network", "torchscript", "onnx", "nnunet"])
@pytest.mark.parametrize("form", ["pickle", "checkpoint", "torchscript"])
def test_pickled_code_is_never_run(form: str, runner: str, name: str, network: SmallUNet, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / name
    if form == "torchscript":
        disguised_torchscript(path, trap)
    elif form == "checkpoint":
        torch.save(checkpoint(network, init_args=Trap(trap)), path)
    else:
        torch.save(Trap(trap), path)
    recipe = NNUNET if runner == "nnunet" else SMALL.model_copy(update={"runner": runner})
    with pytest.raises(ModelUnavailable):
        run(recipe, path)
    assert not trap.exists()


def test_the_reason_names_pickled_code(network: SmallUNet, tmp_path: Path) -> None:
    torch.save(checkpoint(network, init_args=Trap(tmp_path / "trap")), tmp_path / "net.pt")
    with pytest.raises(ModelUnavailable, match=r"net\.pt holds pickled code, which is never run; export it as"):
        run(SMALL, tmp_path / "net.pt")


def test_the_trap_works_where_pickles_are_run(tmp_path: Path) -> None:
    torch.save(Trap(tmp_path / "trap"), tmp_path / "net.pt")
    torch.load(tmp_path / "net.pt", weights_only=False)
    assert (tmp_path / "trap").exists()


def test_two_classes_is_what_the_graphs_say() -> None:
    image = torch.tensor([-1.0, 0.0]).reshape(1, 1, 1, 1, 2)
    assert TwoClasses()(image).argmax(1).flatten().tolist() == [1, 0]
