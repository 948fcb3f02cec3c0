"""The commands of ``medai`` that start, stop and check the system: up, down, router, console, check.

Next: onebox/supervisor.py (up and down), daemon/service.py (the router), console/app.py, check.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medai.router.cli.options import command, load_settings, open_ledger, print_json, site_folder
from medai.router.errors import SettingsError
from medai.router.settings import load as configuration

if TYPE_CHECKING:
    from medai.router.onebox.site import Site


def system_commands(commands: Any) -> None:
    """``medai up``, ``down``, ``router``, ``console``, ``check``."""
    up = command(commands, "up", cmd_up, "start the whole system on this machine", example="medai up --dir /srv/medai")
    up.add_argument(
        "--free-ports", action="store_true", help="when making the directory, take free ports instead of the usual ones"
    )
    text = "how many workers read at the same time (default: as last time, 1 at first)"
    up.add_argument("--workers", type=_workers, metavar="N", help=text)
    text = "when making the directory, TLS between all parts, by certificates that are made for it"
    up.add_argument("--tls", action="store_true", help=text)
    up.add_argument("--prepare", action="store_true", help="write the configuration for you to edit, and start nothing")
    up.add_argument("--part", metavar="PART", help="start only this part again, after 'medai down --part'")
    down = command(
        commands, "down", cmd_down, "stop the system that 'medai up' started", example="medai down --dir /srv/medai"
    )
    down.add_argument(
        "--part", metavar="PART", help="only this part: orthanc, dicom-front, redis, ris, router, console, worker"
    )
    command(
        commands,
        "router",
        cmd_router,
        "run the router alone",
        example="medai router --config medai.toml",
        answers=False,
    )
    text = "serve the web console and the REST API"
    command(commands, "console", cmd_console, text, example="medai console --config medai.toml", answers=False)
    text = "check the configuration, and that every peer answers"
    command(commands, "check", cmd_check, text, example="medai check --config medai.toml")


def cmd_up(options: argparse.Namespace) -> int:
    """Start, or find running."""
    from medai.router.onebox import supervisor
    from medai.router.onebox.site import Site

    site = Site.create(site_folder(options), free_ports=options.free_ports, workers=options.workers, tls=options.tls)
    if options.prepare:
        return _prepared(site, as_json=options.json)
    if options.part:
        return _part_started(site, options.part, as_json=options.json)
    password = _first_password(site.config)
    supervisor.up(site, report=lambda text: print(text, file=sys.stderr, flush=True))
    if options.json:
        first = {"first_login": {"name": "admin", "password": password}} if password else {}
        print_json({**site.describe(), **first})
        return 0
    where = site.describe()
    login = f"user admin, password {password}: shown this once" if password else "log in as before"
    print(
        f"Med-AI runs in {where['dir']}\n"
        f"  send studies to   DICOM {where['orthanc']['aet']} at 127.0.0.1:{where['orthanc']['dicom_port']}\n"
        f"  or drop files in  {where['watch_folder']}\n"
        f"  archive           {where['orthanc']['url']}  (user {site.username}, password {site.password})\n"
        f"  console           {where['console']['url']}  ({login})\n"
        f"  RIS               {where['ris']['http']}\n"
        f"  routes            {where['config']}\n"
        f"  logs              {where['logs']}\n"
        f"next: medai status --dir {where['dir']}"
    )
    return 0


def _prepared(site: Site, *, as_json: bool) -> int:
    if as_json:
        print_json(site.describe())
    else:
        print(f"nothing was started; edit {site.config}, then: medai up --dir {site.folder}")
    return 0


def _part_started(site: Site, part: str, *, as_json: bool) -> int:
    from medai.router.onebox import supervisor

    supervisor.switch(site, part, on=True)
    if as_json:
        print_json(site.describe())
    else:
        print(f"{part} is running")
    return 0


def _workers(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 64:
        raise argparse.ArgumentTypeError("must be 1 to 64")
    return number


def _first_password(config: Path) -> str | None:
    """Make the console's first account before anything runs, so that its password is told here and in no log."""
    from medai.router.console import app
    from medai.router.ledger import Ledger

    settings = configuration.load(str(config))
    ledger = Ledger(settings.ledger.url)
    try:
        ledger.migrate()
        return app.first_account(ledger, time.time()) if settings.console.local_accounts else None
    finally:
        ledger.close()


def cmd_down(options: argparse.Namespace) -> int:
    """Stop."""
    from medai.router.onebox import supervisor
    from medai.router.onebox.site import Site

    site = Site.load(site_folder(options).resolve())
    if options.part:
        supervisor.switch(site, options.part, on=False)
        ran = True
    else:
        ran = supervisor.down(site, report=lambda text: print(text, file=sys.stderr, flush=True))
    if options.json:
        print_json({"stopped": ran})
    else:
        print("stopped" if ran else "nothing was running")
    return 0


def cmd_router(options: argparse.Namespace) -> int:
    """The daemon."""
    from medai.router.daemon.service import run_router

    return run_router(load_settings(options))


def cmd_console(options: argparse.Namespace) -> int:
    """Serve the console until told to stop; the first start makes the account admin and prints its password."""
    try:
        from medai.router.console import app
    except ModuleNotFoundError as error:
        raise SettingsError(f"the console needs {error.name}: pip install 'med-ai[console]'") from error
    from medai.router import log as logs
    from medai.router.version import program_version

    settings = load_settings(options)
    ledger = open_ledger(options)
    password = app.first_account(ledger, time.time()) if settings.console.local_accounts else None
    if password:
        print(f"first account: admin, password {password} (shown this once)", flush=True)
    logs.configure(level=settings.log.level, style=settings.log.format, process="console")
    app.run_console(settings, ledger, version=program_version())
    ledger.close()
    return 0


def cmd_check(options: argparse.Namespace) -> int:
    """Findings; 1 when one is an error."""
    from medai.router.cli import check

    findings = check.check(load_settings(options))
    if options.json:
        print_json([vars(finding) for finding in findings])
    else:
        marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
        for finding in findings:
            print(f"{marks[finding.level]}  {finding.what}: {finding.text}")
    return 1 if any(finding.level == "error" for finding in findings) else 0
