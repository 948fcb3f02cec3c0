"""Delivery: the archive first, nothing twice, and the right end for every answer of the RIS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from dicom_cases import PLANTED, slice_of
from pydicom.dataset import Dataset

from router.contract import Job, JobId, Measurement, OrthancId, StampName, StudyUID, control_id
from router.errors import (
    LeaseLost,
    OrthancRefused,
    OrthancUnreachable,
    PermanentError,
    RisRefused,
    RisUnreachable,
    TemporaryError,
)
from router.ledger import Claim, Ledger, Pending
from router.orthanc import Orthanc, orthanc_id
from router.settings import RisSettings, Settings
from workers import deliver
from workers.deliver import AR_TRIES, describe_object, owed, send_oru, tls_context
from workers.results import Results, ResultUids

JOB_ID = "c8ff5465-a266-5718-87a2-912969aac335"
NUMBER = control_id(JOB_ID, "ris")
ORU = b"MSH|^~\\&|MEDAI\rPID|||" + PLANTED["mrn"].encode() + b"\r"
RIS = RisSettings(host="ris.example", port=2576, timeout_s=3.0)
SETTINGS = Settings(ris=RIS, destinations={"pacs2": {"modality": "PACS2"}})
JOB = Job(
    job_id=JobId(JOB_ID), study_uid=StudyUID("1.2"), study_orthanc_id=OrthancId("o"), series_orthanc_ids=(),
    sources_hash="s", sources_count=1, route="r", model="m", model_version="1", destinations=("archive", "ris", "pacs2"),
)  # fmt: skip


@dataclass
class FakeLedger:
    """Writes down what it is told, in order; ``lost`` makes the first word about storing fail."""

    said: list[tuple[Any, ...]] = field(default_factory=list)
    lost: bool = False
    stored: dict[str, Any] = field(default_factory=dict)

    def begin_storing(self, job_id: str, token: str, objects: list[dict[str, str]], now: float) -> None:
        if self.lost:
            raise LeaseLost("lost")
        self.said.append(("begin", [item["kind"] for item in objects]))

    def end_storing(self, job_id: str, token: str, **values: Any) -> None:
        self.said.append(("end",))
        self.stored = values

    def delivery_tried(self, job_id: str, destination: str, now: float) -> None:
        self.said.append(("tried", destination))

    def delivery_ended(self, job_id: str, destination: str, *, ok: bool, text: str, now: float) -> None:
        self.said.append(("ended", destination, ok, text))

    def stamp(self, job_id: str, name: StampName, at: float) -> None:
        self.said.append(("stamp", name.value))

    def result_ids(self, job_id: str) -> list[str]:
        return ["seg-id", "sr-id"]


@dataclass
class FakeOrthanc:
    """Keeps what it is given; ``script`` answers, else Success."""

    ledger: FakeLedger
    script: list[Any] = field(default_factory=list)
    sent_to: list[tuple[str, list[str]]] = field(default_factory=list)
    refuses: Exception | None = None

    def store(self, data: bytes) -> dict[str, Any]:
        assert data[128:132] == b"DICM"
        self.ledger.said.append(("store",))
        answer = self.script.pop(0) if self.script else {"Status": "Success"}
        if isinstance(answer, Exception):
            raise answer
        return cast(dict[str, Any], answer)

    def send_to(self, modality: str, resources: list[str]) -> None:
        if self.refuses:
            raise self.refuses
        self.sent_to.append((modality, resources))


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
    monkeypatch.setattr(deliver.mllp, "send", made.send)
    return made


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def orthanc(ledger: FakeLedger) -> FakeOrthanc:
    return FakeOrthanc(ledger)


def pending(destination: str = "ris", *, attempts: int = 0) -> Pending:
    oru = destination == "ris"
    return Pending(
        destination=destination, control_id=NUMBER if oru else "", payload=ORU if oru else None, attempts=attempts,
        first_try_at=None,
    )  # fmt: skip


def claim(*deliveries: Pending) -> Claim:
    return Claim(job=JOB, token="t", stored=True, created_at=0.0, pending_deliveries=deliveries)


def outside(orthanc: FakeOrthanc, settings: Settings = SETTINGS) -> dict[str, Any]:
    return {
        "orthanc": cast(Orthanc, orthanc), "ledger": cast(Ledger, orthanc.ledger), "settings": settings,
        "clock": lambda: 7.0,
    }  # fmt: skip


# -- the RIS's answers


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_an_acceptance_is_the_receipt_and_the_bytes_go_as_they_were_kept(code: str, ris: FakeRis) -> None:
    ris.script = [ack(code)]
    assert send_oru(pending(), RIS) == code
    assert ris.sent == [(ORU, {"host": "ris.example", "port": 2576, "timeout_s": 3.0, "tls": None})]


@pytest.mark.parametrize("code", ["AE", "CE"])
@pytest.mark.parametrize("attempts", [0, AR_TRIES])
def test_an_error_in_the_message_needs_a_person_at_once(code: str, attempts: int, ris: FakeRis) -> None:
    ris.script = [ack(code, "102")]
    with pytest.raises(RisRefused, match=rf"answered {code} \(error 102\): the result is in the archive"):
        send_oru(pending(attempts=attempts), RIS)


@pytest.mark.parametrize("code", ["AR", "CR"])
@pytest.mark.parametrize(
    ("attempts", "error", "kind"),
    [
        (0, "", RisUnreachable), (0, "207", RisUnreachable), (AR_TRIES - 2, "207", RisUnreachable),
        (AR_TRIES - 1, "207", RisRefused), (AR_TRIES, "", RisRefused),
        (0, "200", RisRefused), (0, "201", RisRefused), (0, "202", RisRefused), (0, "203", RisRefused),
    ],
)  # fmt: skip
def test_a_rejection_is_a_busy_ris_some_times_and_then_or_for_a_wrong_version_a_refusal(
    code: str, attempts: int, error: str, kind: type[Exception], ris: FakeRis
) -> None:
    ris.script = [ack(code, error)]
    with pytest.raises(kind, match=f"answered {code}"):
        send_oru(pending(attempts=attempts), RIS)


@pytest.mark.parametrize(
    "answer", [b"", b"hello", ack("AA", number="ANOTHER"), ack("XX"), ack("AA").partition(b"MSA")[0]]
)
def test_an_answer_that_acknowledges_nothing_is_asked_for_again(answer: bytes, ris: FakeRis) -> None:
    ris.script = [answer]
    with pytest.raises(RisUnreachable):
        send_oru(pending(), RIS)


@pytest.mark.parametrize("answer", [ack("AE", "102"), ack("AR"), ack("AA", number="ANOTHER"), b"garbage " + ORU])
def test_no_error_quotes_what_was_sent_or_answered(answer: bytes, ris: FakeRis) -> None:
    ris.script = [answer]
    with pytest.raises((RisRefused, RisUnreachable)) as caught:
        send_oru(pending(), RIS)
    assert not any(value in str(caught.value) for value in PLANTED.values())


def test_a_result_waits_when_the_ris_was_taken_out_of_the_configuration(ris: FakeRis) -> None:
    with pytest.raises(TemporaryError, match=r"\[ris\] host"):
        send_oru(pending(), RisSettings())
    assert ris.sent == []


def test_tls_is_off_or_at_least_1_2_with_the_server_checked() -> None:
    assert tls_context(RIS) is None
    context = tls_context(replace_ris(tls=True))
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def replace_ris(**changes: Any) -> RisSettings:
    return RIS.model_copy(update=changes)


# -- what is owed


def results() -> Results:
    objects: dict[str, Dataset] = {kind: slice_of(n, study="out") for n, kind in enumerate(("seg", "sr", "sc"))}
    one = Measurement(segment_number=1, segment_name="Brain", quantity="volume", value=1.0, unit="ml")
    return Results(objects=objects, oru=ORU, measurements=(one,), warnings=("note",), uids=ResultUids.of(JOB_ID))


def test_the_ris_comes_last_with_the_message_and_its_number() -> None:
    assert owed(JOB, results(), SETTINGS) == [
        {"destination": "pacs2"},
        {"destination": "ris", "control_id": NUMBER, "payload": ORU},
    ]


def test_nothing_is_owed_to_a_ris_that_is_not_configured_or_not_asked_for() -> None:
    assert owed(replace(JOB, destinations=("archive", "ris")), results(), Settings()) == []
    assert owed(replace(JOB, destinations=("archive",)), results(), SETTINGS) == []


def test_an_object_is_described_with_the_id_that_orthanc_will_give_it() -> None:
    image = slice_of(0, study="a", PatientID=" MRN7 ")
    told = describe_object("seg", image)
    uids = (str(image.StudyInstanceUID), str(image.SeriesInstanceUID), str(image.SOPInstanceUID))
    assert told.orthanc_id == orthanc_id("MRN7", *uids)
    assert (told.series_uid, told.sop_uid) == uids[1:]


# -- storing


def test_objects_are_announced_before_they_are_sent_and_confirmed_after(orthanc: FakeOrthanc) -> None:
    deliver.store(claim(), results(), **outside(orthanc))
    assert orthanc.ledger.said == [("begin", ["seg", "sr", "sc"]), ("store",), ("store",), ("store",), ("end",)]
    stored = orthanc.ledger.stored
    assert list(stored["results"]) == ["seg", "sr", "sc"]
    assert stored["measurements"][0]["segment_name"] == "Brain"
    assert stored["warnings"] == ("note",)
    assert (stored["plausibility"]["verdict"], stored["plausibility"]["checks"]) == ("check", [])
    assert [row["destination"] for row in stored["deliveries"]] == ["pacs2", "ris"]


def test_a_job_that_is_no_longer_ours_sends_nothing(orthanc: FakeOrthanc) -> None:
    orthanc.ledger.lost = True
    with pytest.raises(LeaseLost):
        deliver.store(claim(), results(), **outside(orthanc))
    assert orthanc.ledger.said == []


def test_an_object_that_is_there_already_counts_as_stored(orthanc: FakeOrthanc) -> None:
    orthanc.script = [{"Status": "AlreadyStored"}]
    deliver.store(claim(), results(), **outside(orthanc))
    assert orthanc.ledger.said[-1] == ("end",)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (OrthancRefused("no", status=400), PermanentError, r"refused the SEG object \(400\)"),
        ({"Status": "FilteredOut"}, TemporaryError, r"did not keep the SEG object \(FilteredOut\)"),
        ({}, TemporaryError, "did not keep the SEG object"),
        (OrthancUnreachable("away"), OrthancUnreachable, "away"),
    ],
)
def test_what_the_archive_does_not_keep_is_never_confirmed(
    answer: Any, kind: type[Exception], words: str, orthanc: FakeOrthanc
) -> None:
    orthanc.script = [answer]
    with pytest.raises(kind, match=words):
        deliver.store(claim(), results(), **outside(orthanc))
    assert ("end",) not in orthanc.ledger.said


# -- delivering


def test_each_delivery_is_tried_and_ended_with_its_receipt(orthanc: FakeOrthanc, ris: FakeRis) -> None:
    ris.script = [ack("AA")]
    deliver.deliver(claim(pending("pacs2"), pending()), **outside(orthanc))
    assert orthanc.ledger.said == [
        ("tried", "pacs2"), ("ended", "pacs2", True, "C-STORE success"),
        ("tried", "ris"), ("stamp", "oru_sent"), ("ended", "ris", True, "AA"),
    ]  # fmt: skip
    assert orthanc.sent_to == [("PACS2", ["seg-id", "sr-id"])]


def test_one_destination_that_is_away_does_not_hold_up_the_others(orthanc: FakeOrthanc, ris: FakeRis) -> None:
    ris.script = [ack("AA")]
    orthanc.refuses = OrthancUnreachable("PACS2 is away")
    with pytest.raises(OrthancUnreachable, match="PACS2 is away"):
        deliver.deliver(claim(pending("pacs2"), pending()), **outside(orthanc))
    assert ("ended", "ris", True, "AA") in orthanc.ledger.said
    assert not [item for item in orthanc.ledger.said if item[:2] == ("ended", "pacs2")], "still owed"


def test_a_refusal_is_kept_and_told_once_nothing_is_left_to_wait_for(orthanc: FakeOrthanc, ris: FakeRis) -> None:
    ris.script = [ack("AE")]
    orthanc.refuses = OrthancUnreachable("away")
    with pytest.raises(OrthancUnreachable):
        deliver.deliver(claim(pending("pacs2"), pending()), **outside(orthanc))
    assert orthanc.ledger.said[-1][:3] == ("ended", "ris", False)
    ris.script = [ack("AE")]
    with pytest.raises(RisRefused):
        deliver.deliver(claim(pending()), **outside(orthanc))


@pytest.mark.parametrize(
    ("settings", "refuses", "words"),
    [
        (Settings(), None, "'pacs2' is no longer configured"),
        (SETTINGS, OrthancRefused("no", status=404), "Orthanc knows no modality 'PACS2': add it to DicomModalities"),
    ],
)
def test_a_destination_that_is_not_known_is_a_refusal_that_says_where_to_look(
    settings: Settings, refuses: Exception | None, words: str, orthanc: FakeOrthanc
) -> None:
    orthanc.refuses = refuses
    with pytest.raises(PermanentError, match=words):
        deliver.deliver(claim(pending("pacs2")), **outside(orthanc, settings))


def test_nothing_owed_is_nothing_done(orthanc: FakeOrthanc) -> None:
    deliver.deliver(claim(), **outside(orthanc))
    assert orthanc.ledger.said == []
