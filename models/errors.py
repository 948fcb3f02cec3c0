"""What can be wrong with images or with a model, in words that a radiographer understands.

No text here holds a patient identifier or a DICOM UID: slices are named by their number.
"""

from __future__ import annotations


class ModelsError(Exception):
    """Root of the errors of this package."""


class NotAVolume(ModelsError):
    """The images of this series do not make one regular volume; the text says which and why."""


class UnreadableImage(ModelsError):
    """Pixels could not be decoded."""


class GeometryMismatch(ModelsError):
    """A mask does not lie on the grid of its source. Nothing is resampled silently: this stops the job."""


class ModelUnavailable(ModelsError):
    """The bundle, its weights or a library it needs is missing; the text says how to get it."""


class ModelRefused(ModelsError):
    """The model will not read this volume (wrong modality, too small a field of view, empty result)."""


class ModelFailed(ModelsError):
    """The process that reads with a model crashed, or answered what no model may; the next attempt starts it anew."""


class ModelSlow(ModelFailed):
    """It took longer than it may."""
