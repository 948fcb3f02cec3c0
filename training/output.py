"""What a command tells when it is done: text for people, JSON for programs.

``--json`` alone prints JSON and nothing else on standard output; ``--json FILE`` writes it beside the text.
Next: cli.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medai.models.files import whole

STDOUT = Path("-")


def json_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """``--json``: shared by commands that have a result; see ``answer``."""
    parser.add_argument(
        "--json", nargs="?", type=Path, const=STDOUT, metavar="FILE", help=f"print {what} as JSON, or write it to FILE"
    )


def answer(options: argparse.Namespace, value: Any, text: str) -> None:
    """Tell what came of a command: as text, and to a FILE as JSON; or, with ``--json`` alone, as JSON on stdout."""
    if options.json == STDOUT:
        print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
        return
    print(text)
    if options.json is not None:
        write_json(options.json, value)


def write_json(path: Path, value: Any) -> None:
    """JSON without NaN, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def portable(path: Path, folder: str = "bundles") -> str:
    """A path as it may be written into a document: where a folder lies on one machine is left out."""
    plain = not path.is_absolute() and ".." not in path.parts and path.name
    return path.as_posix() if plain else f"{folder}/{path.resolve().name}"


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """GitHub's tables."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of as many cells each, for a terminal: every column as wide as its widest cell."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
