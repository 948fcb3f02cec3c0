"""Send a kept ORU to the RIS and read what it answers. Next: courier.py (when), hl7/mllp.py (the frame)."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from medai.router import tls
from medai.router.errors import RisBusy, RisRefused, RisUnreachable, SettingsError, TemporaryError
from medai.router.hl7 import mllp
from medai.router.settings.tables import RisSettings

UNSUPPORTED = frozenset({"200", "201", "202", "203"})
"""ERR-3 of HL7 table 0357: message type, event, processing id or version not supported; no retry helps."""
ACKNOWLEDGEMENTS = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})


@dataclass(frozen=True, kw_only=True)
class Ack:
    """What the RIS answered: MSA-1, its text (may quote the message: do not log) and ERR-3's or ERR-1's code."""

    code: str
    text: str = ""
    error_code: str = ""


def send_oru(payload: bytes, control_id: str, ris: RisSettings) -> str:
    """Send an ORU as it is kept; the acknowledgement's code is the receipt.

    Raises RisUnreachable (no usable answer: the same bytes go again), RisBusy (AR) and RisRefused (AE, or AR for a kind
    of message that this RIS does not know).
    """
    if not ris.host:
        raise TemporaryError("no RIS is configured any more ([ris] host): the result waits")
    answer = mllp.send(payload, host=ris.host, port=ris.port, timeout_s=ris.timeout_s, tls=tls_context(ris))
    ack = parse_ack(answer, control_id)
    if ack.code in ("AA", "CA"):
        return ack.code
    text = f"the RIS answered {ack.code}" + (f" (error {ack.error_code})" if ack.error_code else "")
    if ack.code in ("AR", "CR") and ack.error_code not in UNSUPPORTED:
        raise RisBusy(text)
    raise RisRefused(f"{text}: the result is in the archive, but a person must deal with the RIS")


def tls_context(ris: RisSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, with a client certificate where one is configured; None when TLS is off."""
    if not ris.tls:
        return None
    try:
        return tls.client_context(ris, where="ris")
    except SettingsError as error:  # a person puts it right, and the result waits
        raise RisUnreachable(str(error)) from error


def parse_ack(data: bytes, expected_control_id: str) -> Ack:
    """Read an acknowledgement; raises RisUnreachable (send again) when it is none, or one of another message."""
    text = data.decode("utf-8", errors="replace").strip("\x0b\x1c\r\n ")
    rows = [row for row in text.replace("\n", "\r").split("\r") if row]
    if not rows or not rows[0].startswith("MSH") or len(rows[0]) < len("MSH|^"):
        raise RisUnreachable("the RIS answered with something that is not HL7")
    separator, component = rows[0][3], rows[0][4]
    segments = {row[:3]: row.split(separator) for row in reversed(rows)}
    code, echoed, words = (segments.get("MSA", []) + [""] * 4)[1:4]
    if code not in ACKNOWLEDGEMENTS:
        raise RisUnreachable("the RIS answered without a usable acknowledgement code (MSA-1)")
    if echoed != expected_control_id:
        raise RisUnreachable("the RIS acknowledged another message (MSA-2 is not the MSH-10 that was sent)")
    return Ack(code=code, text=words, error_code=_error_code(segments.get("ERR", []), component))


def _error_code(err: Sequence[str], component: str) -> str:
    """ERR-3.1; in older versions ERR-1.4."""
    fields = [*err, "", "", "", ""]
    if fields[3]:
        return fields[3].split(component)[0]
    parts = fields[1].split(component)
    return parts[3].split("&")[0] if len(parts) > 3 else ""
