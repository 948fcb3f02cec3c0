"""Two small models for trials on a machine without GPU: they draw what is bright, in well under a second.

Everything around them is the ordinary system; what they draw means nothing, and their titles say so. Written in
MONAI's bundle layout, read by the ordinary registry. Next: site.py.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

MODELS = {"CT": "trial_ct", "MR": "trial_mr"}
"""Modality -> name of the model."""
LEVELS = {"CT": 200.0, "MR": 1.5}
"""From here on a voxel is drawn: HU (bone), or standard deviations above the mean."""
VERSION = "1.0.0"
SEGMENT: dict[str, Any] = {
    "number": 1,
    "name": "Bright tissue",
    "category": ["85756007", "SCT", "Tissue"],
    "type": ["85756007", "SCT", "Tissue"],
    "colour": [255, 160, 0],
    "plausible": {"ml": [0, 99000], "warn_at_edge": False},
}


def write_models(folder: Path) -> Path:
    """Write both bundles into ``folder``; needs torch (extra ``worker``)."""
    for modality, name in MODELS.items():
        _bundle(folder / name, modality)
    return folder


def _bundle(place: Path, modality: str) -> None:
    (place / "configs").mkdir(parents=True, exist_ok=True)
    (place / "models").mkdir(exist_ok=True)
    graph = place / "models" / "model.ts"
    _save_graph(graph, LEVELS[modality])
    section = {
        "title": "Bright tissue (for trials; of no clinical use)",
        "segmenter": "network",
        "input": {"modalities": [modality], "unit": "HU" if modality == "CT" else "arbitrary"},
        "segments": [SEGMENT],
        "weights": {"source": "bundle", "files": {"models/model.ts": hashlib.sha256(graph.read_bytes()).hexdigest()}},
    }
    intensity = {"kind": "none"} if modality == "CT" else {"kind": "zscore"}
    recipe = {"runner": "torchscript", "feed": {"intensity": intensity}, "inferer": {"multiple": 8}}
    (place / "configs" / "metadata.json").write_text(json.dumps({"version": VERSION, "medai": section}))
    (place / "configs" / "inference.json").write_text(json.dumps(recipe))


def _save_graph(path: Path, level: float) -> None:
    import torch

    class Threshold(torch.nn.Module):
        """Logits [batch, 2, slices, rows, columns] of an image [batch, 1, slices, rows, columns]."""

        def __init__(self) -> None:
            super().__init__()
            self.level = torch.nn.Parameter(torch.tensor(level))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = images - self.level
            return torch.cat([-logits, logits], dim=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what a bundle can hold without code
        torch.jit.trace(Threshold(), torch.zeros(1, 1, 8, 8, 8)).save(str(path))  # type: ignore[no-untyped-call] # torch has no types here


if __name__ == "__main__":
    write_models(Path(sys.argv[1]))
