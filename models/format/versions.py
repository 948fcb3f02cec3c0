"""A folder of models that changes: a bundle is put there whole or not at all, and the one it replaces is kept.

    FOLDER/NAME/                      the model that is used
    FOLDER/.versions/NAME/VERSION/    those that were used before; the registry does not list them
    FOLDER/.versions/NAME/history.jsonl

``medai models add`` and ``medai-train promote`` both come through ``install``, and back through ``restore``. The
version is the one that results carry: the author's number and the first digits of the weights' SHA-256.
Next: bundle.py (what a bundle is), foreign/read.py (how others' models become one).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medai.models.errors import ModelUnavailable
from medai.models.files import sha256_of
from medai.models.format.bundle import read_bundle

VERSIONS = ".versions"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
"""What a model may be called: a route names it, and a folder does."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One version of a model in a folder of models."""

    name: str
    version: str
    path: Path
    fingerprint: str
    """SHA-256 over all files of the bundle, cards and configurations too."""
    current: bool
    changed: bool = False
    """Whether this call put it there; false where the same was there already."""


def install(candidate: Path, folder: Path, name: str) -> Installed:
    """Make a bundle the current model of that name; the one before it goes to ``.versions``.

    ``candidate`` is a complete bundle and stays where it is. The same bundle again changes nothing. Raises
    ModelUnavailable where the candidate is no bundle that can be read, or the name is none.
    """
    _require_name(name)
    fingerprint = fingerprint_of(candidate)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        now = current(folder, name)
        if now is not None and now.fingerprint == fingerprint:
            return now
        with _copied(candidate, folder, name) as copy:
            version = read_bundle(copy, None).card.version
            aside = _exchange(folder, name, copy)
        _record(folder, name, "install", version=version, replaced=aside)
    return _installed(folder / name, name, current=True, changed=True)


def current(folder: Path, name: str) -> Installed | None:
    """The model that is used, or None."""
    path = folder / name
    return _installed(path, name, current=True) if (path / "configs" / "metadata.json").is_file() else None


def previous(folder: Path, name: str) -> list[Installed]:
    """The versions that were used before, the latest first."""
    kept = folder / VERSIONS / name
    places = [path for path in kept.iterdir() if path.is_dir()] if kept.is_dir() else []
    order = {entry.get("replaced"): number for number, entry in enumerate(history(folder, name))}
    places.sort(key=lambda path: (order.get(path.name, -1), path.name), reverse=True)
    return [_installed(path, name, current=False) for path in places]


def restore(folder: Path, name: str, version: str) -> Installed:
    """Use an earlier version again; the one that is used now takes its place in ``.versions``.

    Raises ModelUnavailable, naming the versions that there are.
    """
    _require_name(name)
    with _locked(folder):
        now = current(folder, name)
        if now is not None and now.version == version:
            return now
        known = [item.version for item in previous(folder, name)]
        if version not in known:
            raise ModelUnavailable(
                f"{name} has no earlier version {version}; there are {', '.join(known) or 'none'} in {VERSIONS}"
            )
        aside = _exchange(folder, name, folder / VERSIONS / name / version)
        _record(folder, name, "restore", version=version, replaced=aside)
    return _installed(folder / name, name, current=True, changed=True)


def remove(folder: Path, name: str) -> Installed:
    """Use a model no longer; it stays in ``.versions``, from where ``restore`` brings it back."""
    _require_name(name)
    with _locked(folder):
        now = current(folder, name)
        if now is None:
            raise ModelUnavailable(f"{name} is not among the models in {folder}")
        kept = _keep(folder, name)
        _record(folder, name, "remove", version=None, replaced=kept.name)
    return _installed(kept, name, current=False, changed=True)


def history(folder: Path, name: str) -> list[dict[str, Any]]:
    """What was done to a model, the first first: action, version, replaced, at (seconds since 1970)."""
    path = folder / VERSIONS / name / "history.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def version_of(bundle: Path) -> str:
    """The version of a bundle as results carry it; where its weights are not here, by its files' fingerprint."""
    try:
        return read_bundle(bundle, None).card.version
    except ModelUnavailable:
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
        return f"{metadata.get('version', '0')}+{fingerprint_of(bundle)[:8]}"


def fingerprint_of(bundle: Path) -> str:
    """SHA-256 over the names and contents of all files of a bundle."""
    digest = hashlib.sha256()
    for path in sorted(bundle.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(bundle).as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _installed(path: Path, name: str, *, current: bool, changed: bool = False) -> Installed:
    version = version_of(path) if current else path.name
    return Installed(
        name=name, version=version, path=path, fingerprint=fingerprint_of(path), current=current, changed=changed
    )


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ModelUnavailable(
            f"{name!r} cannot be a model's name: at most 40 of lower-case letters, digits, - and _, "
            "a letter or digit first"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One change at a time."""
    if not folder.is_dir():
        raise ModelUnavailable(f"the folder of models {folder} does not exist")
    (folder / VERSIONS).mkdir(exist_ok=True)
    with (folder / VERSIONS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _copied(candidate: Path, folder: Path, name: str) -> Iterator[Path]:
    """A copy on the same file system, for a rename; gone afterwards unless it was renamed."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder / VERSIONS) as place:
        copy = Path(place) / name
        shutil.copytree(candidate, copy)
        for path in copy.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield copy


def _exchange(folder: Path, name: str, new: Path) -> str | None:
    """``new`` becomes the current one by a rename; should that fail, the former one comes back.

    Returns what the former one is called in ``.versions``.
    """
    place = folder / name
    aside = _keep(folder, name) if place.exists() else None
    try:
        new.rename(place)
    except OSError as error:
        if aside is not None:
            aside.rename(place)
        raise ModelUnavailable(f"{name} could not be put into {folder}: {error.strerror}") from error
    return aside.name if aside is not None else None


def _keep(folder: Path, name: str) -> Path:
    """Move the current version to where earlier ones are."""
    place = folder / name
    kept = folder / VERSIONS / name
    kept.mkdir(parents=True, exist_ok=True)
    version = _free(kept, version_of(place), fingerprint_of(place))
    target = kept / version
    if target.exists():  # the same bundle was kept before
        shutil.rmtree(target)
    place.rename(target)
    return target


def _free(kept: Path, version: str, fingerprint: str) -> str:
    """The version as a folder's name; numbered where another bundle of the same version is there already."""
    number = 1
    while True:
        name = version if number == 1 else f"{version}-{number}"
        if not (kept / name).exists() or fingerprint_of(kept / name) == fingerprint:
            return name
        number += 1


def _record(folder: Path, name: str, action: str, *, version: str | None, replaced: str | None) -> None:
    path = folder / VERSIONS / name / "history.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"action": action, "version": version, "replaced": replaced, "at": round(time.time(), 3)}
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
