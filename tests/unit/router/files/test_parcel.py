"""A parcel holds what it was given, always in the same bytes, and is cut down to the note."""

from __future__ import annotations

import io
import zipfile

import pytest

from medai.router.contract import Form
from medai.router.errors import PermanentError
from medai.router.files.parcel import Parcel, is_parcel, note_alone, pack, unpack

FULL = Parcel(forms={Form.RTSTRUCT: b"rt", Form.PDF: b"page" * 1000}, note=b"note")


def test_a_parcel_is_opened_as_it_was_packed_and_packed_in_the_same_bytes_in_any_order() -> None:
    payload = pack(FULL)
    assert payload is not None
    assert unpack(payload) == FULL
    assert pack(Parcel(forms=dict(reversed(list(FULL.forms.items()))), note=b"note")) == payload
    assert len(payload) < 1000
    assert is_parcel(payload)
    assert not is_parcel(b"MSH|^~\\&|")
    assert not is_parcel(b'{"resourceType": "Bundle"}')


def test_what_is_left_after_delivery_is_the_note() -> None:
    left = note_alone(pack(FULL))
    assert unpack(left) == Parcel(note=b"note")
    assert note_alone(pack(Parcel(forms={Form.PDF: b"page"}))) is None
    assert note_alone(None) is None


def test_nothing_makes_no_parcel_and_a_delivery_of_the_version_before_has_none() -> None:
    assert pack(Parcel()) is None
    assert unpack(None) == unpack(b"") == Parcel()


def test_a_form_of_a_later_version_is_left_out() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hologram.dcm", b"?")
        archive.writestr("pdf.dcm", b"page")
    assert unpack(buffer.getvalue()) == Parcel(forms={Form.PDF: b"page"})


@pytest.mark.parametrize("payload", [b"MSH|^~\\&|", b"PK\x03\x04 cut off", pack(FULL)[:-30]])  # type: ignore[index]
def test_what_is_no_parcel_needs_a_person(payload: bytes) -> None:
    with pytest.raises(PermanentError, match="is damaged: read the study again"):
        unpack(payload)
