"""Read the configuration, once, in the entry point: ``load(path)`` is the only way in.

An unknown key is an error that names the nearest known one; every fault is told at once, and no value with it: it may
be a password. Next: tables.py (what there is to configure).
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError as EnvironmentFault

from medai.router.errors import SettingsError
from medai.router.settings.section import tables_of
from medai.router.settings.tables import Settings


def find_file(explicit: str | None) -> Path | None:
    """The configuration file: ``--config``, else MEDAI_CONFIG, else ./medai.toml, else /etc/medai/medai.toml."""
    named = explicit or os.environ.get("MEDAI_CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise SettingsError(f"configuration file {path} does not exist")
        return path
    return next((p for p in (Path("medai.toml"), Path("/etc/medai/medai.toml")) if p.is_file()), None)


def load(explicit: str | None = None) -> Settings:
    """Read and check the configuration; raises SettingsError with every fault, each naming its key."""
    path = find_file(explicit)
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not valid TOML: {error}") from error
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if path is not None and isinstance(values.get("models", {}), dict):
        # Beside the file, wherever a process was started.
        beside = str(path.resolve().with_name("medai-models"))
        values["models"] = {"added": beside, **values.get("models", {})}
    try:
        return Settings(**values)
    except EnvironmentFault as error:  # its text names the key, not the value
        raise SettingsError(f"environment: {error}; write a table or list as JSON") from error
    except ValidationError as error:
        where = str(path) if path else "settings"
        faults = "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        raise SettingsError(f"{where}:\n{faults}") from error


def _explain(fault: Any) -> str:
    parts = [str(part) for part in fault["loc"]]
    if parts[:1] == ["destinations"] and parts[2:3] in (["dicom"], ["stow"], ["fhir"]):
        del parts[2]  # pydantic's word for the kind is no key of the file
    place = ".".join(parts) or "(whole file)"
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}"
    near = difflib.get_close_matches(parts[-1], _known_keys(Settings), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{place}: unknown key{hint}"


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, info in model.model_fields.items():
        keys.add(name)
        for inner in tables_of(info.annotation):
            keys |= _known_keys(inner)
    return keys
