"""The first PDU of an association: read whole, or refused before anybody else reads it."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom import pdu as theirs
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification

from medai.router.dicom_front.pdu import (
    REQUEST_LIMIT,
    BadPdu,
    Opening,
    Rejection,
    Request,
    Why,
    abort,
    parse,
    reject,
)


def request(*, called: str = "ORTHANC", calling: str = "CT1", contexts: int = 2) -> bytes:
    """As pynetdicom writes it."""
    asked = A_ASSOCIATE()
    asked.application_context_name = UID("1.2.840.10008.3.1.1.1")
    asked.calling_ae_title, asked.called_ae_title = calling, called
    length = MaximumLengthNotification()
    length.maximum_length_received = 16_384
    asked.user_information = [length]
    proposed = [build_context("1.2.840.10008.1.1") for _ in range(contexts)]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    asked.presentation_context_definition_list = proposed
    written = theirs.A_ASSOCIATE_RQ()
    written.from_primitive(asked)
    return bytes(written.encode())


def fed(data: bytes, *, pieces: int = 1_000_000, limit: int = REQUEST_LIMIT) -> tuple[Request | None, Opening]:
    """What an opening makes of bytes, of which it gets no more than it may have."""
    opening, found = Opening(limit), None
    while data and opening.missing:
        size = min(opening.missing, pieces, len(data))
        found = opening.feed(data[:size])
        data = data[size:]
    return found, opening


def why(data: bytes) -> Why:
    with pytest.raises(BadPdu) as refused:
        fed(data)
    return refused.value.why


@pytest.mark.parametrize("pieces", [1, 7, 1_000_000])
def test_a_request_says_who_calls_whom_however_it_comes(pieces: int) -> None:
    data = request(called="THE ARCHIVE", calling="CT 1")
    found, opening = fed(data, pieces=pieces)
    assert found == Request(called="THE ARCHIVE", calling="CT 1", data=data)
    assert opening.missing == 0


def test_nothing_of_what_follows_a_request_is_asked_for() -> None:
    data = request()
    opening = Opening()
    assert opening.missing == 6
    assert opening.feed(data[:6]) is None
    assert opening.missing == len(data) - 6


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 73, 74, 150])
def test_a_request_that_is_cut_off_is_none_yet(size: int) -> None:
    found, opening = fed(request()[:size])
    assert found is None
    assert opening.missing
    assert opening.held_bytes == size


@pytest.mark.parametrize("kind", range(0x02, 0x08))
def test_another_pdu_is_unexpected(kind: int) -> None:
    assert why(bytes([kind]) + request()[1:]) is Why.UNEXPECTED_PDU


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(6), b"\x0bMSH|^"])
def test_what_is_no_pdu_is_not_recognized(start: bytes) -> None:
    assert why(start) is Why.UNRECOGNIZED_PDU


@pytest.mark.parametrize("length", [0, 1, 67, REQUEST_LIMIT - 5, REQUEST_LIMIT, 2**31, 2**32 - 1])
def test_a_length_that_no_request_has_is_refused_by_the_header_alone(length: int) -> None:
    assert why(struct.pack(">BxI", 1, length)) is Why.INVALID_PARAMETER


def with_items(items: bytes) -> bytes:
    body = request()[6:74] + items
    return struct.pack(">BxI", 1, len(body)) + body


@pytest.mark.parametrize("items", [
    b"\x10", b"\x10\x00\x00", b"\x10\x00\x00\x01", b"\x10\x00\xff\xffabc",
    b"\x20\x00\x00\x00", b"\x20\x00\x00\x03\x01\x00\x00",
    b"\x20\x00\x00\x08\x01\x00\x00\x00\x30\x00\x00\x01", b"\x20\x00\x00\x08\x01\x00\x00\x00\x30\x00\xff\xff",
    b"\x50\x00\x00\x04\x51\x00\x00\x01", b"\x50\x00\x00\x03\x51\x00\x00",
    b"\x20\x00\x00\x04\x01\x00\x00\x00" * 129,
])  # fmt: skip
def test_items_that_do_not_fill_what_holds_them_are_refused(items: bytes) -> None:
    assert why(with_items(items)) is Why.INVALID_PARAMETER


def test_128_presentation_contexts_are_taken() -> None:
    assert fed(request(contexts=128))[0] is not None


def test_whatever_a_byte_becomes_the_answer_is_a_request_or_a_refusal() -> None:
    data = request()
    for position in range(len(data)):
        for byte in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            with suppress(BadPdu):
                parse(data[:position] + bytes([byte]) + data[position + 1 :])


def test_a_title_that_is_no_title_is_told_without_its_bytes() -> None:
    data = request()
    data = data[:26] + b"\x1b[31m\xff\n \0\0\0\0\0\0\0\0" + data[42:]
    assert parse(data).calling == "?[31m??"


@pytest.mark.parametrize(("rejection", "words"), [
    (Rejection.CALLED_AE_NOT_RECOGNIZED, ("Rejected (Permanent)", "DUL service-user", "Called AE title not recognised")),
    (Rejection.CALLING_AE_NOT_RECOGNIZED, ("Rejected (Permanent)", "DUL service-user", "Calling AE title not recognised")),
    (Rejection.LOCAL_LIMIT_EXCEEDED, ("Rejected (Transient)", "DUL service-provider (presentation related)", "Local limit exceeded")),
    (Rejection.TEMPORARY_CONGESTION, ("Rejected (Transient)", "DUL service-provider (presentation related)", "Temporary congestion")),
])  # fmt: skip
def test_a_rejection_says_what_the_standard_calls_it(rejection: Rejection, words: tuple[str, ...]) -> None:
    read = theirs.A_ASSOCIATE_RJ()
    read.decode(reject(rejection))
    assert (read.result_str, read.source_str, read.reason_str) == words


def test_an_abort_is_the_service_providers() -> None:
    read = theirs.A_ABORT_RQ()
    read.decode(abort(Why.UNEXPECTED_PDU))
    assert (read.source, read.reason_diagnostic) == (2, 2)
    assert len(abort()) == len(reject(Rejection.LOCAL_LIMIT_EXCEEDED)) == 10
