"""``medai worker`` and ``medai process``. Next: app.py, process.py."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from medai.router import log as logs
from medai.router.errors import MedaiError, SettingsError, failed
from medai.router.private import keep_private
from medai.router.settings import load as configuration
from medai.router.settings.tables import Settings
from medai.router.tracing.tracer import require


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 good, 1 failed, 2 wrong usage or configuration."""
    keep_private()
    options = make_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except SettingsError as error:
        return failed(options, str(error), 2)
    except MedaiError as error:
        if getattr(options, "json", False):
            print(json.dumps({"ok": False, "reason": str(error)}, indent=2))
        return failed(options, str(error), 1)


def make_parser() -> argparse.ArgumentParser:
    """Both commands."""
    parser = argparse.ArgumentParser(prog="medai")
    commands = parser.add_subparsers(dest="command", required=True)
    worker = commands.add_parser(
        "worker",
        help="run one worker",
        description="Run one worker until it is stopped.",
        epilog="example: medai worker --config medai.toml --queue gpu",
    )
    worker.add_argument("--config", help="medai.toml")
    worker.add_argument("--dir", type=Path, help="directory of a system made by 'medai up'")
    worker.add_argument("--queue", choices=["auto", "cpu", "gpu"], help="instead of [worker] queue")
    worker.set_defaults(run=cmd_worker)
    process = commands.add_parser(
        "process",
        help="read one study from files",
        description="Read one study from files: SEG, SR, key image and ORU come out (NIfTI in: mask and key image).",
        epilog="examples:\n  medai process STUDY/ --out RESULTS/\n  medai process head.nii.gz --out RESULTS/\n"
        "  medai process chest.zip --model ct_lungs --out RESULTS/ --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    process.add_argument("path", type=Path, help="DICOM folder, zip or file, or a NIfTI volume")
    process.add_argument("--out", type=Path, required=True, help="folder for the results; created if absent")
    process.add_argument("--model", help="which model reads it (default: the usual one for its modality)")
    process.add_argument("--series", type=int, help="Series Number (default: the series with the most images)")
    process.add_argument("--config", help="medai.toml (default: built-in settings)")
    process.add_argument("--json", action="store_true", help="print JSON")
    process.set_defaults(run=cmd_process)
    return parser


def cmd_worker(options: argparse.Namespace) -> int:
    """Until SIGTERM."""
    config = options.config or (str(options.dir / "medai.toml") if options.dir else None)
    if options.queue:
        os.environ["MEDAI_WORKER__QUEUE"] = options.queue  # the child process reads the settings again
    settings = configuration.load(config)
    require(settings.tracing)
    logs.configure(level=settings.log.level, style=settings.log.format, process="worker")
    wait_for_ledger(settings)
    from medai.workers.app import run_worker

    return run_worker(settings, config=config)


def wait_for_ledger(settings: Settings) -> None:
    """Bring the ledger to its schema; a database that is still starting is waited for."""
    import threading

    from medai.router.ledger import Ledger, migrated

    migrated(Ledger(settings.ledger.url), threading.Event()).close()


def cmd_process(options: argparse.Namespace) -> int:
    """Files in, files out."""
    from medai.workers import process

    settings = configuration.load(options.config) if options.config else Settings()
    began = time.monotonic()

    def report(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    content = process.process(
        options.path,
        options.out,
        settings=settings,
        registry=process.registry_of(settings),
        model=options.model,
        series=options.series,
        report=report,
    )
    if options.json:
        print(process.to_json({"ok": True, **content}))
        return 0
    for item in content["measurements"]:
        print(f"{item['segment_name']:<24} {item['quantity']:<18} {item['value']:.1f} {item['unit']}")
    print(f"{content['plausibility']['verdict']}: {content['plausibility']['summary']}")
    for text in content["warnings"]:
        print(f"note: {text}")
    for name in content["files"].values():
        print(name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
