"""A network over a whole array: all at once, in windows that overlap, or slice by slice.

Used by inference and by the validation of a training alike. Arrays are [slice, row, column]; answers are
probabilities [class, slice, row, column], float32. Next: runners.py (what is called), segmenters/load.py (who calls).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as functional

from medai.models.format.recipe import Inferer
from medai.models.volume import Labels, Voxels

Network = Callable[[torch.Tensor], torch.Tensor]
"""[batch, 1, ...] -> logits [batch, classes, ...] of the same size."""


def predict(network: Network, array: Voxels, inferer: Inferer, device: torch.device) -> Voxels:
    """Probabilities of each class for one array."""
    image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)[None, None]
    with torch.inference_mode():
        answer = mean_over_views(network, image, inferer)
    found: Voxels = answer[0].float().cpu().numpy()
    return found if inferer.divide is None else divided(found, *inferer.divide)


def divided(probabilities: Voxels, axis: int, before: int, behind: int) -> Voxels:
    """Two classes on the two sides of a plane across an array axis: the plane that their probabilities favour most.

    Before it ``before`` has the probability of both, behind it ``behind``; their sum stays in every voxel, so what
    is told from the background stays, too. Probabilities are [class, slice, row, column].
    """
    both = probabilities[before] + probabilities[behind]
    certain = both > 0.5
    others = tuple(other for other in range(3) if other != axis)
    favour = np.where(certain, probabilities[before] - probabilities[behind], 0.0).sum(axis=others)
    place = int(np.argmax(np.concatenate([[0.0], np.cumsum(favour)])))
    first = np.arange(both.shape[axis]) < place
    first = first.reshape([-1 if number == axis else 1 for number in range(3)])
    found = probabilities.copy()
    found[before], found[behind] = np.where(first, both, 0.0), np.where(first, 0.0, both)
    return found


def predict_slices(network: Network, array: Voxels, inferer: Inferer, device: torch.device) -> Labels:
    """The likeliest class of each voxel by a 2D network, a few slices at a time: probabilities take much memory."""
    parts = [
        predict(network, array[start : start + inferer.batch], inferer, device).argmax(axis=0).astype(np.uint8)
        for start in range(0, len(array), inferer.batch)
    ]
    return np.concatenate(parts)


def mean_over_views(network: Network, image: torch.Tensor, inferer: Inferer) -> torch.Tensor:
    """The mean of the answers to the image, to its flips over ``inferer.mirror`` and to it moved (``shifted``)."""
    flips = [flip for size in range(len(inferer.mirror) + 1) for flip in itertools.combinations(inferer.mirror, size)]
    moves = list(itertools.product((0, 1), repeat=3)) if inferer.shifted else [()]
    views = list(itertools.product(flips, moves))
    total = _view(network, image, *views[0], inferer)
    for flip, move in views[1:]:
        total += _view(network, image, flip, move, inferer)
    return total.div_(len(views)) if len(views) > 1 else total  # in place: a whole CT's answers are large


def _view(
    network: Network, image: torch.Tensor, flip: Sequence[int], move: Sequence[int], inferer: Inferer
) -> torch.Tensor:
    """The answer to one view, turned back."""
    axes = [axis + 2 for axis in flip]
    answer = _moved(network, image.flip(axes) if axes else image, move, inferer)
    return answer.flip(axes) if axes else answer


def _moved(network: Network, image: torch.Tensor, move: Sequence[int], inferer: Inferer) -> torch.Tensor:
    """The answer to the image so many voxels (0 or 1) further along each axis; every such image has the same size."""
    if not move:
        return _activated(_windows(network, image, inferer), inferer)
    pad = [amount for before in reversed(move) for amount in (before, 1 - before)]
    answer = _activated(_windows(network, functional.pad(image, pad, mode="replicate"), inferer), inferer)
    for axis, before in enumerate(move, start=2):
        answer = answer.narrow(axis, before, image.shape[axis])
    return answer


def _activated(logits: torch.Tensor, inferer: Inferer) -> torch.Tensor:
    if inferer.activation == "softmax":
        return torch.softmax(logits.float(), dim=1)
    # The background wins where no class exceeds the threshold. In place: a whole CT's logits are large.
    answer = logits.new_full((len(logits), logits.shape[1] + 1, *logits.shape[2:]), inferer.threshold).float()
    answer[:, 1:].copy_(logits).sigmoid_()
    return answer


def _windows(network: Network, image: torch.Tensor, inferer: Inferer) -> torch.Tensor:
    if inferer.dims == 2:
        return torch.cat(list(_slices(network, image, inferer)), dim=2)
    return _image(network, image, inferer)


def _slices(network: Network, image: torch.Tensor, inferer: Inferer) -> Iterator[torch.Tensor]:
    """Answers [1, classes, slices, row, column] for a few slices at a time."""
    slices = image[0].transpose(0, 1)
    for start in range(0, len(slices), inferer.batch):
        answer = _image(network, slices[start : start + inferer.batch], inferer)
        yield answer.transpose(0, 1)[None]


def _image(network: Network, image: torch.Tensor, inferer: Inferer) -> torch.Tensor:
    if not inferer.roi:
        return _whole(network, image, inferer.multiple)
    from monai.inferers import sliding_window_inference  # takes seconds: only where it is needed

    answer: torch.Tensor = sliding_window_inference(
        image,
        roi_size=inferer.roi,
        sw_batch_size=inferer.batch,
        predictor=network,
        overlap=inferer.overlap,
        mode=inferer.blend,
        padding_mode=inferer.padding,
    )
    return answer


def _whole(network: Network, image: torch.Tensor, multiple: int) -> torch.Tensor:
    """All at once, padded at the end of each axis by its edge to a multiple, and cut back."""
    sides = image.shape[2:]
    pad = [amount for side in reversed(sides) for amount in _both(-side % multiple)]
    padded = functional.pad(image, pad, mode="replicate") if any(pad) else image
    answer = network(padded)
    for axis, (before, side) in enumerate(zip(reversed(pad[::2]), sides, strict=True), start=2):
        answer = answer.narrow(axis, before, side)
    return answer


def _both(amount: int) -> tuple[int, int]:
    return amount // 2, amount - amount // 2
