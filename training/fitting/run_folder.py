"""What a training leaves in its folder, each file written whole or not at all.

config.toml, split.json, best.safetensors, last.pt (after each epoch), history.csv, summary.json, tensorboard/.
Next: export/bundle.py (makes a bundle of it).
"""

from __future__ import annotations

import csv
import io
import json
import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

from medai.models.files import whole
from medai.models.format.weights import unshared
from medai.training.config import TrainingConfig, read, to_toml
from medai.training.errors import TrainingError
from medai.training.fitting.task import State


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to."""

    name: str
    network_def: dict[str, Any]
    classes: list[str]
    parameters: int
    seed: int
    epochs: int
    best_epoch: int
    best_score: float
    seconds: float
    device: str
    versions: dict[str, str]

    def text(self) -> str:
        """A line for people."""
        return (
            f"{self.name}: {self.epochs} epochs in {self.seconds / 60:.1f} minutes on {self.device}, "
            f"{self.parameters:,} parameters; best score {self.best_score:.4f} in epoch {self.best_epoch}"
        )

    def json(self) -> str:
        """For machines."""
        return json.dumps(asdict(self), indent=2) + "\n"


class Board:
    """TensorBoard's files."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def scalars(self, row: Mapping[str, float], epoch: int) -> None:
        """Loss, learning rate and validation figures."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def pictures(self, pictures: Iterable[tuple[str, Any]], epoch: int) -> None:
        """Slices with truth and answer."""
        for name, picture in pictures:
            self._writer.add_image(f"validation/{name}", picture, epoch, dataformats="HWC")


class RunFolder:
    """A folder of one training."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, config: TrainingConfig) -> None:
        """Make it. Raises TrainingError when a training is there already."""
        if (self.path / "last.pt").exists():
            raise TrainingError(f"{self.path} holds a training run: continue it with --resume, or name another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        self._write("config.toml", to_toml(config).encode())

    def require_same(self, config: TrainingConfig) -> None:
        """Raise TrainingError unless the run was begun with this configuration (the budget's end may differ)."""
        file = self.path / "config.toml"
        if not file.is_file() or not (self.path / "last.pt").is_file():
            raise TrainingError(f"{self.path} holds no training run to continue; leave out --resume")
        if _comparable(read(file)) != _comparable(config):
            raise TrainingError(f"{file} differs from the configuration given: a resumed training must be the same")

    def keep_split(self, names: Mapping[str, Sequence[str]], dataset: str) -> None:
        """Who trained, who chose, who may judge."""
        self._write("split.json", (json.dumps({"dataset": dataset, **names}, indent=1) + "\n").encode())

    def split(self) -> dict[str, Any]:
        """As kept."""
        content: dict[str, Any] = json.loads((self.path / "split.json").read_text(encoding="utf-8"))
        return content

    def checkpoint(self) -> dict[str, Any]:
        """The last whole epoch's snapshot."""
        found: dict[str, Any] = torch.load(self.path / "last.pt", weights_only=True, map_location="cpu")
        return found

    def keep(self, snapshot: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> None:
        """The checkpoint, then the history."""
        stream = io.BytesIO()
        torch.save(dict(snapshot), stream)
        self._write("last.pt", stream.getvalue())
        self._write("history.csv", _csv(history).encode())

    def keep_best(self, network: torch.nn.Module) -> None:
        """The best weights so far, float32."""
        with whole(self.path / "best.safetensors") as partial:
            save_file(unshared(network), partial)

    def finish(
        self,
        config: TrainingConfig,
        network_def: dict[str, Any],
        network: torch.nn.Module,
        state: State,
        *,
        device: str,
    ) -> Summary:
        """Write and return the summary."""
        import monai

        summary = Summary(
            name=config.name,
            network_def=network_def,
            classes=list(config.data.classes),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            seed=config.seed,
            epochs=state.epoch,
            best_epoch=state.best_epoch,
            best_score=state.best,
            seconds=round(state.seconds, 1),
            device=device,
            versions={"python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__},
        )
        self._write("summary.json", summary.json().encode())
        return summary

    @contextmanager
    def board(
        self, config: TrainingConfig, network: torch.nn.Module, sample: torch.Tensor, *, enabled: bool
    ) -> Iterator[Board]:
        """TensorBoard's writer; a new run begins with its configuration and the network's graph."""
        writer = SummaryWriter(str(self.path / "tensorboard"))
        try:
            if enabled:
                writer.add_text("config", f"```toml\n{to_toml(config)}\n```")
                _add_graph(writer, network, sample)
            yield Board(writer)
        finally:
            writer.close()

    def _write(self, name: str, content: bytes) -> None:
        with whole(self.path / name) as partial:
            partial.write_bytes(content)


def _add_graph(writer: SummaryWriter, network: torch.nn.Module, sample: torch.Tensor) -> None:
    device = next(network.parameters()).device
    was_training = network.training
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every branch; the picture is for people
        try:
            writer.add_graph(network.eval(), sample.to(device))
        except (RuntimeError, ValueError) as error:  # some networks cannot be traced; the training goes on
            writer.add_text("graph", f"not drawn: {type(error).__name__}")
    network.train(was_training)


def _comparable(config: TrainingConfig) -> dict[str, Any]:
    content = config.model_dump()
    content["data"].pop("root")
    content.pop("compute")
    content["budget"].pop("minutes")
    return content


def _csv(history: Sequence[Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for row in history for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return stream.getvalue()
