"""``medai-train rollback``: return to a version that served before. It is recorded like a promotion.

Nothing is judged: a model that does harm must go at once. Next: promote.py, models/format/versions.py.
"""

from __future__ import annotations

import argparse
import getpass
import json
from datetime import UTC, datetime
from pathlib import Path

from medai.models.format import versions
from medai.models.registry import SHIPPED
from medai.training.errors import TrainingError
from medai.training.judging.promote import record

EXAMPLES = """\
examples:
  medai-train rollback mr_hippocampus --into /srv/models --reason "draws the amygdala in scanner B's images"
  medai-train rollback mr_hippocampus --into /srv/models --list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``medai-train rollback``."""
    parser.epilog = EXAMPLES
    parser.add_argument("name", metavar="NAME", help="the model")
    parser.add_argument("--into", type=Path, default=SHIPPED, metavar="FOLDER", help="the folder of models that serve")
    parser.add_argument("--to", default="", metavar="VERSION", help="which version (default: the one that served last)")
    parser.add_argument("--by", default="", metavar="NAME", help="who (default: the user of this machine)")
    parser.add_argument("--reason", default="", help="why; it goes into the record")
    parser.add_argument("--list", action="store_true", help="only say which versions there are")
    parser.add_argument("--json", action="store_true", help="print the record's line as JSON")


def run(options: argparse.Namespace) -> int:
    """Exchange the folders and record it. Raises TrainingError, ModelUnavailable."""
    current = versions.current(options.into, options.name)
    earlier = [item.version for item in versions.previous(options.into, options.name)]
    if options.list:
        serves = current.version if current else None
        known = {"model": options.name, "serves": serves, "before": earlier}
        text = f"{serves or 'none'} serves; before: {', '.join(earlier) or 'none'}"
        print(json.dumps(known, indent=2) if options.json else text)
        return 0
    if not options.reason.strip():
        raise TrainingError("say why: --reason TEXT goes into the record")
    if not earlier:
        raise TrainingError(f"{options.name} has no earlier version in {options.into}: there is nothing to return to")
    version = options.to or earlier[0]
    if current is not None and current.version == version:
        raise TrainingError(f"{options.name} {version} serves already")
    found = versions.restore(options.into, options.name, version)
    entry = {
        "action": "rolled back",
        "model": options.name,
        "by": options.by or getpass.getuser(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "from": current.version if current else None,
        "to": found.version,
        "reason": options.reason.strip(),
    }
    record(options.into, entry)
    print(json.dumps(entry, indent=2, ensure_ascii=False) if options.json else f"{options.name} {version} serves again")
    return 0
