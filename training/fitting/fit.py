"""Train a network by a configuration: the whole loop on one page. ``medai-train fit``.

A run folder holds the configuration, the split, the best weights, a checkpoint after each epoch, the history and
TensorBoard's files. A training that was killed goes on with ``--resume`` from its last whole epoch and sees the very
patches that it would have seen: every random number derives from the seed, the epoch and the patch.
Next: segmentation.py and series_kind.py (the tasks), run_folder.py (what is kept).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from medai.models.errors import ModelsError
from medai.models.format.archives import read_weights
from medai.models.format.weights import load_into
from medai.models.networks.definition import build
from medai.models.networks.sliding import Network
from medai.training.config import ComputeConfig, OptimiserConfig, TrainingConfig, parse, read, tables
from medai.training.errors import ConfigError, TrainingError
from medai.training.fitting.open_task import open_task
from medai.training.fitting.run_folder import RunFolder, Summary
from medai.training.fitting.task import State, Task
from medai.training.output import answer, json_argument

EXAMPLES = """\
examples:
  medai-train fit training/configs/mr_hippocampus.toml --data DATA --out runs/hippocampus
  medai-train fit training/configs/mr_hippocampus.toml --data DATA --out runs/hippocampus --resume
  medai-train fit config.toml --out runs/tuned --set 'network.start="models/bundles/ct_lungs"' --set optimiser.lr=5e-4
  medai-train fit config.toml --out runs/try --set budget.epochs=5 --set optimiser.lr=1e-3
