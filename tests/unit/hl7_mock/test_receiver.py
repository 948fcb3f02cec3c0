"""The receiver: which acknowledgement each message gets, and what each fault does."""

from __future__ import annotations

import asyncio

import pytest

from medai.hl7_mock.faults import Faults, parse_rule
from medai.hl7_mock.inbox import Inbox
from medai.hl7_mock.order_messages import parse_request
from medai.hl7_mock.orders import OrderBook
from medai.hl7_mock.patient_messages import Person
from medai.hl7_mock.patients import PatientBook
from medai.hl7_mock.receiver import ResultReceiver
from medai.hl7_mock.refusals import Refusals

ID = "CTRL0000000000000001"


class Ris:
    """The parts behind the MLLP server, in a folder of their own."""

    def __init__(self, folder, clock, **options: bool) -> None:
        self.inbox, self.refusals = Inbox(folder), Refusals(folder)
        self.patients, self.faults = PatientBook(folder, clock), Faults()
        self.book = OrderBook(folder, clock, self.patients.follow)
        self.receiver = ResultReceiver(
            inbox=self.inbox,
            refusals=self.refusals,
            book=self.book,
            patients=self.patients,
            faults=self.faults,
            clock=clock,
            **options,
        )

    def send(self, raw: bytes):
        return asyncio.run(self.receiver.answer(raw))

    def merge(self, prior: str, surviving: str) -> None:
        person = Person(patient_id=surviving, patient_name="Doe^Jane")
        asyncio.run(self.patients.tell(person, prior_id=prior, known=person))

    def order(self, **asked: str) -> str:
        order, _ = asyncio.run(self.book.place(parse_request(asked)))
        return order.placer


@pytest.fixture
def ris(tmp_path, clock) -> Ris:
    return Ris(tmp_path, clock)


def errors(reply) -> list[tuple[str, str]]:
    lines = [line.split("|") for line in reply.wire.decode().split("\r") if line.startswith("ERR|")]
    return [(line[2], line[3].split("^")[0]) for line in lines]


def test_a_good_result_is_accepted_once_however_often_it_comes(ris, oru, msa) -> None:
    for _ in range(3):
        assert msa(ris.send(oru())) == ("AA", ID)
    assert ris.receiver.stats == {"received": 3, "accepted": 1, "duplicates": 2, "rejected": 0}
    assert len(ris.inbox.results[0].history) == 1


def test_the_acknowledgement_goes_back_to_the_sender(ris, oru) -> None:
    msh = ris.send(oru()).wire.decode().split("\r")[0].lstrip("\x0b").split("|")
    assert msh[2:6] == ["RIS", "HOSPITAL", "MEDAI", "AI"]
    assert msh[8] == "ACK^R01^ACK"
    assert 0 < len(msh[9]) <= 20
    assert msh[11] == "2.5.1"


def test_an_acknowledgement_passes_an_independent_validator(ris, oru) -> None:
    from hl7types import decode_er7
    from hl7types.hl7.v2_5_1.messages import ACK

    for raw in (oru(), oru(("|4123.5|", "|abc|"))):
        decode_er7(ris.send(raw).wire[1:-2].decode(), ACK)


def test_a_used_id_with_other_content_is_an_error(ris, oru, msa) -> None:
    ris.send(oru())
    reply = ris.send(oru(("4123.5", "1")))
    assert msa(reply) == ("AE", ID)
    assert errors(reply) == [("MSH^1^10", "205")]
    assert ris.inbox.results[0].reading.measurements[0].number == 4123.5


def test_a_bad_result_is_an_error_that_names_each_place(ris, oru, msa) -> None:
    reply = ris.send(oru(("|4123.5|", "|abc|"), ("CT|P\r", "CT|Q\r")))
    assert msa(reply) == ("AE", ID)
    assert sorted(errors(reply)) == [("OBR^1^25", "103"), ("OBX^3^5", "102")]
    assert ris.inbox.results == ()
    assert ris.refusals.newest_first[0].ack == "AE"


