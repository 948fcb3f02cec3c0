"""Read and write HL7 v2 in its pipe form: delimiters, segments, escapes, character set.

Small on purpose: the checks must see exactly what was sent, before any library has repaired it.
Sources: HL7 v2.5.1 chapter 2 (2.5 message construction, 2.7 escape sequences, 2.15.9.18 character set).
Next: checks.py (is it a good result), results.py (what it says).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

CHARSETS = {
    "": "ascii",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "8859/1": "iso-8859-1",
    "8859/2": "iso-8859-2",
    "8859/5": "iso-8859-5",
    "8859/7": "iso-8859-7",
    "8859/9": "iso-8859-9",
    "8859/15": "iso-8859-15",
}
"""HL7 table 0211, as far as we read it -> Python codec."""

_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")


class UnreadableMessageError(ValueError):
    """The bytes are not an HL7 v2 message; ``code`` is of HL7 table 0357. The text never quotes the message."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Delimiters:
    """MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


STANDARD = Delimiters()


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment; ``fields[n]`` is field n as HL7 counts it (``fields[0]`` is the name), still escaped."""

    name: str
    fields: tuple[str, ...]
    delimiters: Delimiters = STANDARD

    def raw(self, number: int) -> str:
        """Field ``number`` as sent, empty where the segment is shorter."""
        return self.fields[number] if number < len(self.fields) else ""

    def repetitions(self, number: int) -> tuple[str, ...]:
        """The repetitions of a field as sent; none where it is empty."""
        text = self.raw(number)
        return tuple(text.split(self.delimiters.repetition)) if text else ()

    def value(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """One value of the first repetition of a field, unescaped; empty where it was not sent."""
        return value_of(next(iter(self.repetitions(number)), ""), component, subcomponent, self.delimiters)


@dataclass(frozen=True, kw_only=True)
class Message:
    """A whole message; ``raw`` are the bytes as they came."""

    raw: bytes
    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    def all(self, name: str) -> Iterator[Segment]:
        """Every segment of that name, in order."""
        return (segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment | None:
        """The first segment of that name."""
        return next(self.all(name), None)

    @property
    def key(self) -> tuple[str, str, str]:
        """What names a message: sending application, sending facility, control id (MSH-3, MSH-4, MSH-10)."""
        return (self.header.raw(3), self.header.raw(4), self.header.raw(10))


def value_of(repetition: str, component: int, subcomponent: int = 1, delimiters: Delimiters = STANDARD) -> str:
    """One component (1-based) of a repetition, unescaped."""
    parts = repetition.split(delimiters.component)
    if component > len(parts):
        return ""
    subs = parts[component - 1].split(delimiters.subcomponent)
    return unescape(subs[subcomponent - 1], delimiters) if subcomponent <= len(subs) else ""


def header_of(raw: bytes) -> Segment | None:
    """The MSH of a message that may otherwise be unreadable, so that a refusal can name its control id."""
    first = raw.split(b"\r", 1)[0].split(b"\n", 1)[0]
    try:
        line = first.decode("utf-8")
    except UnicodeDecodeError:
        line = first.decode("latin-1")
    if not line.startswith("MSH") or len(line) < 8:
        return None
    return _segment(line, _delimiters(line))


def parse(raw: bytes) -> Message:
    """Split a message; raises UnreadableMessageError for what is not HL7 at all."""
    header = header_of(raw)
    if header is None:
        raise UnreadableMessageError("100", "the message does not begin with an MSH segment")
    text = _decode(raw, next(iter(header.repetitions(18)), ""))
    lines = [line for line in text.split("\r") if line]
    if "\n" in text and len(lines) == 1:
        raise UnreadableMessageError("100", "segments must end with a carriage return (0x0D), not with a line feed")
    segments = tuple(_segment(line, header.delimiters) for line in lines)
    for number, segment in enumerate(segments, start=1):
        if not _SEGMENT_NAME.match(segment.name):
            raise UnreadableMessageError("100", f"segment {number} has no valid name")
    return Message(raw=raw, segments=segments)


def _delimiters(line: str) -> Delimiters:
    marks = line[4:8]
    return Delimiters(field=line[3], component=marks[0], repetition=marks[1], escape=marks[2], subcomponent=marks[3])


def _segment(line: str, delimiters: Delimiters) -> Segment:
    parts = line.split(delimiters.field)
    if parts[0] == "MSH":
        parts.insert(1, delimiters.field)  # MSH-1 is the separator itself
    return Segment(name=parts[0], fields=tuple(parts), delimiters=delimiters)


def _decode(raw: bytes, charset: str) -> str:
    codec = CHARSETS.get(charset)
    if codec is None:
        raise UnreadableMessageError("103", "MSH-18 names a character set unknown here: use UNICODE UTF-8")
    try:
        return raw.decode(codec)
    except UnicodeDecodeError as error:
        # The cause would carry the bytes, and with them the patient: keep the position only.
        named = charset or "ASCII (MSH-18 is empty)"
        raise UnreadableMessageError("102", f"byte {error.start} is not valid in {named}") from None


def _escape_pattern(delimiters: Delimiters) -> re.Pattern[str]:
    mark = re.escape(delimiters.escape)
    inner = r"[FSTREHN]|\.[a-z]{2}[+-]?\d*|X(?:[0-9A-Fa-f]{2})+|C[0-9A-Fa-f]{4}|M[0-9A-Fa-f]{4,6}"
    return re.compile(f"{mark}({inner}|Z[^{mark}]*){mark}")


def escapes_are_sound(text: str, delimiters: Delimiters = STANDARD) -> bool:
    """Whether every escape character belongs to a sequence that HL7 defines (2.5.1 chapter 2, 2.7)."""
    return delimiters.escape not in _escape_pattern(delimiters).sub("", text)


def unescape(text: str, delimiters: Delimiters = STANDARD) -> str:
    """Turn escape sequences into what they stand for; an unknown one is left as it is."""
    if delimiters.escape not in text:
        return text
    plain = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
        "H": "",
        "N": "",
        ".br": "\n",
    }

    def replace(found: re.Match[str]) -> str:
        code = found.group(1)
        if code.startswith("X"):
            return bytes.fromhex(code[1:]).decode("utf-8", "replace")
        return plain.get(code, found.group(0))

    return _escape_pattern(delimiters).sub(replace, text)


_ESCAPES = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\.br\\", "\n": "\\.br\\"}
)


def escape(text: str) -> str:
    """Make text safe to stand in a component (standard delimiters)."""
    return text.replace("\r\n", "\n").translate(_ESCAPES)


def build(segments: list[list[str]]) -> bytes:
    """Encode segments whose fields are already escaped; every segment ends with a carriage return."""
    return "".join("|".join(fields).rstrip("|") + "\r" for fields in segments).encode("utf-8")
