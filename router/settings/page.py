"""Write docs/configuration.md from the settings themselves, so that the page is never behind them.

    python -m medai.router.settings.page > docs/configuration.md

A test holds both equal. Next: tables.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from medai.router.settings.section import tables_of
from medai.router.settings.tables import Settings

INTRODUCTION = """\
# Configuration

Made from `router/settings/` by `python -m medai.router.settings.page`.

One file, `medai.toml`, is read by the router and the workers: `--config FILE`, else `MEDAI_CONFIG`, else
`./medai.toml`, else `/etc/medai/medai.toml`. Environment variables win over it: section and key with two underscores
between them, such as `MEDAI_ORTHANC__PASSWORD`. An unknown key is an error that names the nearest known one;
`medai check` tells what is wrong and reaches every peer. Keep passwords out of the file, or the file private: a
variable's name with `_FILE` behind it, such as `MEDAI_ORTHANC__PASSWORD_FILE` or `MEDAI_LEDGER__URL_FILE`, names a file
that holds the value.

```toml
routing = "first"          # or "all": every route that matches reads the study

[orthanc]
url = "http://127.0.0.1:8042"
username = "router"

[ledger]
url = "postgresql+psycopg://medai@127.0.0.1:5432/medai"

[broker]
url = "redis://127.0.0.1:6379/0"

[ris]
host = "ris.example"
port = 2576

[[routes]]
name = "mr-brain"
when = 'study.Modality == "MR"'
model = "mr_brain"
destinations = ["archive", "ris", "pacs2", "ehr"]

[destinations.pacs2]
modality = "PACS2"         # its name in Orthanc's DicomModalities

[destinations.ehr]
fhir_url = "https://ehr.example/fhir"
```

How a route is written is in [routes.md](routes.md), how a destination is added in [destinations.md](destinations.md).
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for title, model, path in sections():
        text = " ".join((model.__doc__ or "").split()).replace("``", "`")
        parts.append(f"## {title}\n\n{text}\n")
        parts.append("| key | default | environment | meaning |\n|---|---|---|---|")
        parts += list(rows(model, path))
        parts.append("")
    return "\n".join(parts)


def sections() -> Iterator[tuple[str, type[BaseModel], str]]:
    """Title, model and environment prefix ("" where there is none) of each table of the file."""
    yield "Top level", Settings, "MEDAI_"
    for name, info in Settings.model_fields.items():
        for inner in tables_of(info.annotation):
            yield _title(name, inner), inner, "" if name in ("routes", "destinations") else f"MEDAI_{name.upper()}__"
            for key, field in inner.model_fields.items():
                for deeper in tables_of(field.annotation):
                    yield f"`[{name}.{key}]`", deeper, ""


def _title(name: str, model: type[BaseModel]) -> str:
    if name == "destinations":
        key = next(key for key, info in model.model_fields.items() if info.is_required())
        return f"`[destinations.NAME]` with `{key}`"
    return "`[[routes]]`" if name == "routes" else f"`[{name}]`"


def holds_tables(info: FieldInfo) -> bool:
    """Whether a field is a table, or several."""
    return next(tables_of(info.annotation), None) is not None


def rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """A line a key; tables within have sections of their own."""
    for name, info in sorted(model.model_fields.items(), key=lambda item: not item[1].is_required()):
        if holds_tables(info):
            continue
        meaning = " ".join((info.description or "").split()).replace("``", "`").replace("|", "\\|")
        variable = f"`{prefix}{name.upper()}`" if prefix else ""
        yield f"| `{name}` | {default(info)} | {variable} | {meaning} |"


def default(info: FieldInfo) -> str:
    """As it is written in TOML."""
    if info.is_required():
        return "(required)"
    value: Any = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, SecretStr):
        value = ""
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


if __name__ == "__main__":
    print(page(), end="")
