"""The harness's own models: a folder in MONAI's bundle layout that the ordinary registry loads.

A TorchScript graph that draws what is brighter than 400 and takes some tenths of a second over it, so that there is a middle to
be killed in. Two versions: the older one is for the worker that was left behind.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch

SEGMENT: dict[str, Any] = {
    "number": 1,
    "name": "Ball",
    "category": ["91723000", "SCT", "Anatomical Structure"],
    "type": ["12738006", "SCT", "Brain"],
    "colour": [255, 160, 0],
    "plausible": {"ml": [1, 9000], "warn_at_edge": False},
}
MODELS = {"chaos_mr": ("MR", "arbitrary"), "chaos_ct": ("CT", "HU"), "chaos_second": ("MR", "arbitrary")}
"""Name -> modality and unit."""
PASSES = 60
NEWER, OLDER = "models", "older-models"


class Threshold(torch.nn.Module):
    """Two classes, and a blur over and over that changes nothing but the time."""

    def __init__(self, level: float, passes: int) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))
        self.passes = passes
        self.blur = torch.nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 2, slices, rows, columns]."""
        spent = torch.zeros_like(images)
        for _ in range(self.passes):
            spent = torch.tanh(self.blur(spent))
        logits = images - self.level
        return torch.cat([-logits, logits], dim=1) + 0.0 * spent


def make_models(folder: Path) -> Path:
    """The models of today and those of the worker that was left behind (in one thread: torch.jit shares its types)."""
    if not (folder / NEWER).exists():
        _bundles(folder / NEWER, version="2.0.0")
        _bundles(folder / OLDER, version="1.0.0", level=380.0)
    return folder


def _bundles(folder: Path, *, version: str, level: float = 400.0, passes: int = PASSES) -> None:
    """Write every model into ``folder``; another level gives other weights, so another fingerprint."""
    for name, (modality, unit) in MODELS.items():
        place = folder / name
        (place / "configs").mkdir(parents=True)
        (place / "models").mkdir()
        graph = place / "models" / "model.ts"
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what a bundle can hold without code
            torch.jit.script(Threshold(level, passes)).save(str(graph))  # type: ignore[no-untyped-call] # torch has no types here
        digest = hashlib.sha256(graph.read_bytes()).hexdigest()
        section = {
            "title": "Bright ball",
            "segmenter": "network",
            "input": {"modalities": [modality], "unit": unit},
            "segments": [SEGMENT],
            "weights": {"source": "bundle", "files": {"models/model.ts": digest}},
        }
        recipe = {"runner": "torchscript", "feed": {"intensity": {"kind": "none"}}, "inferer": {"multiple": 8}}
        (place / "configs" / "metadata.json").write_text(json.dumps({"version": version, "medai": section}))
        (place / "configs" / "inference.json").write_text(json.dumps(recipe))
