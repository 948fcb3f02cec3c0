"""Whether a port of ours answers, whatever its TLS: for ``medai up`` and the containers' health checks.

Next: tls.py (``own_context``: whose answer is believed).
"""

from __future__ import annotations

import ipaddress
import ssl
import sys

import urllib3

from medai.router import tls
from medai.router.settings import load as settings

PATIENCE_S = 5.0


def answers(
    url: str, context: ssl.SSLContext | None, login: tuple[str, str] | None = None, *, timeout_s: float = PATIENCE_S
) -> bool:
    """Whether a GET brings 200; over https as ``context`` verifies."""
    headers = urllib3.make_headers(basic_auth=":".join(login)) if login else None
    # urllib3 checks the name by itself unless it is told not to.
    name = False if context is not None and not context.check_hostname else None
    try:
        with urllib3.PoolManager(ssl_context=context, assert_hostname=name) as pool:
            return pool.request("GET", url, headers=headers, timeout=timeout_s, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def main(part: str) -> int:
    """``python -m medai.router.alive router`` (or ``console``): 0 where it answers on this machine."""
    own = settings.load()
    if part == "console":
        port, files, path = own.console.port, own.console.tls, "/api/health"
        host, where = own.console.host, "console.tls"
    else:
        port, files, path = own.metrics.port, own.metrics.tls, "/ready"
        host, where = own.metrics.host, "metrics.tls"
    scheme = "https" if files.is_on else "http"
    return 0 if answers(f"{scheme}://{reached(host)}:{port}{path}", tls.own_context(files, where=where)) else 1


def reached(host: str) -> str:
    """Where a port that listens there is found."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
