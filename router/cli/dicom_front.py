"""``medai dicom-front``: a command and a process of its own, which loads little. Next: dicom_front/relay.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medai.router import log as logs
from medai.router.cli.options import load_settings
from medai.router.dicom_front import relay
from medai.router.errors import SettingsError, failed
from medai.router.private import keep_private
from medai.router.settings.dicom_in import DicomFrontSettings


def make_parser() -> argparse.ArgumentParser:
    """Its options."""
    parser = argparse.ArgumentParser(
        prog="medai dicom-front",
        description="Stand before the archive's DICOM port, as [dicom_in.front] says: only whole requests get through.",
        epilog="example: medai dicom-front --config medai.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, help="directory of a system made by 'medai up' (default: .medai/site)")
    parser.add_argument("--config", help="medai.toml (default: that of --dir, ./medai.toml, /etc/medai/medai.toml)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Stand before the archive's DICOM port until told to stop; returns the exit code."""
    options = make_parser().parse_args(argv)
    keep_private()
    own = DicomFrontSettings()
    try:
        settings = load_settings(options)
        own = settings.dicom_in.front
        if not own.is_on:
            raise SettingsError("[dicom_in.front] port is 0: say which port the scanners send to")
        logs.configure(level=settings.log.level, style=settings.log.format, process="dicom-front")
        relay.run(settings.dicom_in)
    except SettingsError as error:
        return failed(options, str(error), 2)
    except OSError as error:
        return failed(options, f"port {own.port} of {own.host} cannot be listened on: {error.strerror}", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
