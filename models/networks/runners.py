"""What answers for a network: weights in one of our networks, a TorchScript or ONNX graph, folds of nnU-Net.

A runner takes a batch [batch, 1, ...] and gives logits [batch, classes, ...] of the same size; how arrays are cut
up, and what logits mean, is the recipe's (sliding.py). Files are read by format/archives.py, which never runs pickled
code. Next: segmenters/load.py.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from medai.models.errors import ModelUnavailable
from medai.models.format.archives import read_weights, require_torchscript
from medai.models.format.recipe import Recipe
from medai.models.format.weights import load_into
from medai.models.networks.definition import SmallUNet, build
from medai.models.networks.onednn import direct


class Runner(Protocol):
    """A network that is ready to answer."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes, ...] of a batch [batch, 1, ...] of the same size, float32."""


def make_runner(recipe: Recipe, weights: Sequence[Path], device: torch.device, *, name: str) -> Runner:
    """The runner of a recipe, in evaluation mode on a device. Raises ModelUnavailable, saying what does not fit."""
    try:
        return RUNNERS[recipe.runner](recipe, weights, device, name)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{name}: {error}") from error


class _Module:
    """Calls a module and checks that what comes out has the shape that was promised."""

    def __init__(self, module: Callable[[torch.Tensor], Any], name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return answer(self._module(batch), batch, self._name)


class Members:
    """The mean of the logits of networks that were trained alike (other folds, other seeds)."""

    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        if not networks:
            raise ModelUnavailable("there is no weight file")
        self._networks = networks

    def __call__(self, batch: torch.Tensor) -> Any:
        """What the only network says, or the mean; float32."""
        if len(self._networks) == 1:
            return self._networks[0](batch)
        total: torch.Tensor = sum(network(batch).float() for network in self._networks) / len(self._networks)
        return total


class _Onnx:
    """A session of onnxruntime; tensors pass through numpy, on the CPU."""

    def __init__(self, path: Path, device: torch.device, name: str) -> None:
        self._name = name
        self._session = _session(path, device)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelUnavailable(f"{path.name} expects {len(inputs)} inputs; a model here reads one image")
        self._input = inputs[0].name
        self._kind = {"tensor(float16)": "float16", "tensor(double)": "float64"}.get(inputs[0].type, "float32")

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        values = batch.detach().cpu().numpy().astype(self._kind)
        try:
            outputs = self._session.run(None, {self._input: values})
        except Exception as error:
            # onnxruntime's errors share no public class of their own.
            raise ModelUnavailable(f"{self._name}: the ONNX graph does not accept {tuple(values.shape)}") from error
        return answer(torch.from_numpy(outputs[0]).to(batch.device), batch, self._name)


def answer(found: Any, batch: torch.Tensor, name: str) -> torch.Tensor:
    """A network's answer (the first of several, as with deep supervision), checked against what was asked."""
    if isinstance(found, list | tuple) and found:
        found = found[0]
    if not isinstance(found, torch.Tensor):
        raise ModelUnavailable(f"{name}: the network gave {type(found).__name__}, not a tensor")
    if found.ndim != batch.ndim or found.shape[0] != batch.shape[0] or found.shape[2:] != batch.shape[2:]:
        raise ModelUnavailable(
            f"{name}: the network answered {tuple(found.shape)} to {tuple(batch.shape)}; "
            "logits [batch, classes, ...] of the same size are needed"
        )
    return found.float()


def loaded(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """A network with weights from a file, in evaluation mode."""
    load_into(network, read_weights(path))
    return network.eval()


def ready(network_def: Mapping[str, Any], path: Path, device: torch.device) -> torch.nn.Module:
    """A network with its weights, for inference."""
    network = loaded(build(network_def), path)
    if isinstance(network, SmallUNet):
        network = network.fused()  # the same function, faster
    return direct(network).to(device)


def torchscript(path: Path, device: torch.device) -> torch.nn.Module:
    """A TorchScript graph. Raises ModelUnavailable for any other file."""
    checked = require_torchscript(path)
    with warnings.catch_warnings():
        # torch prefers torch.export; TorchScript is what people have.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            network: torch.nn.Module = torch.jit.load(io.BytesIO(checked), map_location=device)  # type: ignore[no-untyped-call] # torch has no types here
        except RuntimeError as error:
            raise ModelUnavailable(f"{path.name} is damaged, or made for another version of torch") from error
    return network.eval()


def _session(path: Path, device: torch.device) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelUnavailable("an ONNX model needs onnxruntime: pip install 'med-ai[foreign]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if device.type == "cpu":
        options.intra_op_num_threads = torch.get_num_threads()
    there = onnxruntime.get_available_providers()
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in there]
    try:
        # From its bytes: what lies beside the file is not read.
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as error:
        # onnxruntime's errors share no public class of their own.
        raise ModelUnavailable(f"{path.name} is missing, damaged, not ONNX, or keeps weights in other files") from error


def _one(weights: Sequence[Path]) -> Path:
    if len(weights) != 1:
        raise ModelUnavailable(f"one weight file is needed, there are {len(weights)}")
    return weights[0]


def _network(recipe: Recipe, weights: Sequence[Path], device: torch.device, name: str) -> Runner:
    definitions = (recipe.network_def, *(recipe.members or [recipe.network_def] * (len(weights) - 1)))
    if weights and len(definitions) != len(weights):
        raise ModelUnavailable(f"{len(definitions)} networks are defined, but there are {len(weights)} weight files")
    return _Module(Members([ready(one, path, device) for one, path in zip(definitions, weights, strict=False)]), name)


def _torchscript(_: Recipe, weights: Sequence[Path], device: torch.device, name: str) -> Runner:
    return _Module(torchscript(_one(weights), device), name)


def _onnx(_: Recipe, weights: Sequence[Path], device: torch.device, name: str) -> Runner:
    return _Onnx(_one(weights), device, name)


def _nnunet(recipe: Recipe, weights: Sequence[Path], device: torch.device, name: str) -> Runner:
    from medai.models.networks import nnunet

    networks = [direct(loaded(nnunet.build(recipe.network_def), path)).to(device) for path in weights]
    return _Module(Members(networks), name)


RUNNERS: Mapping[str, Callable[[Recipe, Sequence[Path], torch.device, str], Runner]] = {
    "network": _network,
    "torchscript": _torchscript,
    "onnx": _onnx,
    "nnunet": _nnunet,
}
