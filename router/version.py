"""Which Med-AI this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """The installed version of Med-AI."""
    try:
        return version("med-ai")
    except PackageNotFoundError:
        return "unknown"
