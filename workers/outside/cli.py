"""``medai deidentify``. Next: files.py."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from medai.router.errors import MedaiError, SettingsError, failed
from medai.router.private import keep_private
from medai.router.settings import load as configuration
from medai.router.settings.tables import Settings
from medai.router.words import counted


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 good, 1 something could not be taken off its patient, 2 wrong usage."""
    keep_private()
    options = make_parser().parse_args(argv)
    try:
        return run(options)
    except SettingsError as error:
        return failed(options, str(error), 2)
    except MedaiError as error:
        return failed(options, str(error), 1)


def make_parser() -> argparse.ArgumentParser:
    """Its options."""
    parser = argparse.ArgumentParser(
        prog="medai deidentify",
        description="Write images without their patients (DICOM PS3.15 Annex E, basic profile). What may show or hold "
        "a name is left out and counted.",
        epilog="example: medai deidentify STUDY/ CLEAN/ --key-file project.key",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="a DICOM file, or a folder of them")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument(
        "--key-file",
        type=Path,
        help="key of the pseudonyms, made if absent: with it, a patient's later images get the same ones "
        "(default: a key that is thrown away)",
    )
    parser.add_argument("--config", help="medai.toml (default: built-in settings)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(options: argparse.Namespace) -> int:
    """Files in, files out."""
    from medai.workers.outside.files import deidentify_folder, key_of

    settings = configuration.load(options.config) if options.config else Settings()
    done = deidentify_folder(options.source, options.out, key_of(options.key_file), worker=settings.worker)
    good = done.written > 0 and not done.left_out
    if options.json:
        content = {"ok": good, "written": done.written, "left_out": dict(done.left_out), "no_dicom": done.passed_over}
        print(json.dumps(content, indent=2))
        return 0 if good else 1
    passed = f"{counted(done.passed_over, 'file')} passed over that {'is' if done.passed_over == 1 else 'are'} no DICOM"
    print(f"{counted(done.written, 'image')} written, {passed}")
    for reason, count in done.left_out.most_common():
        print(f"left out: {counted(count, 'image')}: {reason}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
