"""The text of HL7 v2: character sets, escape sequences and times. Pure. Next: messages.py (what it says)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_SEVEN_BITS = frozenset({"", "ASCII", "USASCII", "ANSIX34", "IR6", "IR14", "IR87", "IR159"})
"""Character sets without a letter above 7F. What stands there is of the next one that MSH-18 lists, else UTF-8."""
_ISO_IR = {
    13: "shift_jis", 58: "gb2312", 100: "iso8859-1", 101: "iso8859-2", 109: "iso8859-3", 110: "iso8859-4",
    126: "iso8859-7", 127: "iso8859-6", 138: "iso8859-8", 144: "iso8859-5", 148: "iso8859-9", 149: "cp949",
    157: "iso8859-10", 166: "iso8859-11", 179: "iso8859-13", 192: "utf-8", 199: "iso8859-14", 203: "iso8859-15",
    226: "iso8859-16",
}  # fmt: skip
"""Numbers of ISO's register of character sets -> Python's codec."""
_NAMES = {
    "GB180302000": "gb18030", "GB18030": "gb18030", "GBK": "gb18030", "GB2312": "gb18030", "KSX1001": "cp949",
    "KSC5601": "cp949", "EUCKR": "cp949", "CNS116431992": "cp950", "BIG5": "cp950", "SHIFTJIS": "cp932",
    "SJIS": "cp932", "EUCJP": "euc_jp", "JISX0201": "shift_jis", "TIS620": "iso8859-11", "KOI8R": "koi8-r",
    "UNICODE": "utf-16-be", "UNICODEUTF16": "utf-16-be", "UTF16": "utf-16-be", "UNICODEUTF32": "utf-32-be",
    "UTF32": "utf-32-be", "UNICODEUTF8": "utf-8", "UTF8": "utf-8", "ANSI": "cp1252",
    **{f"LATIN{n}": f"latin{n}" for n in range(1, 11)},
}  # fmt: skip
"""Other names of HL7 table 0211, and names seen in the field, as ``_key`` makes them."""
_WIDE = (
    (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
    (b"\0\0\0", "utf-32-be"), (b"\0", "utf-16-be"),
)  # fmt: skip
"""How a message of two or four bytes a character begins: with a byte order mark, or with zeros before its M."""
BOM = b"\xef\xbb\xbf"
"""Before text that is UTF-8, whatever else is said of it."""
_SWITCH = re.compile(rb"(\x1b[\x20-\x2f]+[\x30-\x7e])")
_HIGH_HALVES = {
    b")I": "shift_jis", b"$)C": "cp949", b"$)A": "gb2312", b"-A": "iso8859-1", b"-B": "iso8859-2", b"-C": "iso8859-3",
    b"-D": "iso8859-4", b"-L": "iso8859-5", b"-G": "iso8859-6", b"-F": "iso8859-7", b"-H": "iso8859-8",
    b"-M": "iso8859-9", b"-T": "iso8859-11", b"-b": "iso8859-15",
}  # fmt: skip
"""What an escape sequence of ISO 2022 puts above 7F (G1)."""
_LOW_HALVES = frozenset({b"$@", b"$B", b"$(D", b"(I"})
"""What it puts below 80 (G0), where that is not ASCII or nearly: Kanji, their supplement, Katakana."""


def _key(name: str) -> str:
    """A character set's name without what each sender writes otherwise: ``ISO_IR 100``, ``ISO-2022-IR-100``: IR100."""
    return re.sub(r"^ISO(2022)?(?=IR\d)", "", re.sub(r"[^A-Z0-9]", "", name.upper()))


def _codec(key: str) -> str:
    """Python's codec for one character set; UTF-8, which contains ASCII, where none is known."""
    if found := re.fullmatch(r"IR(\d+)", key):
        return _ISO_IR.get(int(found[1]), "utf-8")
    if found := re.fullmatch(r"(?:ISO)?8859P?(\d{1,2})", key):
        return f"iso8859-{int(found[1])}" if int(found[1]) in {*range(1, 12), *range(13, 17)} else "utf-8"
    if found := re.fullmatch(r"(?:WINDOWS|WIN|CP)(874|932|936|949|950|125[0-8])", key):
        return f"cp{found[1]}"
    return _NAMES.get(key, "utf-8")


