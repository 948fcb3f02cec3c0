"""What the version before "one import name" left behind: a ledger of its schema, and a site's files.

Both were written by that version itself (version_before_files/): the ledger by its own functions, a row at least in
each table; the site by ``medai up``. @folder@, @python@ and each port stand for what differs from site to site.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

FILES = Path(__file__).parent / "version_before_files"
SITE = ("site.json", "medai.toml", "orthanc.json", "supervisord.conf")
FOLDERS = ("orthanc-db", "redis", "ris", "logs", "inbox")
PASSWORD = "benchmark only"
"""Of the account ana in its ledger."""


def site(folder: Path, ports: Mapping[str, int], *, python: str) -> None:
    """A site that has run and was stopped; its ledger is not there (``ledger``)."""
    folder.mkdir(exist_ok=True)
    for name in FOLDERS:
        (folder / name).mkdir()
    values = {"folder": str(folder), "python": python, **{name: str(port) for name, port in ports.items()}}
    for name in SITE:
        text = (FILES / name).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (folder / name).write_text(text, encoding="utf-8")


def ledger(path: Path) -> None:
    """Its ledger, at revision 0009, with something in every table."""
    connection = sqlite3.connect(path)
    connection.executescript((FILES / "ledger.sql").read_text(encoding="utf-8"))
    connection.close()