"""


def fit(task: Task, config: TrainingConfig, folder: RunFolder, *, resume: bool = False, quiet: bool = False) -> Summary:
    """Train until the budget ends; the best weights are in the folder. Raises TrainingError."""
    trainer = Trainer(task, config)
    state = trainer.restore(folder.checkpoint()) if resume else trainer.start()
    began = time.monotonic() - state.seconds
    with folder.board(config, trainer.network, task.sample(), enabled=not resume) as board:
        for epoch in tqdm(range(state.epoch, config.budget.epochs), **_bar(config, state, quiet=quiet)):
            row = trainer.epoch(epoch)
            if _is_due(epoch, config):
                row |= task.validate(trainer.kept(), trainer.device)
                _remember_best(state, row["score"], epoch, trainer, folder)
                board.pictures(task.pictures(trainer.kept(), trainer.device), epoch)
            state.epoch, state.seconds = epoch + 1, time.monotonic() - began
            state.history.append({"epoch": float(epoch), **row, "seconds": state.seconds})
            board.scalars(row, epoch)
            folder.keep(trainer.snapshot(state), state.history)
            if _is_over(state, config):
                break
    return folder.finish(config, task.network_def(), trainer.network, state, device=str(trainer.device))


class Trainer:
    """Network, optimiser and their state on one device."""

    def __init__(self, task: Task, config: TrainingConfig) -> None:
        self.task, self.config = task, config
        self.device, self._precision = choose_device(config.compute)
        if config.compute.threads:
            torch.set_num_threads(config.compute.threads)
        torch.manual_seed(config.seed)
        self.network = build(task.network_def())
        if config.compute.checkpointing:
            recompute_activations(self.network)
        self.network.to(self.device, memory_format=self._layout())  # type: ignore[call-overload] # missing in stubs
        self._optimiser = make_optimiser(self.network, config.optimiser)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._precision is torch.float16)
        self._average = averaged(self.network, config.optimiser.ema) if config.optimiser.ema else None
        self._forward = torch.compile(self.network) if config.compute.compile else self.network

    def epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the epoch's patches; its mean loss and learning rate. Raises TrainingError on a NaN loss."""
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)  # dropout
        self.network.train()
        batches, total, count = self.task.batches(epoch), 0.0, 0
        accumulate, clip = self.config.budget.accumulate, self.config.optimiser.clip_norm
        for step, (images, target) in enumerate(batches):
            rate = self._set_rate(epoch + step / len(batches))
            loss = self._loss(images, target)
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss became {float(loss)} in epoch {epoch}: lower optimiser.lr ({rate:g})")
            self._scaler.scale(loss / accumulate).backward()  # type: ignore[no-untyped-call] # torch has no types here
            if (step + 1) % accumulate == 0 or step + 1 == len(batches):
                self._step(clip)
            total, count = total + float(loss.detach()) * len(images), count + len(images)
        return {"loss": total / max(count, 1), "lr": rate}

    def _loss(self, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        images = images.to(self.device, memory_format=self._layout(images.ndim), non_blocking=True)
        with self._autocast():
            logits = self._forward(images)
        return self.task.loss(logits.float(), target.to(self.device, non_blocking=True))

    def _step(self, clip: float) -> None:
        self._scaler.unscale_(self._optimiser)
        if clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.network)

    def _set_rate(self, epoch: float) -> float:
        rate = learning_rate(epoch, self.config)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        return rate

    def kept(self) -> Network:
        """The network that is validated and kept: the average where there is one."""
        network = self.weights_of().eval()

        def run(images: torch.Tensor) -> torch.Tensor:
            with self._autocast():
                found: torch.Tensor = network(images)
            return found

        return run

    def weights_of(self) -> torch.nn.Module:
        """The module whose weights are kept."""
        return self._average.module if self._average is not None else self.network

    def snapshot(self, state: State) -> dict[str, Any]:
        """Everything that a resumed training needs: tensors, numbers and words only."""
        return {
            "network": self.network.state_dict(),
            "average": self._average.state_dict() if self._average is not None else {},
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "state": dict(vars(state)),
        }

    def start(self) -> State:
        """The beginning: random weights, or those of ``network.start``. Raises TrainingError when they do not fit."""
        if self.config.network.start:
            path = weights_at(Path(self.config.network.start))
            try:
                load_into(self.network, read_weights(path))
            except ModelsError as error:
                raise TrainingError(f"network.start: {path.name}: {error}") from error
            if self._average is not None:
                self._average.module.load_state_dict(self.network.state_dict())
        return State()

    def restore(self, snapshot: dict[str, Any]) -> State:
        """Go on from a snapshot. Raises TrainingError when it is another network's."""
        try:
            self.network.load_state_dict(snapshot["network"])
            self._optimiser.load_state_dict(snapshot["optimiser"])
            self._scaler.load_state_dict(snapshot["scaler"])
            if self._average is not None:
                self._average.load_state_dict(snapshot["average"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError("the checkpoint is of another network or optimiser; start a new run folder") from error
        return State(**snapshot["state"])

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._precision is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._precision)

    def _layout(self, ndim: int = 0) -> torch.memory_format:
        if not self.config.compute.channels_last:
            return torch.contiguous_format
        dims = ndim - 2 if ndim else len(self.config.budget.patch)
        return torch.channels_last_3d if dims == 3 else torch.channels_last


def weights_at(path: Path) -> Path:
    """The weights of a run, of a bundle, or a file itself. Raises TrainingError."""
    for candidate in (path / "best.safetensors", path / "models" / "model.safetensors", path):
        if candidate.is_file():
            return candidate
    raise TrainingError(f"network.start: {path} is neither a run, nor a bundle, nor a file of weights")


def choose_device(compute: ComputeConfig) -> tuple[torch.device, torch.dtype]:
    """Device and the type of its arithmetic. Raises TrainingError for a GPU that is not there."""
    cuda = torch.cuda.is_available()
    if compute.device == "cuda" and not cuda:
        raise TrainingError('compute.device is "cuda", but torch sees no GPU here')
    device = torch.device("cuda" if cuda and compute.device != "cpu" else "cpu")
    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if compute.precision != "auto":
        return device, named[compute.precision]
    if device.type == "cpu":
        return device, torch.float32
    torch.backends.cudnn.benchmark = True
    return device, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def make_optimiser(network: torch.nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """By [optimiser]."""
    if config.name == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=config.lr, momentum=0.99, nesterov=True, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(epoch: float, config: TrainingConfig) -> float:
    """Warm-up in a straight line, then half a cosine from the full rate to nothing at the end of the budget."""
    warm, total = config.optimiser.warmup_epochs, config.budget.epochs
    if epoch < warm:
        return config.optimiser.lr * (0.01 + 0.99 * epoch / warm)
    done = min(1.0, (epoch - warm) / max(total - warm, 1e-6))
    return config.optimiser.lr * 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * done))))


