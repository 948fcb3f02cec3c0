"""Structured logs: JSON lines on standard error, and nothing in them that names a patient.

A study is logged as a keyed hash (``Pseudonyms``), a job as its id. A traceback is reduced to the exception's type
and its frames: the text of a foreign exception may quote a header. Next: daemon/loop.py.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from medai.router.errors import MedaiError


class Pseudonyms:
    """Keyed hashes that stand for studies in logs: equal for equal studies, useless without the key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def study(self, study_uid: str) -> str:
        """Twelve hex digits for a Study Instance UID or an Orthanc id."""
        return hmac.new(self._key, study_uid.encode(), hashlib.sha256).hexdigest()[:12]

    def patient(self, identifier: str, issuer: str = "") -> str:
        """Twelve hex digits for a patient's identifier and who gave it out."""
        return hmac.new(self._key, f"patient|{identifier}|{issuer}".encode(), hashlib.sha256).hexdigest()[:12]


def describe(error: BaseException) -> str:
    """An error as it may be logged or kept: our own texts in full, foreign ones by type and place only."""
    if isinstance(error, MedaiError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {_place(frames[-1])}" if frames else ""
    return f"{type(error).__name__}{where}"


def _place(frame: traceback.FrameSummary) -> str:
    return f"{'/'.join(frame.filename.replace(chr(92), '/').split('/')[-2:])}:{frame.lineno}"


def _safe_exception(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if isinstance(exc_info, tuple) and exc_info[1] is not None:
        error = exc_info[1]
        event["error"] = describe(error)
        event["frames"] = [f"{_place(f)} {f.name}" for f in traceback.extract_tb(error.__traceback__)[-8:]]
    event.pop("exc_text", None)
    return event


def configure(*, level: str = "info", style: str = "json", process: str = "medai") -> None:
    """Send structlog's and every library's records through one renderer to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _safe_exception,
    ]
    renderer = structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("urllib3", "alembic", "watchdog", "kombu", "amqp", "hl7"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    for quoting in ("pydicom", "pynetdicom", "highdicom", "py.warnings"):  # their warnings quote values of headers
        logging.getLogger(quoting).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    sys.excepthook = _unhandled
    threading.excepthook = lambda args: _unhandled(args.exc_type, args.exc_value, args.exc_traceback)


def _unhandled(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """What nobody caught is logged like everything else: Python's own way would print the exception's text."""
    if error is None or issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger(__name__).critical("unhandled_error", exc_info=(kind, error, trace))
