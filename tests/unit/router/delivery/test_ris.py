"""The right end for every answer of the RIS, and no patient in any error."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from dicom_cases import PLANTED

from medai.router.contract import control_id
from medai.router.delivery import ris as sending
from medai.router.delivery.ris import parse_ack, send_oru, tls_context
from medai.router.errors import RisBusy, RisRefused, RisUnreachable, TemporaryError
from medai.router.settings.tables import RisSettings

NUMBER = control_id("c8ff5465-a266-5718-87a2-912969aac335", "ris")
ORU = b"MSH|^~\\&|MEDAI\rPID|||" + PLANTED["mrn"].encode() + b"\r"
RIS = RisSettings(host="ris.example", port=2576, timeout_s=3.0)


@dataclass
class FakeRis:
    """Stands in for mllp.send; ``script`` are answers or errors."""

    script: list[Any]
    sent: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)

    def send(self, message: bytes, **where: Any) -> bytes:
        self.sent.append((message, where))
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast(bytes, answer)


def ack(code: str, error: str = "", number: str = NUMBER) -> bytes:
    err = f"ERR|||{error}\r" if error else ""
    return f"MSH|^~\\&|RIS|H|MEDAI|AI|20260101||ACK|1|P|2.5.1\rMSA|{code}|{number}|{PLANTED['name']}\r{err}".encode()


@pytest.fixture
def ris(monkeypatch: pytest.MonkeyPatch) -> FakeRis:
    made = FakeRis([])
    monkeypatch.setattr(sending.mllp, "send", made.send)
    return made


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_an_acceptance_is_the_receipt_and_the_bytes_go_as_they_were_kept(code: str, ris: FakeRis) -> None:
    ris.script = [ack(code)]
    assert send_oru(ORU, NUMBER, RIS) == code
    assert ris.sent == [(ORU, {"host": "ris.example", "port": 2576, "timeout_s": 3.0, "tls": None})]


@pytest.mark.parametrize("code", ["AE", "CE"])
def test_an_error_in_the_message_needs_a_person(code: str, ris: FakeRis) -> None:
    ris.script = [ack(code, "102")]
    with pytest.raises(RisRefused, match=rf"answered {code} \(error 102\): the result is in the archive"):
        send_oru(ORU, NUMBER, RIS)


@pytest.mark.parametrize("code", ["AR", "CR"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("", RisBusy), ("207", RisBusy), ("200", RisRefused), ("201", RisRefused), ("202", RisRefused),
        ("203", RisRefused),
    ],
)  # fmt: skip
def test_a_rejection_is_a_busy_ris_or_for_a_kind_that_it_does_not_know_a_refusal(
    code: str, error: str, kind: type[Exception], ris: FakeRis
) -> None:
    ris.script = [ack(code, error)]
    with pytest.raises(kind, match=f"answered {code}"):
        send_oru(ORU, NUMBER, RIS)


@pytest.mark.parametrize(
    "answer", [b"", b"hello", ack("AA", number="ANOTHER"), ack("XX"), ack("AA").partition(b"MSA")[0]]
)
def test_an_answer_that_acknowledges_nothing_is_asked_for_again(answer: bytes, ris: FakeRis) -> None:
    ris.script = [answer]
    with pytest.raises(RisUnreachable):
        send_oru(ORU, NUMBER, RIS)


@pytest.mark.parametrize("answer", [ack("AE", "102"), ack("AR"), ack("AA", number="ANOTHER"), b"garbage " + ORU])
def test_no_error_quotes_what_was_sent_or_answered(answer: bytes, ris: FakeRis) -> None:
    ris.script = [answer]
    with pytest.raises((RisRefused, RisBusy, RisUnreachable)) as caught:
        send_oru(ORU, NUMBER, RIS)
    assert not any(value in str(caught.value) for value in PLANTED.values())


def test_a_result_waits_when_the_ris_was_taken_out_of_the_configuration(ris: FakeRis) -> None:
    with pytest.raises(TemporaryError, match=r"\[ris\] host"):
        send_oru(ORU, NUMBER, RisSettings())
    assert ris.sent == []


def test_tls_is_off_or_at_least_1_2_with_the_server_checked() -> None:
    assert tls_context(RIS) is None
    context = tls_context(replace_ris(tls=True))
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def replace_ris(**changes: Any) -> RisSettings:
    return RIS.model_copy(update=changes)


# -- reading an acknowledgement


def acknowledgement(code: str, control: str, tail: str = "") -> bytes:
    text = f"MSH|^~\\&|RIS|H|MEDAI|AI|20260314||ACK^R01|77|P|2.5.1\rMSA|{code}|{control}|some words\r{tail}"
    return text.encode()


def test_an_acknowledgement_gives_code_text_and_error() -> None:
    read = parse_ack(acknowledgement("AE", "ME", "ERR||PID^1^5|101^Required field missing^HL70357|E\r"), "ME")
    assert (read.code, read.text, read.error_code) == ("AE", "some words", "101")


@pytest.mark.parametrize("code", ["AA", "AE", "AR", "CA", "CE", "CR"])
def test_every_acknowledgement_code_is_read(code: str) -> None:
    assert parse_ack(b"\x0b" + acknowledgement(code, "ME") + b"\x1c\r", "ME").code == code


def test_an_older_error_segment_is_read_too() -> None:
    assert parse_ack(acknowledgement("AR", "ME", "ERR|PID^1^5^203&Unsupported version id\r"), "ME").error_code == "203"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (acknowledgement("AA", "OTHER"), "another message"),
        (acknowledgement("ZZ", "ME"), "without a usable"),
        (b"MSH|^~\\&|RIS\r", "without a usable"),
        (b"MSH", "not HL7"),
        (b"garbage", "not HL7"),
        (b"", "not HL7"),
    ],
)
def test_an_answer_that_acknowledges_nothing_means_send_again(data: bytes, reason: str) -> None:
    with pytest.raises(RisUnreachable, match=reason):
        parse_ack(data, "ME")
