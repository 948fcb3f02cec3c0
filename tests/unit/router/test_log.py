"""Logs are JSON lines that name no patient: not by an event, not by the text of somebody else's exception."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from medai.router import log as logs
from medai.router.errors import PermanentError
from medai.router.log import Pseudonyms, describe

SECRET = "Plantedname^Test"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What goes to standard error; the logging of pytest is put back afterwards."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(level="info", process="test")
    monkeypatch.undo()
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines(written: io.StringIO) -> Lines:
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


def fails() -> None:
    raise KeyError(SECRET)


def test_an_event_is_one_json_line_with_time_level_logger_and_process(lines: Lines) -> None:
    structlog.get_logger("router.test").info("job_made", route="brain", images=3)
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job_made", "route": "brain", "images": 3, "level": "info", "logger": "router.test", "process": "test",
    }  # fmt: skip


def test_a_traceback_becomes_type_and_places_without_the_exceptions_text(lines: Lines) -> None:
    logger = structlog.get_logger()
    try:
        fails()
    except KeyError as error:
        logger.error("by_value", exc_info=error)
        logger.error("by_flag", exc_info=True)
        logger.exception("by_method")
    read = lines()
    assert [line["event"] for line in read] == ["by_value", "by_flag", "by_method"]
    for line in read:
        assert line["error"].startswith("KeyError at router/test_log.py:")
        assert line["frames"][-1].endswith(" fails")
        assert SECRET not in json.dumps(line)


def test_a_library_that_logs_its_exception_does_not_quote_it_either(lines: Lines) -> None:
    try:
        fails()
    except KeyError:
        logging.getLogger("some.library").exception("it broke")
    (line,) = lines()
    assert line["event"] == "it broke"
    assert line["error"].startswith("KeyError at ")
    assert SECRET not in json.dumps(line)


def test_what_caused_an_error_of_ours_is_not_quoted(lines: Lines) -> None:
    try:
        try:
            fails()
        except KeyError as error:
            raise PermanentError("slice 3 is damaged") from error
    except PermanentError as error:
        structlog.get_logger().warning("job_failed", exc_info=error)
    (line,) = lines()
    assert line["error"] == "slice 3 is damaged"
    assert SECRET not in json.dumps(line)


def test_warnings_of_dicom_libraries_are_held_back_because_they_quote_headers(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"Invalid value for VR PN: {SECRET}", stacklevel=1)
    for name in ("pydicom", "pydicom.valuerep", "highdicom"):
        logging.getLogger(name).warning("Invalid value %s", SECRET)
    assert lines() == []


def test_records_below_the_level_are_left_out(lines: Lines) -> None:
    structlog.get_logger().debug("too_small")
    logging.getLogger("urllib3.connectionpool").info("chatter")
    assert lines() == []


def test_the_console_style_holds_the_same_things_back(written: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure(style="console")
    try:
        fails()
    except KeyError:
        structlog.get_logger().exception("broke")
    text = written.getvalue()
    assert "KeyError at router/test_log.py" in text
    assert SECRET not in text


def test_our_own_texts_are_told_in_full_and_foreign_ones_by_type_and_place() -> None:
    assert describe(PermanentError("slice 3 is damaged")) == "slice 3 is damaged"
    assert describe(ValueError(SECRET)) == "ValueError"
    try:
        fails()
    except KeyError as error:
        assert describe(error).startswith("KeyError at router/test_log.py:")
        assert SECRET not in describe(error)


def test_a_study_has_one_pseudonym_under_one_key_and_another_under_another() -> None:
    names = Pseudonyms("key")
    assert names.study("1.2.3") == Pseudonyms("key").study("1.2.3") == "fdd9cca0781e"
    assert names.study("1.2.3") != names.study("1.2.4")
    assert names.study("1.2.3") != Pseudonyms("other").study("1.2.3")


def test_an_exception_that_nobody_catches_is_logged_without_its_text() -> None:
    code = (
        "import threading; from router import log; log.configure()\n"
        "def fails(): raise KeyError('Plantedname')\n"
        "thread = threading.Thread(target=fails); thread.start(); thread.join()\n"
        "fails()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["unhandled_error", "unhandled_error"]
    assert "Plantedname" not in done.stderr


@pytest.mark.parametrize("library", ["pydicom", "pynetdicom.dimse", "highdicom"])
def test_what_a_library_says_of_values_that_it_does_not_like_is_not_logged(lines: Lines, library: str) -> None:
    logging.getLogger(library).error(f"The value '{SECRET}' is not valid")
    assert lines() == []
