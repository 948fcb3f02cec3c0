"""The text of HL7 v2: character sets, escape sequences and times. Pure. Next: messages.py (what it says)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

CHARSETS = {
    "": "utf-8", "ASCII": "utf-8", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8", "ISO IR192": "utf-8",
    **{f"8859/{n}": f"iso8859-{n}" for n in (*range(1, 12), 13, 14, 15, 16)},
    "ISO IR6": "utf-8", "ISO IR100": "iso8859-1", "ISO IR101": "iso8859-2", "ISO IR144": "iso8859-5",
    "ISO IR127": "iso8859-6", "ISO IR126": "iso8859-7", "ISO IR138": "iso8859-8", "ISO IR148": "iso8859-9",
    "ISO IR14": "iso2022_jp", "ISO IR87": "iso2022_jp", "ISO IR159": "iso2022_jp_1", "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr", "CNS 11643-1992": "big5", "BIG-5": "big5", "WINDOWS-1252": "cp1252",
}  # fmt: skip
"""MSH-18 (HL7 table 0211, and names seen in the field) -> Python's codec. Empty means ASCII; UTF-8 contains it."""


def decode(data: bytes) -> str:
    """The text of a message by its MSH-18, else as UTF-8, else as ISO 8859-1: a wrong name must not stop an order."""
    fields = data[:1000].split(b"\r")[0].split(b"\n")[0].split(data[3:4] or b"|")
    declared = re.split(rb"[~^]", fields[17])[0].decode("ascii", "replace").strip().upper() if len(fields) > 17 else ""
    for codec in (CHARSETS.get(declared, "utf-8"), "utf-8"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return data.decode("iso8859-1")


def unescape(text: str, marks: str = "|^~\\&") -> str:
    """HL7 escape sequences to characters (2.7): delimiters, hexadecimal, line breaks; highlighting is dropped."""
    field, component, repetition, escape_mark, sub = tuple(marks[:5])
    if escape_mark not in text:
        return text
    letters = {"F": field, "S": component, "R": repetition, "E": escape_mark, "T": sub, ".br": "\n"}

    def one(found: re.Match[str]) -> str:
        code = found.group(1)
        if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            return bytes.fromhex(code[1:]).decode("utf-8", "replace")
        return letters.get(code, "")

    return re.sub(f"{re.escape(escape_mark)}([^{re.escape(escape_mark)}]*){re.escape(escape_mark)}", one, text)


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
