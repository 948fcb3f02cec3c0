"""A file whole or not at all. Used by the router, the workers and the trials; models/files.py has its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which then becomes ``path``: a reader never sees half a file."""
    partial = path.with_name(f"{path.name}.part")
    yield partial
    partial.replace(path)
