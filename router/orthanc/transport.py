"""The connections to Orthanc: kept open and used again, and what happens when Orthanc lets go of one.

Orthanc closes a connection that it has not heard on for a while, and one of many under load, whenever it likes: also
just as a request goes out on it, which then dies unread. So a connection is not used after a long pause, and a read
whose kept connection ends without an answer is sent once more, at once, on a new one. Anything that changes something
is not: it may have been done. Next: client.py.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import urllib3

KEPT_S = 0.5
"""How long an unused connection is used again: half of what Orthanc 1.10.1 keeps it for."""
ASKING = ("/tools/bulk-content", "/tools/find", "/tools/lookup")
"""POSTs that read, and change nothing."""


class _Connection(urllib3.connection.HTTPConnection):
    _answered_at: float | None = None
    """When it last brought an answer; None: it is new."""
    _once_more: Callable[[], None] | None = None
    """Sends the request that is under way again, where that may be done."""
    _connect_timeout: float | None = None

    def connect(self) -> None:
        super().connect()
        self._answered_at = None

    def request(  # type: ignore[override]
        self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        if self._answered_at is not None and time.monotonic() - self._answered_at > KEPT_S:
            self.close()
            self._answered_at = None
        send = partial(super().request, method, url, body, headers, **options)
        self._once_more = send if self._answered_at is not None and reads(method, url) else None
        self._connect_timeout = self.timeout
        send()

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        once_more, self._once_more = self._once_more, None
        try:
            answer = super().getresponse()
        except ConnectionError:
            if once_more is None:
                raise
            self._open_anew(once_more)
            answer = super().getresponse()
        self._answered_at = time.monotonic()
        return answer

    def _open_anew(self, send: Callable[[], None]) -> None:
        """Send on a new connection; by now ``timeout`` is that of the answer, and it is for connecting alone."""
        answer_timeout, self.timeout = self.timeout, self._connect_timeout
        self.close()
        try:
            send()
        finally:
            self.timeout = answer_timeout


class _SecureConnection(_Connection, urllib3.connection.HTTPSConnection):
    """The same over TLS, verified by the pool's context."""

    def connect(self) -> None:
        """Whoever ends a connection before TLS stands took no request: it is as if nobody had been there."""
        try:
            super().connect()
        except (ConnectionError, TimeoutError, ssl.SSLEOFError) as error:
            self.close()
            raise urllib3.exceptions.NewConnectionError(self, f"no TLS ({type(error).__name__})") from error


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}
"""What a ``urllib3.PoolManager`` makes its connections by."""


def reads(method: str, url: str) -> bool:
    """Whether a request changes nothing, so that it may be sent twice."""
    return method in ("GET", "HEAD") or (method == "POST" and url.partition("?")[0].endswith(ASKING))


def is_whole(answer: urllib3.BaseHTTPResponse) -> bool:
    """Whether an answer that was read to its end says itself how long it is.

    One that was cut off among its headers looks like one that is empty: only its length tells them apart, and Orthanc
    states that of everything the client asks for (not of archives, which it streams). Where a body falls short of the
    stated length, urllib3 raises.
    """
    return "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers or answer.status in (204, 304)