def test_the_id_of_a_refused_message_may_be_used_again(ris, oru, msa) -> None:
    ris.send(oru(("|4123.5|", "|abc|")))
    assert msa(ris.send(oru())) == ("AA", ID)


@pytest.mark.parametrize(
    ("change", "code"),
    [(("ORU^R01^ORU_R01", "ADT^A08^ADT_A01"), "200"), (("|2.5.1|", "|2.9|"), "203"), (("UNICODE UTF-8", "?"), "103")],
)
def test_a_message_of_another_kind_is_rejected(ris, oru, msa, change, code) -> None:
    reply = ris.send(oru(change))
    assert msa(reply) == ("AR", ID)
    assert errors(reply)[0][1] == code


@pytest.mark.parametrize("raw", [b"", b"garbage", b"MSH", b"\x00" * 100, b"MSH|^~\\&\r", "Ä".encode()])
def test_garbage_is_rejected_and_never_met_with_silence(ris, msa, raw) -> None:
    assert msa(ris.send(raw))[0] == "AR"
    assert ris.receiver.stats["rejected"] == 1


def test_a_message_that_is_too_long_is_rejected_and_the_connection_closed(ris, oru, msa) -> None:
    reply = ris.receiver.refuse_too_long(oru()[:200])
    assert msa(reply) == ("AR", ID)
    assert reply.close


