"""Whatever bytes a RIS sends, an order is taken or refused in words, and every message gets an answer."""

from __future__ import annotations

import contextlib
import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medai.hl7_mock import message as mock
from medai.hl7_mock import mllp as mock_mllp
from medai.hl7_mock.checks import check_header, check_result
from medai.router.delivery.ris import parse_ack
from medai.router.errors import RisUnreachable
from medai.router.hl7 import messages as hl7
from medai.router.hl7 import mllp
from medai.router.hl7.acknowledge import acknowledge
from medai.router.hl7.segments import BadMessage, header
from medai.router.hl7.text import decode, escape, unescape

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
ORDER = (
    "MSH|^~\\&|RIS|HOSPITAL|MEDAI|AI|20260102030405+0100||ORM^O01^ORM_O01|ID1|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||MRN1^^^HOSPITAL^MR~X2^^^Y^PI||Muster^\u00c4nne||19700101|F\r"
    "PV1|1|O|||||||||||||||||V1\r"
    "ORC|NW|P1|F1|||||||20260102\r"
    "OBR|1|P1|F1|CODE^Text^L||||||||||||||ACC1|RP1|SPS1||||CT|||^^^^^S\r"
    "ZDS|1.2.3^MEDAI^Application^DICOM\r"
).encode()
RESULT = (
    b"MSH|^~\\&|MEDAI|AI|RIS|HOSPITAL|20260102030405+0000||ORU^R01^ORU_R01|R1|P|2.5.1||||||UNICODE UTF-8\r"
    b"PID|1||MRN1^^^HOSPITAL^MR||A^B\rOBR|1||F1|C^T^L|||20260102|||||||||||ACC1||||20260102||CT|P\r"
    b"OBX|1|HD|113014^DICOM Study^DCM||1.2.3||||||P\r"
)
ACK = b"MSH|^~\\&|RIS|H|MEDAI|AI|20260102||ACK^R01^ACK|A1|P|2.5.1\rMSA|AE|R1|text\rERR||PID^1^3|101^Missing^HL70357|E\r"
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A sound message with parts cut, doubled, exchanged for other bytes."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 30)))
        new = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([b"|", b"^", b"~", b"\\", b"&", b"\r", b"\n", b'""', b"\\X", b"MSH|"]),
            )
        )
        data[at:end] = new * draw(st.integers(1, 3))
    return bytes(data)


def answered(data: bytes) -> None:
    """It is taken or refused, and acknowledged either way."""
    try:
        head, _ = hl7.parse(data)
        ack = acknowledge(head, "AA", now=1.7e9)
    except BadMessage as error:
        ack = acknowledge(header(data), error.ack, now=1.7e9, error=error)
    answer = mock.parse(ack)
    assert answer.segments[1].raw(1)[1] in "AER"


@EXAMPLES
@given(
    st.one_of(st.binary(max_size=500), st.binary(max_size=300).map(lambda rest: b"MSH|^~\\&|" + rest), mutated(ORDER))
)
def test_any_message_is_taken_or_refused_and_always_acknowledged(data: bytes) -> None:
    answered(data)


@settings(EXAMPLES, max_examples=25)
@given(st.sampled_from(["bars", "repeats", "parts", "segments", "escapes"]), st.integers(1, 60))
def test_a_message_of_nothing_but_marks_is_answered_soon(kind: str, thousands: int) -> None:
    mark = {"bars": b"|", "repeats": b"~", "parts": b"^", "segments": b"\rOBX", "escapes": b"\\"}[kind]
    began = time.monotonic()
    answered(ORDER + b"NTE|1||" + mark * (1000 * thousands))
    assert time.monotonic() - began < 20


def test_eight_megabytes_of_marks_are_refused_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(BadMessage, match="more than 20000 fields"):
        hl7.parse(ORDER + b"|" * (8 * 1024 * 1024 - 1000))
    assert header(ORDER + b"|" * (8 * 1024 * 1024 - 1000)) is not None
    assert time.monotonic() - began < 5


@EXAMPLES
@given(TEXT)
def test_what_is_escaped_is_unescaped_to_the_same(text: str) -> None:
    shown = "".join(c for c in text.replace("\r", "\n") if c == "\n" or c.isspace() or unicodedata.category(c) != "Cc")
    assert unescape(escape(text)) == re.sub("[\t\x0b\x0c\x1c-\x1f\x85]", " ", shown)
    assert mock.unescape(mock.escape(text)) == text.replace("\r\n", "\n").replace("\r", "\n")


@EXAMPLES
@given(st.text(max_size=60), st.sampled_from(["|^~\\&", "!@#$%", "*+?.(", "|^~[]"]))
def test_unescaping_never_fails_whatever_the_marks(text: str, marks: str) -> None:
    assert clean(unescape(text, marks))