def averaged(network: torch.nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average that forgets the untrained beginning: its decay grows to ``decay``."""

    def average(kept: torch.Tensor, new: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        now = min(decay, (1.0 + float(steps)) / (10.0 + float(steps)))
        return kept.lerp(new, 1.0 - now) if kept.is_floating_point() else new

    return AveragedModel(network, avg_fn=average, use_buffers=True)


def recompute_activations(network: torch.nn.Module) -> None:
    """Gradient checkpointing for each block that holds convolutions directly; weights and their names stay."""
    for block in network.modules():
        if any(isinstance(child, torch.nn.Conv2d | torch.nn.Conv3d) for child in block.children()):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _bar(config: TrainingConfig, state: State, *, quiet: bool) -> dict[str, Any]:
    return {
        "desc": config.name,
        "unit": "epoch",
        "initial": state.epoch,
        "total": config.budget.epochs,
        "disable": quiet,
        "mininterval": 1.0,
    }


def _is_due(epoch: int, config: TrainingConfig) -> bool:
    return (epoch + 1) % config.budget.validate_every == 0 or epoch + 1 == config.budget.epochs


def _remember_best(state: State, score: float, epoch: int, trainer: Trainer, folder: RunFolder) -> None:
    if score > state.best:
        state.best, state.best_epoch, state.since_best = score, epoch, 0
        folder.keep_best(trainer.weights_of())
    else:
        state.since_best += 1


def _is_over(state: State, config: TrainingConfig) -> bool:
    budget = config.budget
    if budget.patience and state.since_best >= budget.patience:
        tqdm.write(f"stopped early: no better validation for {state.since_best} times", file=sys.stderr)
        return True
    if budget.minutes and state.seconds >= budget.minutes * 60:
        tqdm.write(
            f"stopped after {state.epoch} of {budget.epochs} epochs: budget.minutes = {budget.minutes:g}",
            file=sys.stderr,
        )
        return True
    return False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``medai-train fit``."""
    parser.epilog = EXAMPLES
    parser.add_argument("config", type=Path, help="the training's TOML file")
    parser.add_argument("--data", help="the data set, instead of [data] root")
    parser.add_argument("--out", type=Path, required=True, help="the run folder; made when absent")
    parser.add_argument("--resume", action="store_true", help="continue from the run folder's last complete epoch")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key, as in TOML")
    json_argument(parser, "the summary")


def run(options: argparse.Namespace) -> int:
    """``medai-train fit``: 0 when the training ended by its budget or early."""

    config = override(read(options.config), options.set, data=options.data)
    folder = RunFolder(options.out)
    if options.resume:
        folder.require_same(config)
    else:
        folder.start(config)
    task = open_task(config, folder, resume=options.resume)
    summary = fit(task, config, folder, resume=options.resume)
    answer(options, json.loads(summary.json()), summary.text())
    return 0


def override(config: TrainingConfig, changes: list[str], *, data: str | None) -> TrainingConfig:
    """A configuration with ``section.key=value`` changed. Raises ConfigError."""
    import tomllib

    table = tables(config)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write KEY=VALUE, e.g. --set budget.epochs=5")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"--set {change}: {value} is not a TOML value (texts need quotes)") from error
        place: Any = table
        *sections, last = key.strip().split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = parsed
    if data:
        table["data"]["root"] = data
    return parse(table, where="--set")
