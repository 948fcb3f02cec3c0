"""Files read and written in one way: a JSON object or a reason, a file whole or not at all, a file's SHA-256.

``router/files/whole.py`` is the router's own ``whole``: neither imports anything of the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medai.models.errors import ModelUnavailable


def json_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds. Raises ModelUnavailable where it is missing, is not JSON or holds no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path.name} is missing or not JSON") from error
    if not isinstance(value, dict):
        raise ModelUnavailable(f"{path.name} must hold a JSON object")
    return value


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which then becomes ``path``: a reader never sees half a file."""
    partial = path.with_name(f"{path.name}.part")
    yield partial
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """Of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
