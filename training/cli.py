"""The command ``medai-train``. Each subcommand is a module with ``add_parser``; it is imported when it is asked for.

Exit codes: 0 good, 1 failed (or refused, as ``promote`` may), 2 wrong usage or configuration. Next: config.py, fit.py.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence

from models.errors import ModelsError
from training.errors import ConfigError, TrainingError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "qa": ("training.qa", "look for faults in a data set before training on it"),
    "fit": ("training.fit", "train a network by a configuration, or go on where it stopped"),
    "evaluate": ("training.evaluate", "judge a model on cases with expert labels"),
    "compare": ("training.compare", "compare models on the same cases, with paired tests"),
    "export": ("training.export", "make a bundle of a trained network"),
    "promote": ("training.promote", "put a bundle into service, if it is not inferior to the current one"),
    "rollback": ("training.rollback", "return to the bundle that served before"),
    "template": ("training.template", "make a symmetric template of a brain, for localisation"),
    "lung-reference": ("training.lung_reference", "draw lungs in CT by a classical method, where no expert has"),
    "kind-slices": ("training.kind_slices", "cut slices that show a known body part, for series_kind"),
    "etl": ("training.etl.command", "make or run the Mage.ai pipeline that prepares a data set"),
}
EXAMPLES = """\
examples:
  medai-train qa DATA --out qa/                       an HTML report on a data set
  medai-train fit training/configs/mr_hippocampus.toml --data DATA --out runs/hippocampus
  medai-train fit ... --out runs/hippocampus --resume  go on after a kill
  medai-train export runs/hippocampus --bundle bundles/mr_hippocampus
  medai-train evaluate bundles/mr_hippocampus --data DATA --split test --json figures.json
  medai-train compare runs/unet runs/densenet runs/deeplabv3plus --data DATA --out comparison/
  medai-train promote bundles/mr_hippocampus --data HELD_OUT
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
        print(f"medai-train: {error}", file=sys.stderr)
        return 2
    except (TrainingError, ModelsError) as error:
        print(f"medai-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("medai-train: interrupted", file=sys.stderr)
        return 130


def make_parser(wanted: str) -> argparse.ArgumentParser:
    """All commands by name; only ``wanted`` with its options, because the others' modules take long to import."""
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
        if name == wanted:
            found = importlib.import_module(module)
            found.add_arguments(command)
            command.set_defaults(run=found.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
