"""Send lines to a syslog receiver over TLS (RFC 5425: each with its length before it), and know that they were read.

Syslog has no acknowledgement. So lines go in a batch on a connection of their own, which is ended from our side: a
receiver that answers the end of TLS, or ends the connection in its turn, has read all that came before; one that is
gone leaves a reset or silence, and the batch goes again. One that does not let us in may end the connection before it
read anything, which looks the same until the reset comes: so what was sent must be acknowledged, too.
Next: exporter.py (when).
"""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import sys
import termios
import time
from collections.abc import Sequence

from medai.router import tls
from medai.router.errors import AuditReceiverAway, SettingsError
from medai.router.settings.audit import SyslogSettings


def send(lines: Sequence[bytes], receiver: SyslogSettings) -> None:
    """Every line, in order; raises AuditReceiverAway where it is not sure that all were read."""
    where = f"the audit repository at {receiver.host}:{receiver.port}"
    try:
        context = tls.client_context(receiver, where="audit.syslog")
        with socket.create_connection((receiver.host, receiver.port), timeout=receiver.timeout_s) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_hostname=receiver.host) as secured:
                secured.sendall(b"".join(b"%d %s" % (len(line), line) for line in lines))
                _end(secured)
                _require_arrived(secured, receiver.timeout_s)
    except SettingsError as error:  # a person puts it right, and the lines wait
        raise AuditReceiverAway(str(error)) from error
    except ssl.SSLCertVerificationError as error:
        reason = "its certificate is not for that name, or not of ca_file's authority"
        raise AuditReceiverAway(f"{where} cannot be trusted: {reason}") from error
    except ssl.SSLError as error:
        hint = "does it speak TLS 1.2 or newer, and does it want a client certificate?"
        raise AuditReceiverAway(f"{where} and we do not agree on TLS ({error.reason}): {hint}") from error
    except OSError as error:
        raise AuditReceiverAway(f"{where} does not answer ({type(error).__name__})") from error


def _end(secured: ssl.SSLSocket) -> None:
    """Say that this was all, and wait until the receiver says so too."""
    try:
        secured.unwrap()
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return  # it ended the connection without a word, as many do: what it had not read would have made a reset
    except ssl.SSLError as error:
        if "EOF" not in str(error):
            raise


def _require_arrived(secured: ssl.SSLSocket, timeout_s: float) -> None:
    """Raise OSError where the receiver's machine answered what was sent by a reset: nobody read it."""
    until = time.monotonic() + timeout_s
    while _on_the_way(secured):
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.005)
    if error := secured.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))


def _on_the_way(secured: ssl.SSLSocket) -> int:
    """Bytes that were sent and not acknowledged; other systems than Linux do not tell."""
    if sys.platform != "linux":
        return 0
    return int.from_bytes(fcntl.ioctl(secured.fileno(), termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)
