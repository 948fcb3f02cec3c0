"""The command ``medai-train``. Each subcommand is a module with ``add_parser``; it is imported when it is asked for.

Exit codes: 0 good, 1 failed (or refused, as ``promote`` may), 2 wrong usage or configuration. Next: config.py,
fitting/fit.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence

from medai.models.errors import ModelsError
from medai.training.errors import ConfigError, TrainingError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "qa": ("medai.training.qa.command", "look for faults in a data set before training on it"),
    "edits": ("medai.training.data.edits", "make a data set of what readers corrected in our results"),
    "fit": ("medai.training.fitting.fit", "train a network by a configuration, or go on where it stopped"),
    "evaluate": ("medai.training.judging.evaluate", "judge a model on cases with expert labels"),
    "reference": (
        "medai.training.judging.reference",
        "keep how the training set is distributed, for the console to compare with",
    ),
    "compare": ("medai.training.judging.compare", "compare models on the same cases, with paired tests"),
    "export": ("medai.training.export.bundle", "make a bundle of a trained network"),
    "promote": (
        "medai.training.judging.promote",
        "put a bundle into service, if it is not inferior to the current one",
    ),
    "rollback": ("medai.training.judging.rollback", "return to the bundle that served before"),
    "template": ("medai.training.data.template", "make a symmetric template of a brain, for localisation"),
    "lung-reference": (
        "medai.training.data.lung_reference",
        "draw lungs in CT by a classical method, where no expert has",
    ),
    "kind-slices": ("medai.training.data.kind_slices", "cut slices that show a known body part, for series_kind"),
    "etl": ("medai.training.etl.command", "make or run the Mage.ai pipeline that prepares a data set"),
}
ALL = "*"
EXAMPLES = """\
examples:
  medai-train qa DATA --out qa/                       an HTML report on a data set
  medai-train edits EXPORT --out DATA                 of what 'medai edits export' wrote
  medai-train fit training/configs/mr_hippocampus.toml --data DATA --out runs/hippocampus
  medai-train fit ... --out runs/hippocampus --resume  go on after a kill
  medai-train export runs/hippocampus --bundle bundles/mr_hippocampus
  medai-train evaluate bundles/mr_hippocampus --data DATA --split test --json figures.json
  medai-train compare runs/unet runs/densenet runs/deeplabv3plus --data DATA --out comparison/
  medai-train promote bundles/mr_hippocampus --data HELD_OUT

With --json standard output is one JSON document, and an error is JSON on standard error.
Exit codes: 0 good, 1 failed or refused (qa: errors found), 2 wrong usage or configuration, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser(arguments[0] if arguments else "")
    options = parser.parse_args(arguments)
    if not options.command:
        parser.print_help()
        return 0
    try:
        return int(options.run(options))
    except ConfigError as error:
        return _failed(options, str(error), 2)
    except (TrainingError, ModelsError) as error:
        return _failed(options, str(error), 1)
    except KeyboardInterrupt:
        return _failed(options, "interrupted", 130)


def _failed(options: argparse.Namespace, text: str, code: int) -> int:
    """The reason on standard error, as JSON where that was asked for; returns the exit code."""
    said = json.dumps({"error": text, "exit_code": code}) if options.json else f"medai-train: {text}"
    print(said, file=sys.stderr)
    return code


def make_parser(wanted: str) -> argparse.ArgumentParser:
    """All commands by name; only ``wanted`` with its options, because the others' modules take long to import.

    ALL gives every command its options.
    """
    parser = argparse.ArgumentParser(
        prog="medai-train",
        description="Med-AI's offline training: data sets, fitting, judging, comparing, promoting.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if wanted in (name, ALL):
            found = importlib.import_module(module)
            found.add_arguments(command)
            command.set_defaults(run=found.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
