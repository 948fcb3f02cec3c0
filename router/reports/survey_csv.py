"""The answers of the surveys as rows for a spreadsheet or a program. Readers are numbers, unless names are asked for.

A cell that a spreadsheet would take for a formula begins with an apostrophe instead. The rows come in parts, so that
neither a long export nor a slow reader holds a transaction open. Next: ledger/surveys.py, console/surveys.py.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from medai.router.ledger import Ledger
from medai.router.ledger.surveys import SUS, USEFULNESS, SusAnswer, UsefulnessAnswer

Cell = str | int | float | None
Row = Mapping[str, Cell]
"""Cell's name -> what is in it, in the order of the columns."""
PART = 500
FORMULA = tuple("=+-@\t\r＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection), wide forms too."""


def usefulness_rows(ledger: Ledger, *, names: bool) -> Iterator[list[Row]]:
    """Everybody's answers about readings, in parts."""
    after = 0
    while part := ledger.surveys.usefulness_answers(after=after, limit=PART):
        yield [_row(each, USEFULNESS_CELLS, names=names) for each in part]
        after = part[-1].id


def sus_rows(ledger: Ledger, *, names: bool) -> Iterator[list[Row]]:
    """Everybody's System Usability Scales, in the order in which they were given."""
    rows = [_row(each, SUS_CELLS, names=names) for each in reversed(ledger.surveys.sus_answers())]
    for start in range(0, len(rows), PART):
        yield rows[start : start + PART]


def _row(found: UsefulnessAnswer | SusAnswer, cells: tuple[str, ...], *, names: bool) -> Row:
    who = {"reader": found.reader_id, **({"account": found.account} if names else {})}
    day = time.strftime("%Y-%m-%d", time.gmtime(found.answered_at))  # a moment would tell who was there
    return {**who, "answered_on": day, **{name: getattr(found, name) for name in cells}}


USEFULNESS_CELLS = (
    "job_id", "route", "model", "model_version", "modality", *(each.key for each in USEFULNESS), "comment",
)  # fmt: skip
SUS_CELLS = (*(each.key for each in SUS), "score", "newest")
EXPORTS: Mapping[str, tuple[Callable[..., Iterator[list[Row]]], tuple[str, ...]]] = {
    "usefulness": (usefulness_rows, USEFULNESS_CELLS),
    "sus": (sus_rows, SUS_CELLS),
}
"""What can be exported: what makes its rows, and their cells."""


def rows(ledger: Ledger, what: str, *, names: bool = False) -> Iterator[Row]:
    """The rows of one of EXPORTS."""
    for part in EXPORTS[what][0](ledger, names=names):
        yield from part


def text(ledger: Ledger, what: str, *, names: bool = False) -> Iterator[str]:
    """One of EXPORTS as CSV (RFC 4180), in parts, its head first. Days are UTC; an empty cell was not answered."""
    make, cells = EXPORTS[what]
    yield _lines([("reader", *(("account",) if names else ()), "answered_on", *cells)])
    for part in make(ledger, names=names):
        yield _lines(row.values() for row in part)


def _lines(table: Iterable[Iterable[Cell]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([harmless(cell) for cell in row] for row in table)
    return out.getvalue()


def harmless(cell: Cell) -> Cell:
    """A cell that no spreadsheet runs. Numbers stay numbers."""
    if isinstance(cell, bool):
        return int(cell)
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" \n").startswith(FORMULA) else cell
