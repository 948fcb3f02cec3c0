"""Start, watch and stop everything on one machine, with supervisord (docs/decisions.md).

``up`` is done only when each part answers; ``down`` only when each has ended. A part that dies is started again.
Next: site.py (what is started where).
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from medai.router import private, tls
from medai.router.alive import answers, reached
from medai.router.errors import MedaiError, SettingsError
from medai.router.ledger import Ledger
from medai.router.onebox.site import Site, find_binary, port_is_taken, python
from medai.router.reports.status import status

READY_S = 180.0
"""The slowest part is the worker's first load of its models."""
GIVE_UP_S = 20.0
"""A part that keeps ending is given up after this long."""
PARTS = ("orthanc", "dicom-front", "redis", "ris", "router", "console", "worker")
ALREADY_STARTED, NOT_RUNNING = 60, 70
"""supervisor.xmlrpc.Faults: it is so already."""
Report = Callable[[str], None]


class PartFailed(MedaiError):
    """A part did not come up; the text names its log."""


def socket_path(site: Site) -> Path:
    """Supervisord's socket; where its path is too long for the kernel (108 bytes), in a short folder of our own."""
    path = site.folder / "supervisor.sock"
    return path if len(os.fsencode(path)) < 100 else _short_folder(site) / "supervisor.sock"


def _short_folder(site: Site) -> Path:
    """Made once under a name that nobody can guess, and told by a link in the site; a stranger's is never used."""
    link = site.folder / "run"
    if link.is_symlink() and private.is_ours(link.readlink()):
        return link.readlink()
    folder = Path(tempfile.mkdtemp(prefix="medai-"))
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return folder


def commands(site: Site) -> Mapping[str, tuple[list[str], dict[str, str]]]:
    """Part -> its command and extra environment."""
    p = site.ports
    medai = [python(), "-P", "-m"]  # -P: nothing is imported from the folder it stands in
    config = ["--config", str(site.config)]
    ris = [
        "--host",
        "127.0.0.1",
        "--mllp-port",
        str(p["ris_mllp"]),
        "--http-port",
        str(p["ris_http"]),
        "--router-host",
        "127.0.0.1",
        "--router-port",
        str(p["hl7_in"]),
        "--dicom-port",
        str(p["ris_dicom"]),
        "--data",
        str(site.folder / "ris"),
    ]
    front: dict[str, tuple[list[str], dict[str, str]]] = {}
    if site.settings.dicom_in.front.is_on:
        front["dicom-front"] = ([*medai, "medai.router.cli.dicom_front", *config], {})
    if site.tls:
        own, files = site.certificate("ris"), site.certificate("orthanc")
        ris += ["--tls-certificate", own.certificate_file, "--tls-key", own.key_file, "--tls-ca", own.ca_file]
        ris += ["--tls-everywhere"]
        ports = ["--port", str(p["orthanc_https"]), "--behind", str(p["orthanc_http"])]
        shown = ["--certificate", files.certificate_file, "--key", files.key_file]
        front["front"] = ([*medai, "medai.router.onebox.front", *ports, *shown], {})
    # Which listens on every interface: of its ports scanners need none where the relay stands before it.
    shut = [p["orthanc_http"], *([site.archive_dicom_port] if site.settings.dicom_in.front.is_on else [])]
    orthanc = [",".join(map(str, shut)), find_binary("Orthanc", "orthanc"), str(site.folder / "orthanc.json")]
    redis = [find_binary("redis-server"), str(site.folder / "redis.conf")]
    worker: tuple[list[str], dict[str, str]] = ([*medai, "medai.workers.cli", "worker", *config], {})
    # TCP_NODELAY: without it Debian's DCMTK receives 15-20 images/s instead of 300 (Nagle).
    environment = {"TCP_NODELAY": "1", "OPENSSL_CONF": site.openssl_conf.name}  # in the folder that it starts in
    return {
        "orthanc": ([*medai, "medai.router.onebox.closed", *orthanc], environment),
        **front,
        "redis": (redis, {}),
        "ris": ([*medai, "medai.hl7_mock.cli", *ris], {}),
        "router": ([*medai, "medai.router.cli", "router", *config], {}),
        "console": ([*medai, "medai.router.cli", "console", *config], {}),
        **dict.fromkeys(worker_names(site), worker),
    }


