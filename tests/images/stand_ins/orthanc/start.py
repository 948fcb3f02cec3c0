"""Start Orthanc as the image orthancteam/orthanc documents it: settings from files, then from variables, then defaults."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULTS: Mapping[str, Any] = {
    "StorageDirectory": "/var/lib/orthanc/db",
    "IndexDirectory": "/var/lib/orthanc/db",
    "RemoteAccessAllowed": True,
    "AuthenticationEnabled": True,
}
DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
MERGED = Path("/tmp/orthanc.json")  # noqa: S108 - where that image puts it; the container is ours alone


def merged(folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """All settings; a plugin is loaded when it has a section."""
    settings: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        settings |= json.loads(file.read_text(encoding="utf-8"))
    for name, value in environment.items():
        if name.startswith("ORTHANC__"):
            _put(settings, [_camel(part) for part in name.split("__")[1:]], _read(value))
    plugins = [DICOMWEB] if "DicomWeb" in settings else []
    return {**DEFAULTS, "Plugins": plugins, **settings}


def _put(settings: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        settings = settings.setdefault(part, {})
    settings[path[-1]] = value


def _camel(words: str) -> str:
    """REGISTERED_USERS is RegisteredUsers."""
    return "".join(word.capitalize() for word in words.split("_"))


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    MERGED.write_text(json.dumps(merged(Path("/etc/orthanc"), os.environ)), encoding="utf-8")
    os.execvp("Orthanc", ["Orthanc", str(MERGED)])  # noqa: S606 - the only program here
