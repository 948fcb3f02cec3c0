"""Run folders, read: what a finished training was, what it saw, and which runs it began from.

Next: fitting/run_folder.py (who writes them), export/bundle.py and judging/evaluate.py (who read them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medai.models.errors import ModelUnavailable
from medai.models.files import json_object
from medai.models.format.recipe import Recipe
from medai.training import config
from medai.training.config import TrainingConfig
from medai.training.errors import TrainingError

SIDES = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class KeptSplit:
    """The split of a run or bundle by names: what remains of it once the voxels are gone."""

    dataset: str
    sides: Mapping[str, tuple[str, ...]] = field(hash=False)
    """``train``, ``validation`` and ``test`` -> case names."""

    @property
    def seen(self) -> frozenset[str]:
        """Cases that trained the model or chose its checkpoint."""
        return frozenset(self.sides["train"]) | frozenset(self.sides["validation"])


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder as read; ``summary`` is its summary.json."""

    folder: Path
    config: TrainingConfig
    split: KeptSplit
    network_def: Mapping[str, Any] = field(hash=False)
    summary: Mapping[str, Any] = field(hash=False)
    stages: tuple[Run, ...] = ()
    """The runs whose weights it began with (``network.start``), the first one first; those that are still there."""

    @property
    def recipe(self) -> Recipe:
        """How its network is built, fed and read."""
        return Recipe(
            network_def=dict(self.network_def),
            feed=self.config.feed,
            inferer=self.config.inferer,
            cleaning=self.config.cleaning,
        )


def is_run(folder: Path) -> bool:
    """Whether a folder is a run (not a bundle)."""
    return (folder / "summary.json").is_file() and not (folder / "configs" / "metadata.json").is_file()


def read_run(folder: Path) -> Run:
    """A run folder. Raises TrainingError for one that is not finished."""
    missing = [
        name
        for name in ("config.toml", "split.json", "summary.json", "best.safetensors")
        if not (folder / name).is_file()
    ]
    if missing:
        raise TrainingError(
            f"{folder} is no finished run: it lacks {', '.join(missing)}. Run medai-train fit, or finish it by --resume"
        )
    summary = _json(folder / "summary.json")
    if "network_def" not in summary:
        raise TrainingError(f"{folder.name}: summary.json names no network_def, so the network cannot be rebuilt")
    settings = config.read(folder / "config.toml")
    return Run(
        folder=folder,
        config=settings,
        split=read_split(folder / "split.json"),
        network_def=summary["network_def"],
        summary=summary,
        stages=_stages(settings),
    )


def _stages(settings: TrainingConfig) -> tuple[Run, ...]:
    """The runs before this one, where it began with a run's weights."""
    before = Path(settings.network.start)
    if not settings.network.start or not is_run(before):
        return ()
    first = read_run(before)
    return (*first.stages, first)


def lineage(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs with those that they began from, each once, in an order in which they can be made again."""
    found = {each.folder: each for run in runs for each in (*run.stages, run)}
    return tuple(found.values())


def read_split(path: Path) -> KeptSplit:
    """A split.json of a run or a bundle."""
    content = _json(path)
    missing = [side for side in SIDES if not isinstance(content.get(side), list)]
    if missing:
        raise TrainingError(f"{path.name} lacks the case names of {', '.join(missing)}")
    sides = {side: tuple(str(name) for name in content[side]) for side in SIDES}
    return KeptSplit(dataset=str(content.get("dataset", "")), sides=sides)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json_object(path)
    except ModelUnavailable as error:
        raise TrainingError(f"{path.parent}: {error}") from error


def read_runs(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Runs that answer together. Raises TrainingError where they differ in what a bundle says once."""
    runs = tuple(read_run(folder) for folder in folders)
    first = runs[0]
    for other in runs[1:]:
        same = (
            (_fed_and_read(other) == _fed_and_read(first), "how the network is fed and read"),
            (other.config.data.classes == first.config.data.classes, "the classes"),
            (other.split.dataset == first.split.dataset, "the data set"),
            (set(other.split.sides["test"]) == set(first.split.sides["test"]), "the held-out test cases"),
        )
        differing = [what for is_same, what in same if not is_same]
        if differing:
            raise TrainingError(
                f"{first.folder.name} and {other.folder.name} differ in {', '.join(differing)}: they cannot be averaged"
            )
    return runs


def _fed_and_read(run: Run) -> Recipe:
    return run.recipe.model_copy(update={"network_def": {}})


def joint_recipe(runs: Sequence[Run]) -> Recipe:
    """How several runs answer together; they may be of different networks."""
    definitions = [dict(run.network_def) for run in runs]
    members = definitions[1:] if any(one != definitions[0] for one in definitions) else []
    return runs[0].recipe.model_copy(update={"members": tuple(members)})


def fold_split(run: Run) -> KeptSplit:
    """A fold's own sides; its train side also holds what trained the runs that it began from."""
    own = run.split
    trained = {
        name for each in lineage((run,)) if each.split.dataset == own.dataset for name in each.split.sides["train"]
    }
    return replace(own, sides={**own.sides, "train": tuple(sorted(trained))})


def joint_split(runs: Sequence[Run]) -> KeptSplit:
    """The cases as several runs saw them: what trained one of them, or one that it began from, trained the model.

    A stage on another data set saw none of these cases. Raises TrainingError where a case that one holds out was seen
    by another.
    """
    runs = [run for run in lineage(runs) if run.split.dataset == runs[-1].split.dataset]
    train = {name for run in runs for name in run.split.sides["train"]}
    chose = {name for run in runs for name in run.split.sides["validation"]}
    sides = {"train": train, "validation": chose - train, "test": set(runs[-1].split.sides["test"])}
    if leaked := sides["test"] & (train | chose):
        raise TrainingError(f"{', '.join(sorted(leaked))}: held out by one run, seen by another")
    return KeptSplit(
        dataset=runs[-1].split.dataset, sides={side: tuple(sorted(names)) for side, names in sides.items()}
    )
