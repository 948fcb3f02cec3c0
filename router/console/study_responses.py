"""What the API answers about one study beside its story: whose it is, its pictures, its report. Next: pictures.py."""

from __future__ import annotations

from pydantic import Field

from medai.router.reports.report import Report


class Patient(Report):
    """Whose study it is."""

    name: str
    id: str
    birth_date: str
    sex: str


class SegmentEntry(Report):
    """A segment, and how it is drawn."""

    number: int
    name: str
    colour: str = Field(description="#rrggbb")


class Slices(Report):
    """The slices that a reading is about."""

    rows: int
    columns: int
    spacing_mm: tuple[float, float] = Field(description="Between rows, between columns.")
    letters: tuple[str, str, str, str] = Field(description="Patient directions at the left, right, top, bottom edge.")
    segments: tuple[SegmentEntry, ...]
    slices: tuple[tuple[int, ...], ...] = Field(
        description="For each slice, in order, the segments that may have an outline on it."
    )


class Outline(Report):
    """A segment's edge on one slice."""

    segment: int
    path: str = Field(description="SVG path data, in pixels of the slice.")


class ReportItem(Report):
    """A content item of a structured report."""

    name: str
    value: str
    items: tuple[ReportItem, ...]