def codec_of(declared: str, repetition: str = "~") -> str:
    """Python's codec for the bytes above 7F, by MSH-18 as it stands there, with all its repetitions."""
    names = [_key(name.split("^")[0]) for name in declared.split(repetition)]
    return _codec(next((name for name in names if name not in _SEVEN_BITS), ""))


def narrow(data: bytes) -> bytes:
    """A message without what stands around it, in an encoding whose bytes below 80 are ASCII.

    One of two or four bytes a character comes back as UTF-8 with its mark, which says so to ``decode``.
    """
    wide = next((codec for start, codec in _WIDE if data.startswith(start)), "")
    if not wide and data[1:4:2] == b"\0\0":
        wide = "utf-32-le" if data[1:4] == b"\0\0\0" else "utf-16-le"
    if wide:
        text = data.decode(wide, "replace")
        if re.match("[\\s\ufeff\0]*(MSH|FHS|BHS)", text):
            return BOM + text.strip("\r\n\t \0\ufeff").encode("utf-8", "replace")
    return data.strip(b"\r\n\t \0")


def decode(data: bytes) -> str:
    """The text of a message by its MSH-18, else as UTF-8, else as ISO 8859-1: a wrong name must not stop an order."""
    data = narrow(data)
    if data.startswith(BOM):
        return data.removeprefix(BOM).decode("utf-8", "replace")
    declared = _declared(data)
    if data[6:7] not in data[3:4] + b"\r\n":
        data = _switches(data, data[6:7])
    keys = {_key(name) for name in re.split(r"[~^]", declared)}
    japanese = ["cp932"] if keys & {"IR13", "IR14", "IR87", "IR159"} else []
    codec = codec_of(declared)
    for each in ("utf-8" if codec.startswith(("utf-16", "utf-32")) else codec, "utf-8", *japanese):
        try:
            return _decoded(data, each)
        except UnicodeDecodeError:
            continue
    return _decoded(data, "iso8859-1", "replace")


def _declared(data: bytes) -> str:
    """MSH-18 before anything is known of the bytes: Kanji of ISO 2022 may hold the byte of any delimiter."""
    head = re.split(rb"[\r\n]", data[:4000], maxsplit=1)[0]
    plain = re.sub(rb"\x1b\$.*?(\x1b\(|$)", b"", head)
    fields = plain.split(data[3:4] or b"|")
    return fields[17].decode("ascii", "replace").replace(chr(plain[5]), "~") if len(fields) > 17 else ""


def _switches(data: bytes, mark: bytes) -> bytes:
    r"""Escape sequences of ISO 2022 in the place of HL7's way to write them: ``\C2842\``, ``\M2442\``."""
    if mark + b"C" not in data and mark + b"M" not in data:
        return data
    one = re.escape(mark)
    written = re.compile(one + rb"(?:C([0-9A-Fa-f]{4})|M([0-9A-Fa-f]{4}(?:[0-9A-Fa-f]{2})?))" + one)
    return written.sub(lambda found: b"\x1b" + bytes.fromhex((found[1] or found[2]).decode()), data)


def _decoded(data: bytes, codec: str, errors: str = "strict") -> str:
    """Text that may switch its character set (ISO 2022); at a line's end it is back at its own."""
    if b"\x1b" not in data:
        return _plain(data, codec, errors)
    found = []
    for line in re.split(rb"([\r\n]+)", data):
        low, high = b"", codec
        for part in _SWITCH.split(line):
            to = part[1:]
            if not _SWITCH.fullmatch(part):
                kanji = low + part + b"\x1b(B" if low and part else b""
                found.append(kanji.decode("iso2022_jp_ext", errors) if kanji else _plain(part, high, errors))
            elif to in _HIGH_HALVES:
                high = _HIGH_HALVES[to]
            elif to.startswith((b"(", b"$")) and not to.startswith(b"$)"):
                low = part if to in _LOW_HALVES else b""
    return "".join(found)


