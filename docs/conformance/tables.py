"""Write the tables of the conformance statements from the code as it is: ``python docs/conformance/tables.py``.

In dicom.md, hl7.md, fhir.md and ihe.md a table stands between ``<!-- table NAME -->`` and ``<!-- end of table -->``;
fhir.json and fhir_r4.json are written whole. A test compares them. Next: dicom_tables.py, hl7_tables.py,
fhir_tables.py.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import dicom_tables  # noqa: E402 - its folder is no package
import fhir_tables  # noqa: E402
import hl7_sent_tables  # noqa: E402
import hl7_tables  # noqa: E402

PAGES = ("dicom.md", "hl7.md", "fhir.md", "ihe.md")
MARKED = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def makers() -> Mapping[str, Callable[[], str]]:
    """Name of a table -> what makes it."""
    return dicom_tables.tables() | hl7_tables.tables() | hl7_sent_tables.tables() | fhir_tables.tables()


def files() -> dict[Path, str]:
    """Each file with its tables as they must be now."""
    made = {HERE / name: filled((HERE / name).read_text(encoding="utf-8")) for name in PAGES}
    return made | {HERE / name: fhir_tables.statement(name) for name in fhir_tables.VERSIONS}


def filled(page: str) -> str:
    """A page with its tables made anew."""
    known = makers()
    return MARKED.sub(lambda found: f"{found[1]}\n{known[found['name']]()}\n\n{found[3]}", page)


def named(page: str) -> list[str]:
    """The tables of a page."""
    return [found["name"] for found in MARKED.finditer(page)]


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
