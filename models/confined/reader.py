"""``python -m medai.models.confined.reader ARGUMENTS``: the process that holds one model and draws with it.

It is confined before it imports anything of others. Then it loads the model, says so, and answers volumes with labels
(or what they show) or a reason until its parent is gone. What it answers is looked through by process.py.
Next: sandbox.py.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medai.models.child import Body, Questions, plain
from medai.models.confined import sandbox
from medai.models.errors import ModelRefused, ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from medai.models.segmenters.series_kind import SeriesKind
    from medai.models.volume import Volume

    Answer = tuple[dict[str, Any], Body]


def main(argument: str) -> int:
    """Confine, then load, then answer."""
    asked = json.loads(argument)
    sandbox.end_with_parent(asked["parent"])
    questions = Questions()
    readable = [Path(place) for place in asked["readable"]]
    held = sandbox.confine(readable, memory_bytes=asked["memory_bytes"], gpu=asked["device"] != "cpu")
    # MONAI would draw with it; it will not be imported where it can write nothing.
    sys.modules["matplotlib"] = None  # type: ignore[assignment]
    models: list[Callable[[Volume], Answer]] = []

    def load() -> Answer:
        models.append(_model(asked))
        return {"answer": "ready", "held": held}, b""

    questions.next()
    questions.answer(*_told(load))
    while models and (question := questions.next()) is not None:
        header, body = question
        questions.answer(*_told(partial(_answer, models[0], header, body)))
    return 0


def _answer(model: Callable[[Volume], Answer], header: dict[str, Any], body: Body) -> Answer:
    return model(_volume(header, body))


def _told(work: Callable[[], Answer]) -> Answer:
    """What came of it; whatever a model does wrong is a reason."""
    try:
        return work()
    except ModelRefused as error:
        return {"answer": "refused", "reason": str(error)}, b""
    except ModelUnavailable as error:
        return {"answer": "unavailable", "reason": str(error)}, b""
    except Exception as error:  # noqa: BLE001 - the parent says so, and the next volume may do
        last = (str(error).strip().splitlines() or [""])[-1]
        return {"answer": "failed", "reason": plain(f"{type(error).__name__}: {last}")}, b""


def _model(asked: dict[str, Any]) -> Callable[[Volume], Answer]:
    """What a bundle does with a volume. Raises ModelUnavailable."""
    import numpy as np

    from medai.models.format.bundle import read_bundle
    from medai.models.segmenters.load import load, torch_device
    from medai.models.segmenters.network import NetworkSegmenter
    from medai.models.segmenters.series_kind import SeriesKind

    bundle = read_bundle(Path(asked["folder"]), asked["configured"])
    if asked["work"] == "classify":
        return partial(_classify, SeriesKind(bundle, torch_device(asked["device"])))
    segmenter = load(bundle, device=asked["device"], threads=asked["threads"])
    if asked["work"] == "count and draw" and isinstance(segmenter, NetworkSegmenter):
        segmenter.require_classes()

    def draw(volume: Volume) -> Answer:
        labels = np.ascontiguousarray(segmenter.draw(volume))
        header = {"answer": "labels", "shape": labels.shape, "dtype": str(labels.dtype)}
        return header, labels.data.cast("B")

    return draw


def _classify(classifier: SeriesKind, volume: Volume) -> Answer:
    kind = classifier.classify(volume)
    probabilities = [kind.probabilities[part] for part in classifier.parts]
    return {"answer": "kind", "probabilities": probabilities, "upright": kind.upright}, b""


def _volume(header: dict[str, Any], body: Body) -> Volume:
    import numpy as np

    from medai.models.geometry import Geometry
    from medai.models.volume import Volume

    where: dict[str, Any] = {key: tuple(value) for key, value in header["geometry"].items()}
    voxels = np.frombuffer(body, dtype=np.dtype(header["dtype"])).reshape(where["shape"])
    return Volume(voxels=voxels, geometry=Geometry(**where), modality=header["modality"], unit=header["unit"])


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(code)  # no word of the libraries' own at the end