def _plain(data: bytes, codec: str, errors: str) -> str:
    """Text of one codec. Control characters of ISO 8859-1 are Windows' letters in the field, as in every browser."""
    text = data.decode(codec, errors)
    if codec == "iso8859-1" and re.search("[\x80-\x9f]", text):
        return data.decode("cp1252", "ignore")
    return text


def unescape(text: str, marks: str = "|^~\\&", codec: str = "utf-8") -> str:
    r"""HL7 escape sequences to characters (2.7): delimiters, hexadecimal, line breaks; highlighting is dropped.

    ``marks``: MSH-1 and MSH-2, which may be short or end with the truncation character. ``codec``: of ``\X..\``
    (``codec_of``). What is no escape sequence stays as it is; no control character does, but for line breaks.
    """
    field, component, repetition, escape_mark, sub = tuple(marks[:5] + "|^~\\&"[len(marks[:5]) :])
    if escape_mark not in text:
        return _printable(text)
    letters = {"F": field, "S": component, "R": repetition, "E": escape_mark, "T": sub, "P": marks[5:6]}

    def one(found: re.Match[str]) -> str:
        code = found[1] or ""
        if not code:
            return _hexadecimal(re.sub(r"[^0-9A-Fa-f]", "", found[0]), codec)
        if code[0] == ".":
            return " " if code[1:3].lower() == "sk" else "\n" if code[1:3].lower() in ("br", "sp", "ce") else ""
        return letters.get(code, "")

    mark = re.escape(escape_mark)
    known = r"[HNFSTREP]|\.[A-Za-z]{2}[+-]?\d*|[CM](?:[0-9A-Fa-f]{2}){2,3}|Z\w*"
    return _printable(re.sub(f"(?:{mark}[Xx](?:[0-9A-Fa-f]{{2}})*{mark})+|{mark}({known}){mark}", one, text))


def _hexadecimal(digits: str, codec: str) -> str:
    r"""The characters of ``\X..\``: as the message's own; with zeros between them, which no text has, as UTF-16."""
    raw = bytes.fromhex(digits)
    if not raw:
        return ""
    two_bytes = ["utf-16-be" if raw[0] == 0 else "utf-16-le"] if len(raw) % 2 == 0 and 0 in (raw[0], *raw[1:2]) else []
    first = [codec, *two_bytes] if codec.startswith(("utf-16", "utf-32")) else [*two_bytes, codec]
    for each in (*first, "utf-8", "iso8859-1"):
        try:
            return _decoded(raw, each)
        except UnicodeDecodeError:
            continue
    return ""


def _printable(text: str) -> str:
    """Without control characters: ends of lines are line breaks, other white space is a space, the rest is nothing."""
    if text.isprintable():
        return text
    text = re.sub("\r\n?", "\n", text)
    return re.sub("[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: " " if found[0].isspace() else "", text)


def escape(text: str) -> str:
    r"""Text as it may stand in a field with the usual delimiters ``|^~\&``."""
    codes = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\", "\r": "\\.br\\", "\n": "\\.br\\"}
    return "".join(codes.get(letter, letter) for letter in text)


def moment(text: str) -> float | None:
    """An HL7 time (YYYYMMDD[HH[MM[SS[.S]]]][+ZZZZ]) in seconds since the epoch; local time where it names no zone."""
    found = re.fullmatch(r"(\d{8})(\d{2})?(\d{2})?(\d{2})?(\.\d+)?([+-]\d{4})?", text)
    if not found:
        return None
    date, hour, minute, second, fraction, zone = found.groups()
    try:
        at = datetime.strptime(f"{date}{hour or '00'}{minute or '00'}{second or '00'}", "%Y%m%d%H%M%S")  # noqa: DTZ007 - the zone follows
        if zone:
            shift = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
            at = at.replace(tzinfo=timezone(-shift if zone[0] == "-" else shift))
        return at.timestamp() + float(fraction or 0)
    except (ValueError, OverflowError, OSError):
        return None
