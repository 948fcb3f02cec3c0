"""``medai ris``: start the mock RIS. Every option has an environment variable, MEDAI_RIS_ and its name.

Next: server.py.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from medai.hl7_mock.mllp import MAX_MESSAGE_BYTES, Limits
from medai.hl7_mock.order_sender import Destination
from medai.hl7_mock.server import Config, PortTakenError, serve_until_signal
from medai.hl7_mock.storage import FolderInUseError

POLICIES = ("accept", "refuse")
LEVELS = ("debug", "info", "warning", "error")


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The options, with their defaults from the environment."""

    def default(name: str, otherwise: str) -> str:
        return environment.get(f"MEDAI_RIS_{name}") or otherwise

    made = argparse.ArgumentParser(
        prog="medai ris",
        description="A mock RIS: places orders (ORM^O01), updates and merges patients (ADT), accepts and checks "
        "results (ORU^R01), and shows everything on a page.",
        epilog="Each option is an environment variable too: --mllp-port is MEDAI_RIS_MLLP_PORT. See docs/ris.md.\n"
        "example: medai ris --router-port 2575 --data ris-data",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--host", default=default("HOST", "127.0.0.1"), help="address to listen on (%(default)s)")
    add("--mllp-port", type=_port, default=default("MLLP_PORT", "2576"), help="results come here (%(default)s)")
    add("--http-port", type=_port, default=default("HTTP_PORT", "8090"), help="page and JSON (%(default)s)")
    add("--router-host", default=default("ROUTER_HOST", "127.0.0.1"), help="orders go there (%(default)s)")
    add("--router-port", type=_port, default=default("ROUTER_PORT", "2575"), help="orders go there (%(default)s)")
    add("--data", type=Path, default=default("DATA", "ris-data"), help="folder of inbox and orders (%(default)s)")
    dicom = default("DICOM_PORT", "")
    text = "worklist (C-FIND) and performed procedure steps (MPPS) come here (default: off)"
    add("--dicom-port", type=_port, default=dicom or None, help=text)
    add("--ae-title", default=default("AE_TITLE", "MEDAI_RIS"), help="our AE title (%(default)s)")
    add("--ehr-host", default=default("EHR_HOST", "127.0.0.1"), help="final reports go there (%(default)s)")
    ehr = default("EHR_PORT", "")
    add("--ehr-port", type=_port, default=ehr or None, help="final reports go there by MLLP (default: nowhere)")
    kind = default("ORDER_MESSAGE", "ORM")
    add("--order-message", choices=("ORM", "OMI"), default=kind, help="orders as ORM^O01 or OMI^O23 (%(default)s)")
    add("--log-level", choices=LEVELS, default=default("LOG_LEVEL", "info"), help="(%(default)s)")
    unsolicited = default("UNSOLICITED", "accept")
    add("--unsolicited", choices=POLICIES, default=unsolicited, help="results without a known order (%(default)s)")
    merged = default("MERGED_PATIENTS", "refuse")
    text = "results under an identifier that was merged away (%(default)s)"
    add("--merged-patients", choices=POLICIES, default=merged, help=text)
    size = default("MAX_MESSAGE_MB", str(MAX_MESSAGE_BYTES // 2**20))
    add("--max-message-mb", type=int, default=size, help="longer messages are refused (%(default)s)")
    files = made.add_argument_group("TLS (both directions; off without --tls-certificate)")
    files.add_argument("--tls-certificate", default=default("TLS_CERTIFICATE", ""), help="our certificate, PEM")
    files.add_argument("--tls-key", default=default("TLS_KEY", ""), help="its key, PEM")
    files.add_argument("--tls-ca", default=default("TLS_CA", ""), help="who signs the others; theirs is then required")
    text = "the page by https, which asks browsers for no certificate, and DICOM over TLS, too"
    files.add_argument("--tls-everywhere", action="store_true", help=text)
    return made


def main(argv: list[str] | None = None) -> int:
    """Run until stopped. 0: stopped on request; 2: could not start, the reason is on standard error."""
    os.umask(0o077)  # orders and results are for this user alone
    made = parser(os.environ)
    options = made.parse_args(argv)
    _configure_log(options.log_level)
    try:
        asyncio.run(serve_until_signal(_config(options)))
    except (PortTakenError, FolderInUseError) as error:
        return _failed(str(error))
    except ssl.SSLError as error:
        return _failed(f"the TLS files cannot be used: {error.reason or error}")
    except OSError as error:
        return _failed(f"cannot start: {error.strerror or error} {error.filename or ''}".rstrip())
    return 0


def _failed(reason: str) -> int:
    print(f"medai ris: {reason}", file=sys.stderr)
    return 2


def _config(options: argparse.Namespace) -> Config:
    server_tls, client_tls = _tls(options.tls_certificate, options.tls_key, options.tls_ca)
    page_tls, _ = _tls(options.tls_certificate, options.tls_key, "") if options.tls_everywhere else (None, None)
    return Config(
        data=options.data,
        host=options.host,
        mllp_port=options.mllp_port,
        http_port=options.http_port,
        router=Destination(host=options.router_host, port=options.router_port, tls=client_tls),
        dicom_port=options.dicom_port,
        ae_title=options.ae_title,
        ehr=Destination(host=options.ehr_host, port=options.ehr_port, tls=client_tls) if options.ehr_port else None,
        imaging_orders=options.order_message == "OMI",
        accept_unsolicited=options.unsolicited == "accept",
        accept_merged=options.merged_patients == "accept",
        limits=Limits(message_bytes=options.max_message_mb * 2**20),
        tls=server_tls,
        page_tls=page_tls,
        dicom_tls=server_tls if options.tls_everywhere else None,
    )


def _tls(certificate: str, key: str, ca: str) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """(for those who come to us, for those we go to); raises OSError for a file that cannot be read."""
    if not certificate:
        return None, None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.create_default_context(cafile=ca or None)
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key or None)
    if ca:
        server.load_verify_locations(ca)
        server.verify_mode = ssl.CERT_REQUIRED
    return server, client


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535; 0 takes a free one)")
    return int(text)


def _configure_log(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
