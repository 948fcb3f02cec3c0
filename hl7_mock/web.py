"""The mock RIS over HTTP: the page for people, JSON for tests and tools, the switches for faults.

Next: page.py (what the page shows), shapes.py (what the JSON looks like), receiver.py.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medai.hl7_mock import reports
from medai.hl7_mock.faults import BadFaultError, parse_rule
from medai.hl7_mock.order_messages import BadOrderError, changed, parse_request
from medai.hl7_mock.orders import Order, OrderConflictError
from medai.hl7_mock.page import render
from medai.hl7_mock.patient_messages import parse_person
from medai.hl7_mock.patients import QUEUE
from medai.hl7_mock.reports import parse_report
from medai.hl7_mock.ris import Ris
from medai.hl7_mock.shapes import brief_json, order_json, patient_json, report_json, result_json

TEMPLATES = Path(__file__).parent / "templates"
MAX_BODY_BYTES = 64 * 1024

T = TypeVar("T")


class RequestError(ValueError):
    """A request cannot be served; ``status`` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def make_app(ris: Ris) -> Starlette:
    """The ASGI application of one mock RIS."""
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/static/{name}", _static),
            Route("/orders", _orders, methods=["GET"]),
            Route("/orders", _place, methods=["POST"]),
            Route("/orders/{placer}", _order, methods=["GET"]),
            Route("/orders/{placer}/cancel", _cancel, methods=["POST"]),
            Route("/orders/{placer}/change", _change, methods=["POST"]),
            Route("/mpps", _steps),
            Route("/reports", _reports, methods=["GET"]),
            Route("/reports", _report, methods=["POST"]),
            Route("/patients", _patients, methods=["GET"]),
            Route("/patients/register", _register, methods=["POST"]),
            Route("/patients/update", _update, methods=["POST"]),
            Route("/patients/merge", _merge, methods=["POST"]),
            Route("/results", _results),
            Route("/refused", _refused),
            Route("/messages/{name}", _message),
            Route("/faults", _list_faults, methods=["GET"]),
            Route("/faults", _add_fault, methods=["POST"]),
            Route("/faults", _clear_faults, methods=["DELETE"]),
            Route("/health", _health),
            Route("/stats", _stats),
        ],
        middleware=[Middleware(_SafeHeaders), Middleware(_OwnNames)],
        exception_handlers={RequestError: _explain},
    )
    app.state.ris = ris
    return app


def _is_ours(host: str) -> bool:
    """Whether a Host header is an address, or a name without a dot: a page of a site outside comes by neither."""
    name = host.strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name
    return True


class _OwnNames:
    """Answers no page of another site that has pointed its name here (DNS rebinding)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope.get("headers", [])).get(b"host", b"").decode("latin-1")
        known = scope["type"] != "http" or _is_ours(host)
        refusal = JSONResponse({"error": "ask by an address or a name without a dot"}, status_code=400)
        await (self._app if known else refusal)(scope, receive, send)


class _SafeHeaders:
    """Nothing is cached, nothing is loaded from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (b"cache-control", b"no-store"),
                    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self._app(scope, receive, sending)


def _ris(request: Request) -> Ris:
    ris: Ris = request.app.state.ris
    return ris


async def _explain(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RequestError) else 500
    return JSONResponse({"error": str(error)}, status_code=status)


async def _page(request: Request) -> Response:
    return HTMLResponse(render(_ris(request)))


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in {"ris.css", "ris.js"}:
        raise RequestError(404, "no such file")
    return FileResponse(TEMPLATES / name)


async def _orders(request: Request) -> Response:
    ris = _ris(request)
    resulted = ris.resulted()
    found = [_order_json(ris, order, resulted) for order in ris.book.orders]
    return JSONResponse([each for each in found if _wanted(request, each)])


async def _order(request: Request) -> Response:
    ris = _ris(request)
    order = ris.book.get(request.path_params["placer"])
    if order is None:
        raise RequestError(404, "no such order")
    return JSONResponse(_order_json(ris, order, ris.resulted()))


def _order_json(ris: Ris, order: Order, resulted: frozenset[str]) -> dict[str, Any]:
    asked = order.details.request
    step = ris.steps.of(accession=asked.accession, study_uid=asked.study_uid)
    return order_json(order, resulted=order.placer in resulted, step=step)


async def _place(request: Request) -> Response:
    ris = _ris(request)
    try:
        asked = parse_request(await _body(request))
        if ris.patients.merged_away(asked.patient_id):
            raise OrderConflictError("patient_id: this patient was merged into another: order for that one")
        order, is_new = await _write(lambda: ris.book.place(asked))
    except BadOrderError as error:
        raise RequestError(400, str(error)) from error
    except OrderConflictError as error:
        raise RequestError(409, str(error)) from error
    return await _sent(ris, order.placer, status=201 if is_new else 200)


async def _cancel(request: Request) -> Response:
    ris = _ris(request)
    placer = request.path_params["placer"]
    if ris.book.get(placer) is None:
        raise RequestError(404, "no such order")
    await _write(lambda: ris.book.cancel(placer))
    return await _sent(ris, placer, status=200)


async def _sent(ris: Ris, placer: str, *, status: int) -> Response:
    order = ris.book.get(placer)
    if order is not None and order.pending is not None:
        await ris.sender.send(placer, wait_s=ris.order_wait_s)
        order = ris.book.get(placer)
    if order is None:
        raise RequestError(404, "no such order")
    return JSONResponse(_order_json(ris, order, ris.resulted()), status_code=status)


