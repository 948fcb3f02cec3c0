"""The inbox: what it keeps survives, what contradicts it is named."""

from __future__ import annotations

import asyncio

import pytest

from medai.hl7_mock.inbox import Inbox
from medai.hl7_mock.message import parse


def store(inbox: Inbox, raw: bytes, at: float = 1000.0) -> None:
    asyncio.run(inbox.store(parse(raw), at))


def correction(oru, status: str = "C", control_id: str = "CTRL2", *more: tuple[str, str]) -> bytes:
    return oru(("CT|P\r", f"CT|{status}\r"), ("CTRL0000000000000001", control_id), *more)


def test_a_result_says_what_the_message_said(oru, tmp_path) -> None:
    inbox = Inbox(tmp_path)
    store(inbox, oru())
    (result,) = inbox.results
    reading = result.reading
    assert (reading.filler, reading.placer, reading.accession) == ("AI1", "ORD1", "ACC1")
    assert (reading.study_uid, reading.status, reading.modality) == ("1.2.840.1.2", "P", "CT")
    assert [(each.name, each.number, each.unit) for each in reading.measurements] == [
        ("Volume", 4123.5, "ml"),
        ("Attenuation", -780.0, "[hnsf'U]"),
    ]
    assert reading.subject_of(reading.measurements[0]) == "Lung"


def test_the_inbox_is_the_same_after_a_restart(oru, tmp_path) -> None:
    inbox = Inbox(tmp_path)
    store(inbox, oru(), 1000.25)
    store(inbox, correction(oru, "P"), 1001.5)
    again = Inbox(tmp_path)
    assert again.results == inbox.results
    assert len(again) == 2
    assert again.seen(parse(oru())) is True
    assert again.raw("CTRL2") == correction(oru, "P")
    assert again.raw("1") == oru()


def test_an_interrupted_write_leaves_nothing(oru, tmp_path) -> None:
    Inbox(tmp_path)
    (tmp_path / "inbox" / ".00000001-1000.hl7.part").write_bytes(oru()[:50])
    assert len(Inbox(tmp_path)) == 0
    assert list((tmp_path / "inbox").iterdir()) == []


def test_a_file_that_cannot_be_read_does_not_keep_the_ris_from_starting(oru, tmp_path) -> None:
    store(Inbox(tmp_path), oru())
    (tmp_path / "inbox" / "00000002-1000.hl7").write_bytes(b"\x00\xff")
    inbox = Inbox(tmp_path)
    assert len(inbox) == 1
    store(inbox, correction(oru))
    assert len(Inbox(tmp_path)) == 2


def test_a_message_is_known_by_its_sender_and_id_and_told_by_its_content(oru, tmp_path) -> None:
    inbox = Inbox(tmp_path)
    assert inbox.seen(parse(oru())) is None
    store(inbox, oru())
    assert inbox.seen(parse(oru())) is True
    assert inbox.seen(parse(oru(("4123.5", "4123.6")))) is False
    assert inbox.seen(parse(oru(("|AI|", "|AI2|")))) is None


def test_a_revision_replaces_the_result_and_keeps_its_history(oru, tmp_path) -> None:
    inbox = Inbox(tmp_path)
    store(inbox, oru(), 1000.0)
    store(inbox, correction(oru, "P", "CTRL2", ("4123.5", "5000")), 1001.0)
    (result,) = inbox.results
    assert result.reading.measurements[0].number == 5000
    assert [(step.status, step.control_id) for step in result.history] == [
        ("P", "CTRL0000000000000001"),
        ("P", "CTRL2"),
    ]


@pytest.mark.parametrize(
    ("first", "then", "allowed"),
    [
        ("P", "C", False),
        ("P", "P", True),
        ("P", "F", True),
        ("F", "C", True),
        ("R", "C", False),
        ("C", "C", True),
        ("C", "X", True),
        ("C", "P", False),
        ("F", "P", False),
        ("C", "F", False),
        ("P", "O", False),
        ("P", "X", True),
        ("F", "X", True),
        ("X", "C", False),
        ("X", "P", True),
        ("X", "F", True),
        ("X", "X", False),
    ],
)
def test_a_status_never_moves_backwards(oru, tmp_path, first, then, allowed) -> None:
    inbox = Inbox(tmp_path)
    store(inbox, correction(oru, first, "A"))
    found = inbox.contradictions(parse(correction(oru, then, "B")))
    assert (found == ()) is allowed  # see may_follow
    assert all((each.code, each.field) == ("207", 25) for each in found)


def test_a_final_result_may_be_corrected_though_it_was_withdrawn_and_a_preliminary_one_never(oru, tmp_path) -> None:
    inbox = Inbox(tmp_path)
    store(inbox, correction(oru, "P", "A"))
    store(inbox, correction(oru, "X", "B"))
    assert [each.code for each in inbox.contradictions(parse(correction(oru, "C", "C1")))] == ["207"]
    store(inbox, correction(oru, "F", "D"))
    store(inbox, correction(oru, "X", "E"))
    assert inbox.contradictions(parse(correction(oru, "C", "G"))) == ()


@pytest.mark.parametrize(("change", "field"), [(("1.2.840.1.2", "1.2.840.1.3"), 3), (("|ACC1|", "|ACC2|"), 18)])
def test_a_filler_number_cannot_move_to_another_study(oru, tmp_path, change, field) -> None:
    inbox = Inbox(tmp_path)
    store(inbox, oru())
    found = inbox.contradictions(parse(correction(oru, "P", "B", change)))
    assert [(each.code, each.field) for each in found] == [("204", field)]


def test_a_result_that_never_came_cannot_be_withdrawn(oru, tmp_path) -> None:
    inbox = Inbox(tmp_path)
    assert [(each.code, each.field) for each in inbox.contradictions(parse(correction(oru, "X")))] == [("204", 3)]
    store(inbox, oru())
    assert inbox.contradictions(parse(correction(oru, "X"))) == ()


def test_a_withdrawn_result_keeps_its_history_and_its_messages(oru, tmp_path) -> None:
    inbox = Inbox(tmp_path)
    store(inbox, oru(), 1000.0)
    store(inbox, correction(oru, "X"), 1001.0)
    store(inbox, correction(oru, "P", "CTRL3"), 1002.0)
    (result,) = Inbox(tmp_path).results
    assert [step.status for step in result.history] == ["P", "X", "P"]
    assert inbox.raw(result.history[0].message_id) == oru()


def test_a_filler_number_twice_in_one_message_is_refused(oru, tmp_path) -> None:
    text = oru().decode()
    doubled = text + text[text.index("ORC|") :]
    assert [each.code for each in Inbox(tmp_path).contradictions(parse(doubled.encode()))] == ["205"]


def test_a_disk_that_refuses_changes_nothing(oru, tmp_path, monkeypatch) -> None:
    inbox = Inbox(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medai.hl7_mock.inbox.write_atomic", full)
    with pytest.raises(OSError, match="No space"):
        store(inbox, oru())
    assert not inbox.writable
    assert inbox.results == ()
    monkeypatch.undo()
    store(inbox, oru())
    assert inbox.writable
    assert len(inbox.results) == 1
