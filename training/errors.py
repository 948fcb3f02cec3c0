"""What can be wrong with data, a configuration or a candidate, in words for a data scientist."""

from __future__ import annotations


class TrainingError(Exception):
    """Root of this package's errors; the command line prints its text and exits with 1."""


class ConfigError(TrainingError):
    """A training configuration that cannot be meant; the command line exits with 2."""


class DataError(TrainingError):
    """A data set that cannot be used: the text names the case and what to do."""


class LeakageError(DataError):
    """The same patient, or the same image under two names, on both sides of a split."""


class NotPromoted(TrainingError):
    """The candidate is not shown to be non-inferior to the current model."""