def worker_names(site: Site) -> list[str]:
    """``worker``, ``worker-2``, …"""
    return ["worker", *(f"worker-{number}" for number in range(2, site.workers + 1))]


def write_supervisord(site: Site) -> Path:
    """supervisord.conf: each part started again when it dies, its output in its own log."""
    if any(mark in str(site.folder) for mark in (" ;", " #", "\n")):
        raise SettingsError(f"{site.folder}: supervisord takes ' ;' and ' #' for comments: choose another directory")
    lines = [
        "[supervisord]",
        f"logfile={_escape(str(site.logs))}/supervisord.log",
        f"pidfile={_escape(str(site.folder))}/supervisord.pid",
        f"childlogdir={_escape(str(site.logs))}",
        "nodaemon=false",
        "minfds=1024",
        f"umask={private.OTHERS:03o}",  # supervisord's own is 022, whatever it was started with; every part inherits it
        "",
        "[unix_http_server]",
        f"file={_escape(str(socket_path(site)))}",
        "chmod=0700",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        "",
    ]
    for name, (command, environment) in commands(site).items():
        lines += [
            f"[program:{name}]",
            f"command={' '.join(_quote(part) for part in command)}",
            f"directory={_escape(str(site.folder))}",
            "autostart=true",
            "autorestart=true",
            "startsecs=1",
            "startretries=1000",
            "stopsignal=TERM",
            "stopwaitsecs=30",
            "stopasgroup=false",
            "killasgroup=true",
            "redirect_stderr=true",
            f"stdout_logfile={_escape(_escape(str(site.logs)))}/{name}.log",  # supervisord 4 expands it twice
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=3",
        ]
        values = {"PYTHONUNBUFFERED": "1", **environment}
        lines += ["environment=" + ",".join(f'{key}="{value}"' for key, value in values.items()), ""]
    path = site.folder / "supervisord.conf"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _escape(text: str) -> str:
    return text.replace("%", "%%")  # supervisord expands %(name)s


def _quote(text: str) -> str:
    return (
        '"' + _escape(text).replace('"', '\\"') + '"' if any(c in text for c in " \t'\"") or not text else _escape(text)
    )


@contextmanager
def _rpc(site: Site) -> Any:
    from supervisor.xmlrpc import SupervisorTransport  # an extra: only `up` needs it

    transport = SupervisorTransport(None, None, f"unix://{socket_path(site)}")
    proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
    try:
        yield proxy.supervisor
    finally:
        transport.close()


def states(site: Site) -> dict[str, dict[str, Any]]:
    """Part -> supervisord's word on it; empty when nothing runs."""
    try:
        with _rpc(site) as supervisor:
            return {item["name"]: dict(item) for item in supervisor.getAllProcessInfo()}
    except (OSError, xmlrpc.client.Error):
        return {}


