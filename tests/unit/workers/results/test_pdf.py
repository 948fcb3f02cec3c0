"""The page: one, whatever it holds; and what it says of the patient is true."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medai.models.volume import Segment
from medai.workers.results.pdf import encode_pdf, render_page


def read(page: bytes, tmp_path: Path) -> str:
    """The text of the page as poppler reads it."""
    path = tmp_path / "page.pdf"
    path.write_bytes(page)
    return subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def test_it_says_who_what_and_that_nobody_verified_it(make: Any, source: Any, tmp_path: Path) -> None:
    told = read(render_page(make.context(source, segmentation=make.hippocampus(source))), tmp_path)
    assert "Müller, Änne" in told
    for words in (
        "MRN-77|1",
        "1960-02-29",
        "ACC123",
        "Left hippocampus, total",
        "2 of 2 checks passed",
        "No person has verified it",
    ):
        assert words in told, words


def test_every_form_of_a_name_is_on_the_page(make: Any, source: Any, tmp_path: Path) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    headers = tuple(make.copy(h, SpecificCharacterSet="ISO_IR 192", PatientName=name) for h in source.headers)
    told = read(render_page(make.context(replace(source, headers=headers))), tmp_path)
    for words in ("Yamada, Tarou", "山田, 太郎", "やまだ, たろう"):
        assert words in told


def test_what_a_header_holds_is_text_and_never_markup(make: Any, source: Any, tmp_path: Path) -> None:
    name = "<h1>&amp; <img src>^<b>"
    headers = tuple(make.copy(header, PatientName=name) for header in source.headers)
    assert "<h1>&amp; <img src>, <b>" in read(render_page(make.context(replace(source, headers=headers))), tmp_path)


def test_a_hundred_structures_are_on_one_page(make: Any, source: Any, tmp_path: Path) -> None:
    plain = make.segmentation(source)
    extra = tuple(
        Segment(
            number=n, name=f"Structure number {n}", category=plain.segments[0].category, type=plain.segments[0].type
        )
        for n in range(3, 121)
    )
    page = render_page(make.context(source, segmentation=replace(plain, segments=(*plain.segments, *extra))))
    told = read(page, tmp_path)
    assert "Structure number 120" in told
    assert told.count("\f") == 1, "as poppler ends a page"


def test_the_object_names_its_sources_and_that_the_page_names_the_patient(make: Any, source: Any) -> None:
    seg = make.seg(source)
    made = encode_pdf(make.context(source), seg)
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1"
    assert (made.BurnedInAnnotation, made.VerificationFlag) == ("YES", "UNVERIFIED")
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == render_page(make.context(source))
    assert len(made.EncapsulatedDocument) % 2 == 0
    assert made.SourceInstanceSequence[-1].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert len(made.SourceInstanceSequence) == len(source.headers) + 1
