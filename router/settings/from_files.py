"""A setting's value from a file, as engines of containers and systemd hand secrets over: MEDAI_ORTHANC__PASSWORD_FILE.

Any variable may end so: MEDAI_LEDGER__URL_FILE names a file that holds the whole address with its password. Where a
setting itself is called so (MEDAI_BROKER__CA_FILE) the setting is meant. Next: tables.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from medai.router.errors import SettingsError
from medai.router.settings.section import tables_of

SUFFIX = "_file"
MOST_BYTES = 64 * 1024


def with_files(variables: Mapping[str, str | None], settings: type[BaseModel], prefix: str) -> dict[str, str | None]:
    """The variables, with those that name a file replaced by what it holds. Names are small letters.

    Raises SettingsError for a file that can't be read or holds nothing, and for a value that is given twice.
    """
    found = dict(variables)
    for name, value in variables.items():
        if name.startswith(prefix) and name.endswith(SUFFIX) and value and _means_a_file(settings, name[len(prefix) :]):
            meant = name.removesuffix(SUFFIX)
            if variables.get(meant):
                raise SettingsError(f"environment: {meant.upper()} and {name.upper()} are both set: give one")
            del found[name]
            found[meant] = _read(name.upper(), Path(value))
    return found


def _means_a_file(settings: type[BaseModel], name: str) -> bool:
    """Whether no setting has this name, but one has it without the suffix."""
    return not _is_setting(settings, name.split("__")) and _is_setting(settings, name.removesuffix(SUFFIX).split("__"))


def _is_setting(model: type[BaseModel], parts: Sequence[str]) -> bool:
    field = model.model_fields.get(parts[0])
    if field is None or len(parts) == 1:
        return field is not None
    return _is_within(field.annotation, parts[1:])


def _is_within(annotation: Any, parts: Sequence[str]) -> bool:
    if get_origin(annotation) is dict:  # [destinations.NAME]: a name is anybody's
        inner = get_args(annotation)[1]
        return len(parts) == 1 if not list(tables_of(inner)) else len(parts) > 1 and _is_within(inner, parts[1:])
    return any(_is_setting(table, parts) for table in tables_of(annotation))


def _read(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise SettingsError(f"environment: {name}: {path} can't be read: {os.strerror(error.errno or 0)}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"environment: {name}: {path} is no text in UTF-8") from None  # it quotes the value
    if len(text) > MOST_BYTES:
        raise SettingsError(f"environment: {name}: {path} is too long for a value")
    if not text.strip():
        raise SettingsError(f"environment: {name}: {path} is empty")
    return text.rstrip("\r\n")