def up(site: Site, *, report: Report, ready_s: float = READY_S) -> None:
    """Start everything and wait until each part answers; raises PartFailed and leaves the rest running to look at."""
    now = states(site)
    if now and set(now) != set(commands(site)):
        raise SettingsError(f"changing the number of workers needs a restart: first 'medai down --dir {site.folder}'")
    for name, item in now.items():
        if item["statename"] == "STOPPED":  # by 'medai down --part'
            report(f"starting {name} again")
            switch(site, name, on=True)
    if not now:
        taken = {name: port for name, port in site.used_ports.items() if port_is_taken(port)}
        if taken:
            what = ", ".join(f"{port} ({name})" for name, port in taken.items())
            raise SettingsError(
                f"these ports are taken: {what}; use --free-ports with a fresh --dir, or edit {site.folder}/site.json"
            )
        config = write_supervisord(site)
        report("starting Orthanc, Redis, mock RIS, router, console and worker")
        done = subprocess.run(  # noqa: S603 - our own interpreter and file
            [python(), "-P", "-m", "supervisor.supervisord", "-c", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PartFailed(f"supervisord did not start: {(done.stderr or done.stdout).strip()[-500:]}")
    wait_ready(site, report=report, ready_s=ready_s)


def wait_ready(site: Site, *, report: Report, ready_s: float) -> None:
    """Ask each part until it answers, saying which one is waited for."""
    checks = probes(site)
    began = time.monotonic()
    for name in (name for name in PARTS if name in checks):
        told = 0.0
        while not checks[name]():
            waited = time.monotonic() - began
            if waited > ready_s or (waited > GIVE_UP_S and keeps_ending(site, name)):
                tail = tail_of(site.logs / f"{name}.log")
                raise PartFailed(f"{name} did not come up ({waited:.0f} s); its log ends:\n{tail}")
            if waited - told > 5.0:
                told = waited
                report(f"waiting for {name} ({waited:.0f} s)")
            time.sleep(0.1)
        report(f"{name} answers")


def keeps_ending(site: Site, name: str) -> bool:
    """Whether supervisord has just started a part again: it ends each time it is started."""
    item = states(site).get(name, {})
    return bool(item) and (item["statename"] != "RUNNING" or time.time() - float(item["start"]) < 4.0)


def probes(site: Site) -> dict[str, Callable[[], bool]]:
    """Part -> whether it answers now."""
    own = site.settings
    peers = tls.client_context(site.trust, where="tls") if site.tls else None
    metrics = tls.own_context(own.metrics.tls, where="metrics.tls")
    console = tls.own_context(own.console.tls, where="console.tls")
    front = own.dicom_in.front
    relay = {"dicom-front": lambda: port_is_taken(front.port, reached(front.host).strip("[]"))} if front.is_on else {}
    return {
        "orthanc": lambda: answers(f"{site.orthanc_url}/system", peers, (site.username, site.password)),
        **relay,
        "redis": lambda: _redis_ok(site.ports["redis"], peers),
        "ris": lambda: answers(f"{site.ris_url}/health", peers),
        "router": lambda: answers(f"{site.metrics_url}/ready", metrics),
        "console": lambda: answers(f"{site.console_url}/api/health", console),
        "worker": lambda: _worker_ok(own.ledger.url),
    }


def switch(site: Site, part: str, *, on: bool) -> None:
    """Stop one part, or start it again; returns when it is so. ``worker`` means all of them."""
    known = [*commands(site)]
    if part not in known:
        raise SettingsError(f"no part is named {part!r}; there are {', '.join(known)}")
    if not states(site):
        raise SettingsError(f"nothing runs in {site.folder}: start it with 'medai up --dir {site.folder}'")
    names = worker_names(site) if part == "worker" else [part]
    with _rpc(site) as supervisor:
        for name in names:
            try:
                (supervisor.startProcess if on else supervisor.stopProcess)(name)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode not in (ALREADY_STARTED, NOT_RUNNING):
                    raise PartFailed(f"{name} was not {'started' if on else 'stopped'}: {fault.faultString}") from fault


def _redis_ok(port: int, context: ssl.SSLContext | None) -> bool:
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1.0))
            if context is not None:
                connection = stack.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1"))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _worker_ok(url: str) -> bool:
    """A worker has announced itself in the ledger lately: its models are loaded."""
    ledger = Ledger(url)
    try:
        workers = status(ledger, time.time()).workers
    except MedaiError:
        return False
    finally:
        ledger.close()
    return any(worker.alive for worker in workers)


def down(site: Site, *, report: Report, wait_s: float = 60.0) -> bool:
    """Stop everything; True when something ran."""
    if not states(site):
        return False
    pid = int((site.folder / "supervisord.pid").read_text())
    report("stopping worker, console, router, mock RIS, Redis and Orthanc")
    with _rpc(site) as supervisor:
        supervisor.shutdown()
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    raise PartFailed(f"the parts did not stop within {wait_s:.0f} s: see {site.logs}/supervisord.log")


def tail_of(path: Path, lines: int = 15) -> str:
    """The end of a log."""
    if not path.exists():
        return f"({path} does not exist)"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