def clean(text: str) -> bool:
    """Without control characters but for line breaks."""
    return all(c == "\n" or unicodedata.category(c) != "Cc" for c in text)


CODECS = ["utf-8", "iso8859-1", "iso8859-11", "shift_jis", "cp949", "gb18030", "utf-16-be", "utf-32-be"]


@EXAMPLES
@given(
    st.lists(st.one_of(TEXT, st.binary(max_size=12).map(lambda raw: f"\\X{raw.hex()}\\")), max_size=6),
    st.sampled_from(CODECS),
)
def test_whatever_stands_in_hexadecimal_no_control_character_comes_out(parts: list[str], codec: str) -> None:
    assert clean(unescape("".join(parts), "|^~\\&", codec))


@EXAMPLES
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20), st.sampled_from(CODECS)
)
def test_text_in_hexadecimal_of_the_messages_character_set_is_the_text(text: str, codec: str) -> None:
    try:
        written = text.encode(codec)
    except UnicodeEncodeError:
        return
    whole = unescape(f"a\\X{written.hex()}\\z", codec=codec)
    bytewise = unescape("a" + "".join(f"\\X{byte:02X}\\" for byte in written) + "z", codec=codec)
    assert whole == bytewise == f"a{written.decode(codec)}z"


@EXAMPLES
@given(
    st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"]), min_size=1, max_size=20),
    st.sampled_from(CODECS),
)
def test_letters_of_latin_scripts_in_two_bytes_are_the_letters(text: str, codec: str) -> None:
    if codec != "utf-32-be":
        assert unescape(f"\\X{text.encode('utf-16-be').hex()}\\", codec=codec) == text


@EXAMPLES
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters="|^~\\&\ufeff"), min_size=1),
    st.sampled_from([("UNICODE UTF-8", "utf-8"), ("UNICODE UTF-16", "utf-16"), ("UNICODE UTF-16", "utf-16-le"),
                     ("UNICODE", "utf-16-be"), ("UNICODE UTF-32", "utf-32-le"), ("8859/1", "iso8859-1"), ("8859/8", "iso8859-8"),
                     ("ISO IR166", "iso8859-11"), ("ISO IR14~ISO IR87~ISO IR159", "iso2022_jp_1"), ("~ISO IR87", "iso2022_jp"),
                     ("KS X 1001", "euc_kr"), ("GB 18030-2000", "gb18030"), ("BIG-5", "big5"), ("8859/15", "iso8859-15")]),
)  # fmt: skip
def test_a_name_is_read_in_every_character_set_that_can_hold_it(name: str, written: tuple[str, str]) -> None:
    declared, codec = written
    text = f"MSH|^~\\&|R|H|M|A|20260102||ADT^A08^ADT_A01|I|P|2.5.1||||||{declared}\rPID|1||1^^^H^MR||Q{name}Q\r"
    try:
        data = text.encode(codec)
    except UnicodeEncodeError:
        return
    assert f"||Q{name}Q" in decode(data)


@EXAMPLES
@given(st.lists(st.binary(max_size=50).map(lambda b: b.translate(None, b"\x0b\x1c")), max_size=5), st.data())
def test_messages_come_whole_however_the_stream_is_cut(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(data.draw(st.sampled_from([b"", b"\r\n", b"noise"])) + mllp.frame(m) for m in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    ours, theirs = mllp.Frames(), mock_mllp.Framer()
    assert [m for piece in pieces for m in ours.feed(piece)] == messages
    assert [m for piece in pieces for m in theirs.feed(piece)] == messages


@EXAMPLES
@given(st.lists(st.binary(max_size=80), max_size=6))
def test_any_stream_gives_messages_or_too_long(pieces: list[bytes]) -> None:
    for frames, too_long in (
        (mllp.Frames(100), mllp.FrameTooLong),
        (mock_mllp.Framer(100), mock_mllp.FrameTooLongError),
    ):
        try:
            for piece in pieces:
                assert all(len(message) <= 100 for message in frames.feed(b"\x0b" + piece))
        except too_long:
            pass


@EXAMPLES
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda rest: b"MSH|^~\\&|" + rest), mutated(ACK)))
def test_any_acknowledgement_is_read_or_asks_for_another_try(data: bytes) -> None:
    with contextlib.suppress(RisUnreachable):
        assert parse_ack(data, "R1").code in {"AA", "AE", "AR", "CA", "CE", "CR"}


@pytest.mark.filterwarnings("ignore::UserWarning")  # hl7types tells of segments that it does not know
@EXAMPLES
@given(
    st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda rest: b"MSH|^~\\&|" + rest), mutated(RESULT))
)
def test_the_mock_ris_reads_any_message_or_says_that_it_cannot(data: bytes) -> None:
    try:
        message = mock.parse(data)
    except mock.UnreadableMessageError:
        return
    check_header(message)
    check_result(message)
