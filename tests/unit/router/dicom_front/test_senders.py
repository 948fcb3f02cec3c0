"""Who may associate: titles as Orthanc compares them, and each with its own address."""

from __future__ import annotations

from typing import Any

import pytest

from medai.router.dicom_front.pdu import Rejection, Request
from medai.router.dicom_front.senders import Senders
from medai.router.settings.dicom_in import DicomInSettings

CALLED, CALLING = Rejection.CALLED_AE_NOT_RECOGNIZED, Rejection.CALLING_AE_NOT_RECOGNIZED
CT1 = {"senders": [{"ae_title": "CT1", "host": "10.0.0.5"}, {"ae_title": "CT1", "host": "10.0.0.6"}]}


def refusal(calling: str, address: str, *, called: str = "ORTHANC", **settings: Any) -> Rejection | None:
    return Senders(DicomInSettings(**settings)).refusal(Request(called=called, calling=calling, data=b""), address)


@pytest.mark.parametrize("address", ["10.0.0.5", "10.0.0.6", "::ffff:10.0.0.5"])
def test_a_named_sender_is_let_in_from_each_of_its_addresses(address: str) -> None:
    assert refusal("CT1", address, **CT1) is None
    assert refusal("ct1", address, **CT1) is None, "Orthanc tells no small letters from capitals"


@pytest.mark.parametrize(
    ("calling", "address"), [("CT1", "10.0.0.7"), ("CT2", "10.0.0.5"), ("", "10.0.0.5"), ("CT1", "fe80::1%eth0")]
)
def test_others_and_those_elsewhere_are_not_recognized(calling: str, address: str) -> None:
    assert refusal(calling, address, **CT1) is CALLING
    assert refusal(calling, address, open=True, **CT1) is None
    assert refusal(calling, address) is None, "nobody is named"


def test_the_archive_answers_to_its_own_titles() -> None:
    assert refusal("CT1", "10.0.0.5", called="PACS", **CT1) is CALLED
    assert refusal("EVIL", "10.0.0.5", called="PACS", open=True) is CALLED
    front = {"called_ae_titles": ["PACS", "AI"]}
    assert [refusal("X", "10.0.0.5", called=name, front=front) for name in ("pacs", "AI", "ORTHANC")] == [
        None,
        None,
        CALLED,
    ]
    assert refusal("X", "10.0.0.5", called="ANY", front={"called_ae_titles": []}) is None
