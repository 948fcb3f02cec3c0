"""One run of a model that is not trusted yet, on a phantom, in a process of its own with a time limit.

``python -m medai.models.foreign.confined BUNDLE`` is the child: confined, it loads the model as a worker would,
lets it draw, and says as JSON what came out, in how many seconds and with how much memory. A model that hangs,
crashes or eats the memory takes the child with it, not a worker. Next: sandbox.py (how it is confined), adding.py.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medai.models.errors import ModelRefused, ModelsError, ModelUnavailable
from medai.models.foreign import sandbox
from medai.models.foreign.phantom import phantom
from medai.models.format.bundle import Bundle, read_bundle


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a dry run showed."""

    seconds: float
    """Of the drawing alone, on this machine's CPU."""
    load_seconds: float
    memory_mb: int
    """Most memory that the process held."""
    voxels: tuple[int, ...]
    found: tuple[int, ...]
    """Segments that were drawn into the phantom; none is fine."""
    remark: str = ""
    confined: str = ""
    """What kept it from other files and the network."""


def run(bundle: Path, *, limit_s: float) -> Trial:
    """Try a bundle in a child process. Raises ModelUnavailable with the reason why it must not be added."""
    try:
        with tempfile.TemporaryDirectory(prefix="medai-dry-run-") as scratch:
            child = subprocess.run(  # noqa: S603 - this interpreter and our own module
                [sys.executable, "-P", "-m", "medai.models.foreign.confined", str(bundle.resolve())],
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
                env=sandbox.environment(Path(scratch)),
            )
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailable(
            f"the dry run took more than {limit_s:g} s (--limit): the model is too slow for this machine, or it hangs"
        ) from error
    if child.returncode < 0:
        raise ModelUnavailable(f"the dry run was ended by signal {-child.returncode}: out of memory, or a crash in it")
    try:
        answer = json.loads(child.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        last = (child.stderr.strip().splitlines() or [""])[-1]
        said = f": {last}" if last else ""
        raise ModelUnavailable(f"the dry run ended without an answer (exit code {child.returncode}){said}") from error
    if "reason" in answer:
        raise ModelUnavailable(f"the dry run failed: {answer['reason']}")
    return Trial(**{**answer, "voxels": tuple(answer["voxels"]), "found": tuple(answer["found"])})


def main(arguments: list[str]) -> int:
    """The child."""
    try:
        answer: Mapping[str, Any] = {**_trial(read_bundle(Path(arguments[0]), None)), "confined": arguments[1]}
    except ModelsError as error:
        answer = {"reason": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a foreign model does wrong, the parent says so
        answer = {"reason": f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error) else ''}"}
    print(json.dumps(answer))
    return 0


def _trial(bundle: Bundle) -> dict[str, Any]:
    from medai.models.segmenters.load import load  # torch is imported in the child only

    began = time.monotonic()
    segmenter = load(bundle, device="cpu")
    if bundle.segmenter == "network":
        _require_classes(bundle)
    volume = phantom(bundle.spec)
    loaded = time.monotonic()
    remark, labels = "", np.zeros(volume.geometry.shape, dtype=np.uint8)
    try:
        labels = segmenter.draw(volume)
    except ModelRefused as error:
        remark = f"the model refused the phantom ({error})"
    _require_labels(labels, volume.geometry.shape, bundle)
    return {
        "seconds": round(time.monotonic() - loaded, 2),
        "load_seconds": round(loaded - began, 2),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "voxels": volume.geometry.shape,
        "found": [int(number) for number in np.unique(labels) if number],
        "remark": remark,
    }


def _require_classes(bundle: Bundle) -> None:
    """The network's channels must be the declared segments, background first for softmax."""
    import torch

    from medai.models.networks.runners import make_runner
    from medai.models.segmenters.network import read_recipe

    recipe = read_recipe(bundle.name, bundle.parameters)
    runner = make_runner(recipe, bundle.weights, torch.device("cpu"), name=bundle.name)
    inferer = recipe.inferer
    sides = inferer.roi or (max(32, inferer.multiple),) * inferer.dims
    with torch.inference_mode():
        channels = runner(torch.zeros((1, 1, *sides))).shape[1]
    wanted = len(bundle.segments) + (inferer.activation == "softmax")
    if channels != wanted:
        background = ", the background first" if inferer.activation == "softmax" else ""
        raise ModelUnavailable(
            f"the network gives {channels} channels; {len(bundle.segments)} segments by {inferer.activation} need "
            f"{wanted}{background}: declare every class, or correct inferer.activation"
        )


def _require_labels(labels: Any, shape: tuple[int, ...], bundle: Bundle) -> None:
    if labels.shape != shape or labels.dtype != np.uint8:
        raise ModelUnavailable(f"the labels are {labels.shape} {labels.dtype}, the volume is {shape}; uint8 is needed")
    declared = {segment.number for segment in bundle.segments}
    strays = sorted({int(number) for number in np.unique(labels) if number} - declared)
    if strays:
        raise ModelUnavailable(f"the model drew labels {strays}, which no segment declares")