def test_a_full_disk_is_a_rejection_so_that_the_sender_comes_again(ris, oru, msa, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medai.hl7_mock.inbox.write_atomic", full)
    reply = ris.send(oru())
    assert msa(reply) == ("AR", ID)
    assert errors(reply) == [("", "207")]
    monkeypatch.undo()
    assert msa(ris.send(oru())) == ("AA", ID)


def test_two_copies_at_the_same_moment_make_one_result(ris, oru, msa) -> None:
    async def both():
        return await asyncio.gather(*(ris.receiver.answer(oru()) for _ in range(8)))

    assert {msa(reply) for reply in asyncio.run(both())} == {("AA", ID)}
    assert ris.receiver.stats == {"received": 8, "accepted": 1, "duplicates": 7, "rejected": 0}


def test_a_result_without_an_order_can_be_refused(tmp_path, clock, oru, msa) -> None:
    strict = Ris(tmp_path, clock, accept_unsolicited=False)
    assert msa(strict.send(oru()))[0] == "AE"
    placer = strict.order(patient_id="PAT1", accession="ACC1")
    assert msa(strict.send(oru(("ORD1", placer))))[0] == "AA"


@pytest.mark.parametrize(
    ("change", "place"),
    [(("PAT1^", "PAT2^"), "PID^1^3"), (("|ACC1|", "|ACC2|"), "OBR^1^18"), (("ORD1", "ORD9"), "OBR^1^2")],
)
def test_a_result_that_does_not_fit_its_order_is_refused(ris, oru, msa, change, place) -> None:
    placer = ris.order(patient_id="PAT1", accession="ACC1")
    changes = [change] if change[0] == "ORD1" else [("ORD1", placer), change]
    reply = ris.send(oru(*changes))
    assert msa(reply) == ("AE", ID)
    assert errors(reply) == [(place, "204")]


def test_a_result_under_an_identifier_that_was_merged_away_is_refused(ris, oru, msa) -> None:
    placer = ris.order(patient_id="PAT1", accession="ACC1")
    ris.merge("PAT1", "PAT2")
    ris.merge("PAT2", "PAT3")
    for identifier in ("PAT1", "PAT2"):
        reply = ris.send(oru(("ORD1", placer), ("PAT1^", f"{identifier}^")))
        assert msa(reply) == ("AE", ID)
        assert errors(reply) == [("PID^1^3", "204")]
    assert msa(ris.send(oru(("ORD1", placer), ("PAT1^", "PAT3^")))) == ("AA", ID)


def test_a_lenient_ris_files_it_under_the_surviving_patient(tmp_path, clock, oru, msa) -> None:
    lenient = Ris(tmp_path, clock, accept_merged=True)
    placer = lenient.order(patient_id="PAT1", accession="ACC1")
    lenient.merge("PAT1", "PAT2")
    assert msa(lenient.send(oru(("ORD1", placer)))) == ("AA", ID)
    (result,) = lenient.inbox.results
    assert lenient.patients.surviving(result.reading.patient_id) == "PAT2"


def test_a_result_that_came_before_the_merge_is_acknowledged_again(ris, oru, msa) -> None:
    ris.send(oru())
    ris.merge("PAT1", "PAT2")
    assert msa(ris.send(oru())) == ("AA", ID)


def test_a_result_of_another_patient_is_still_refused_after_a_merge(ris, oru, msa) -> None:
    placer = ris.order(patient_id="PAT1", accession="ACC1")
    ris.merge("PAT1", "PAT2")
    assert msa(ris.send(oru(("ORD1", placer), ("PAT1^", "PAT9^")))) == ("AE", ID)


def test_a_result_is_withdrawn_once_and_comes_back_as_another_message_alone(ris, oru, msa) -> None:
    def withdrawal(control_id: str):
        changes = [("CT|P\r", "CT|X\r"), ("|||P\r", "|||X\r"), ("|||P|", "|||X|"), (ID, control_id)]
        return oru(*changes, ("|4123.5|", "||"))

    assert msa(ris.send(withdrawal("W0"))) == ("AE", "W0")
    ris.send(oru())
    assert [msa(ris.send(withdrawal(name)))[0] for name in ("W1", "W1", "W2")] == ["AA", "AA", "AE"]
    assert ris.inbox.results[0].reading.measurements[0].number == -780
    assert msa(ris.send(oru()))[0] == "AA"
    assert ris.inbox.results[0].reading.status == "X", "a late copy brings nothing back"
    assert msa(ris.send(oru((ID, "C2"), ("CT|P\r", "CT|C\r"))))[0] == "AE"
    assert msa(ris.send(oru((ID, "P2"))))[0] == "AA"
    assert [step.status for step in ris.inbox.results[0].history] == ["P", "X", "P"]


def test_a_withdrawal_leaves_no_observation_that_holds(ris, oru) -> None:
    ris.send(oru())
    reply = ris.send(oru(("CT|P\r", "CT|X\r"), (ID, "W1")))
    assert errors(reply) == [(f"OBX^{number}^11", "207") for number in range(1, 6)]


def test_the_refused_are_still_known_after_a_restart(ris, oru, tmp_path, clock) -> None:
    ris.send(oru(("|4123.5|", "|abc|")))
    (refusal,) = Refusals(tmp_path).newest_first
    assert (refusal.message_id, refusal.control_id, refusal.objections[0].code) == ("r1", ID, "102")
    assert Ris(tmp_path, clock).receiver.stats["rejected"] == 1


@pytest.mark.parametrize(
    ("kind", "stored", "wire", "close"),
    [
        ("ae", False, b"MSA|AE|" + ID.encode(), False),
        ("ar", False, b"MSA|AR|" + ID.encode(), False),
        ("silent", True, None, False),
        ("garbage", True, b"not HL7", False),
        ("close", True, None, True),
        ("partial", True, b"\x0bMSH", True),
        ("wrong_msa", True, b"MSA|AA|SOMEOTHER", False),
        ("delay", True, b"MSA|AA|" + ID.encode(), False),
    ],
)
def test_a_fault_strikes_once_and_then_the_repeated_message_is_acknowledged(
    ris, oru, msa, kind, stored, wire, close
) -> None:
    ris.faults.add(parse_rule({"kind": kind, "count": 1, "delay_s": 0}))
    reply = ris.send(oru())
    assert reply.close is close
    assert (wire in reply.wire) if wire else reply.wire == b""
    assert len(ris.inbox.results) == stored
    assert msa(ris.send(oru())) == ("AA", ID)
    assert ris.receiver.stats["accepted"] == 1
    assert ris.receiver.stats["duplicates"] == stored


def test_a_fault_can_lose_the_message_itself(ris, oru) -> None:
    ris.faults.add(parse_rule({"kind": "silent", "count": 1, "store": False}))
    assert ris.send(oru()).wire == b""
    assert ris.inbox.results == ()