async def _change(request: Request) -> Response:
    ris, placer, asked = _ris(request), request.path_params["placer"], await _body(request)
    if ris.book.get(placer) is None:
        raise RequestError(404, "no such order")
    try:
        await _write(lambda: ris.book.change(placer, lambda standing: changed(standing, asked)))
    except BadOrderError as error:
        raise RequestError(400, str(error)) from error
    except OrderConflictError as error:
        raise RequestError(409, str(error)) from error
    return await _sent(ris, placer, status=200)


async def _steps(request: Request) -> Response:
    found = [asdict(step) for step in _ris(request).steps.steps]
    return JSONResponse([each for each in found if _wanted(request, each)])


async def _reports(request: Request) -> Response:
    found = map(report_json, _ris(request).reports.reports)
    return JSONResponse([each for each in found if _wanted(request, each)])


async def _report(request: Request) -> Response:
    ris = _ris(request)
    try:
        asked = parse_report(await _body(request))
    except BadOrderError as error:
        raise RequestError(400, str(error)) from error
    order = ris.book.get(asked.placer) if asked.placer else ris.book.by_accession(asked.accession)
    if order is None:
        raise RequestError(404, "no such order")
    report = await _write(lambda: ris.reports.add(asked, order))
    if ris.report_sender is not None:
        await ris.report_sender.send(reports.QUEUE, wait_s=ris.order_wait_s)
    newest = next(each for each in ris.reports.reports if each.number == report.number)
    return JSONResponse(report_json(newest), status_code=201)


async def _patients(request: Request) -> Response:
    found = map(patient_json, _ris(request).patients.events)
    return JSONResponse([each for each in found if _wanted(request, each)])


async def _register(request: Request) -> Response:
    return await _tell(request, merge=False, registers=True)


async def _update(request: Request) -> Response:
    return await _tell(request, merge=False)


async def _merge(request: Request) -> Response:
    return await _tell(request, merge=True)


async def _tell(request: Request, *, merge: bool, registers: bool = False) -> Response:
    ris = _ris(request)
    try:
        person, prior_id = parse_person(await _body(request), merge=merge)
        known = ris.known(person.patient_id).over(ris.known(prior_id)) if merge else ris.known(person.patient_id)
        if not person.over(known).patient_name:
            raise BadOrderError("patient_name", "is needed: nothing is known of this patient")
        tell = partial(ris.patients.tell, person, prior_id=prior_id, known=known, registers=registers)
        event, is_new = await _write(tell)
    except BadOrderError as error:
        raise RequestError(400, str(error)) from error
    except OrderConflictError as error:
        raise RequestError(409, str(error)) from error
    await ris.patient_sender.send(QUEUE, wait_s=ris.order_wait_s)
    newest = next(each for each in ris.patients.events if each.number == event.number)
    return JSONResponse(patient_json(newest), status_code=201 if is_new else 200)


async def _results(request: Request) -> Response:
    ris, since = _ris(request), _since(request)
    results = [each for each in ris.inbox.results if each.latest.received_at > since]
    if request.query_params.get("brief"):
        found = [brief_json(result) for result in results]
    else:
        found = [result_json(ris, result) for result in results]
    return JSONResponse([each for each in found if _wanted(request, each)])


def _since(request: Request) -> float:
    """?since=SECONDS: what came after that moment (seconds since the epoch)."""
    text = request.query_params.get("since") or "0"
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(400, "since must be seconds since the epoch") from error


async def _refused(request: Request) -> Response:
    return JSONResponse([asdict(each) for each in _ris(request).refusals.newest_first])


async def _message(request: Request) -> Response:
    ris, name = _ris(request), request.path_params["name"]
    raw = ris.inbox.raw(name)
    if raw is not None:
        return Response(raw, media_type="text/plain")
    sent = [message for order in ris.book.orders for message in order.messages]
    sent += [event.message for event in ris.patients.events]
    sent += [report.message for report in ris.reports.reports]
    text = next((each.text for each in sent if each.control_id == name), None)
    if text is None and (refusal := ris.refusals.find(name)) is not None:
        text = refusal.text
    if text is None:
        raise RequestError(404, "no such message")
    return PlainTextResponse(text)


async def _list_faults(request: Request) -> Response:
    return JSONResponse(_ris(request).faults.as_list())


async def _add_fault(request: Request) -> Response:
    try:
        _ris(request).faults.add(parse_rule(await _body(request)))
    except BadFaultError as error:
        raise RequestError(400, str(error)) from error
    return JSONResponse(_ris(request).faults.as_list(), status_code=201)


async def _clear_faults(request: Request) -> Response:
    _ris(request).faults.clear()
    return JSONResponse([])


async def _health(request: Request) -> Response:
    ris = _ris(request)
    parts = {"mllp": ris.mllp.ready, "inbox": ris.inbox.writable}
    ready = all(parts.values())
    return JSONResponse({"status": "ok" if ready else "failing", **parts}, status_code=200 if ready else 503)


async def _stats(request: Request) -> Response:
    return JSONResponse(_ris(request).receiver.stats)


async def _body(request: Request) -> Any:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        # Also keeps forms on other sites from placing orders: a browser asks before it sends JSON elsewhere.
        raise RequestError(415, "send JSON, with Content-Type: application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(413, "the body is too long")
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "the body is not valid JSON") from error


async def _write(work: Callable[[], Awaitable[T]]) -> T:
    try:
        return await work()
    except OSError as error:
        raise RequestError(503, f"it could not be stored: {error.strerror}") from error


def _wanted(request: Request, each: dict[str, Any]) -> bool:
    """Whether an item has the values that the query asks for, as in ?accession=A1&status=P."""
    return all(
        str(each.get(key, "")) == value for key, value in request.query_params.items() if key not in ("since", "brief")
    )
