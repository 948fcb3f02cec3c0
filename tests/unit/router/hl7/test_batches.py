"""Several messages in one frame: what is taken as a batch, what is refused as a whole, and the batch that answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medai.router.hl7.batches import MESSAGE_LIMIT, answer, head_of, split
from medai.router.hl7.messages import parse
from medai.router.hl7.segments import BadMessage

FHS, FTS = "FHS|^~\\&|RIS|H|MEDAI|AI|20260102030405||file||F1", "FTS|1"
BHS = "BHS|^~\\&|RIS|H|MEDAI|AI|20260102030405||ADT^A31||B1"


def adt(number: str) -> list[str]:
    return [f"MSH|^~\\&|RIS|H|MEDAI|AI|20260102||ADT^A31|{number}|P|2.5.1", "EVN|A31", "PID|1||A^^^H^MR||Doe^Jane"]


def lines(*parts: str | list[str], end: str = "\r") -> bytes:
    rows = [row for part in parts for row in ([part] if isinstance(part, str) else part)]
    return (end.join(rows) + end).encode()


def numbers(data: bytes) -> list[list[str]]:
    whole = split(data)
    assert whole is not None
    return [[parse(message)[0].control_id for message in batch.messages] for batch in whole.batches]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((BHS, adt("1"), adt("2"), "BTS|2"), [["1", "2"]]),
        ((BHS, adt("1"), "BTS"), [["1"]]),
        ((BHS, adt("1"), "BTS|"), [["1"]]),
        ((BHS, "BTS|0"), [[]]),
        ((FHS, BHS, adt("1"), "BTS|1", BHS, adt("2"), adt("3"), "BTS|2|words", "FTS|2"), [["1"], ["2", "3"]]),
        ((FHS, BHS, adt("1"), "BTS|1", "FTS"), [["1"]]),
        ((FHS, adt("1"), adt("2"), "FTS|1"), [["1", "2"]]),
        ((FHS, adt("1"), adt("2"), "FTS|2"), [["1", "2"]]),
        ((FHS, "FTS|0"), []),
        (("ZB1|x", FHS, "ZB2|x", BHS, "ZB3|x", adt("1"), "ZPD|x", "PID|2", "BTS|1", "ZB4|x", FTS, "ZB5|x"), [["1"]]),
        (("BHS$%~\\&$RIS$H$MEDAI$AI$20260102", adt("1"), "BTS$1%x"), [["1"]]),
    ],
)
def test_the_messages_of_a_batch_are_found_in_their_order(
    parts: tuple[str | list[str], ...], expected: list[list[str]], end: str
) -> None:
    assert numbers(lines(*parts, end=end)) == expected


@pytest.mark.parametrize(
    ("parts", "code", "location"),
    [
        ((BHS, adt("1"), adt("2"), "BTS|3"), "100", "BTS^1^1"),
        ((BHS, adt("1"), "BTS|one"), "102", "BTS^1^1"),
        ((BHS, adt("1")), "100", "BTS^1"),
        ((BHS,), "100", "BTS^1"),
        ((adt("1"), "BTS|1"), "100", "BHS^1"),
        (("BTS|1",), "100", "BTS^1"),
        ((BHS, adt("1"), BHS, adt("2"), "BTS|1", "BTS|1"), "100", "BHS^1"),
        ((BHS, FHS, adt("1"), "BTS|1"), "100", "FHS^1"),
        ((FHS, FHS, adt("1"), "FTS|1"), "100", "FHS^1"),
        ((FHS, BHS, adt("1"), "BTS|1"), "100", "FTS^1"),
        ((FHS, BHS, adt("1"), "FTS|1"), "100", "BTS^1"),
        ((FHS, BHS, adt("1"), "BTS|1", "FTS|2"), "100", "FTS^1^1"),
        ((FHS, BHS, adt("1"), "BTS|1", FTS, adt("2")), "100", "FTS^1"),
        ((BHS, adt("1"), "BTS|1", FTS), "100", "FTS^1"),
        ((BHS, "PID|1", adt("1"), "BTS|1"), "100", "MSH^1"),
        (("BHS|", adt("1"), "BTS|1"), "100", "BHS^1^1"),
        ((adt("1"), adt("2")), "100", "BHS^1"),
        ((BHS, *[adt(str(n)) for n in range(MESSAGE_LIMIT + 1)], "BTS"), "207", ""),
    ],
)
def test_a_batch_that_came_wrong_or_in_part_is_refused_as_a_whole(
    parts: tuple[str | list[str], ...], code: str, location: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        split(lines(*parts))
    assert (caught.value.ack, caught.value.code, caught.value.location) == ("AE", code, location)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [lines(adt("1")), b"", b"hello", b"MSH", lines(adt("1"), "OBX|1|TX|||BHS|x", "NTE|BTS")]
)
def test_what_is_one_message_or_none_is_no_batch(data: bytes) -> None:
    assert split(data) is None


def test_a_refusal_goes_to_the_sender_of_the_outermost_envelope() -> None:
    for parts, number in [((FHS, BHS), "F1"), ((BHS, adt("1")), "B1"), ((adt("1"), adt("2")), "1")]:
        head = head_of(lines(*parts))
        assert head is not None
        assert (head.control_id, head.sender, head.receiver) == (number, ("RIS", "H"), ("MEDAI", "AI"))
    assert head_of(b"BTS|1\r") is None
    assert head_of(b"BHS|\r") is None


def test_the_answer_mirrors_the_envelopes() -> None:
    whole = split(lines(FHS, BHS, adt("1"), adt("2"), "BTS|2", BHS.replace("B1", "B\\T\\2"), "BTS|0", "FTS|2"))
    assert whole is not None
    rows = answer(whole, [[b"MSH|1\rMSA|AA|1\r", b"MSH|2\rMSA|AA|2\r"], []], now=1.7e9).decode().split("\r")
    assert [row[:5] for row in rows] == [
        "FHS|^", "BHS|^", "MSH|1", "MSA|A", "MSH|2", "MSA|A", "BTS|2", "BHS|^", "BTS|0", "FTS|2", "",
    ]  # fmt: skip
    assert rows[0].startswith("FHS|^~\\&|MEDAI|AI|RIS|H|20231114221320+0000||||")
    assert [row.split("|")[11] for row in rows if row[1:3] == "HS"] == ["F1", "B1", "B\\T\\2"]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-32"])
def test_a_batch_of_wide_characters_is_read(codec: str) -> None:
    rows = [*adt("1")[:2], "PID|1||A^^^H^MR||\u5c71^\u592a\u90ce"]
    rows[0] += "||||||8859/1"
    whole = split(lines(BHS, rows, rows, "BTS|2").decode().encode(codec))
    assert whole is not None
    for message in whole.batches[0].messages:
        (found,) = parse(message)[1]
        assert found.patient_name == "\u5c71^\u592a\u90ce"  # type: ignore[union-attr]  # an ADT gives patients


def test_each_message_of_a_batch_has_its_own_character_set() -> None:
    both = [f"{adt('1')[0]}||||||{charset}\rPID|1||A||\u00c4nne".encode(codec) for charset, codec in
            (("8859/1", "iso8859-1"), ("UNICODE UTF-8", "utf-8"))]  # fmt: skip
    whole = split(b"\r".join([BHS.encode(), *both, b"BTS|2"]))
    assert whole is not None
    assert ["\u00c4nne" in str(parse(message)[1]) for message in whole.batches[0].messages] == [True, True]


SEGMENTS = st.sampled_from(
    [FHS, BHS, "BTS|1", "BTS", "FTS|1", "FTS", "MSH|^~\\&|R", "PID|1", "ZZZ|1", "BHS|", "FHS", ""]
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(SEGMENTS, max_size=12))
def test_no_message_of_a_frame_is_left_out(rows: list[str]) -> None:
    try:
        whole = split(lines(rows))
    except BadMessage:
        return
    if whole is not None:
        assert sum(len(batch.messages) for batch in whole.batches) == rows.count("MSH|^~\\&|R")
        kept = b"".join(message for batch in whole.batches for message in batch.messages)
        assert kept.count(b"PID|1") == rows.count("PID|1")
