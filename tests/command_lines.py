"""The commands of ``medai`` and ``medai-train`` by their parsers, and the commands that the pages show."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medai.hl7_mock import cli as ris
from medai.router.cli import dicom_front
from medai.router.cli import main as medai
from medai.training import cli as train
from medai.trials import trial_cli
from medai.trials.demo import command as demo
from medai.trials.scanner import command as scan_cli
from medai.workers import cli as worker
from medai.workers import models_cli
from medai.workers.outside import cli as outside

Parser = argparse.ArgumentParser


def commands() -> Iterator[tuple[str, Parser, Parser]]:
    """Each command that can be run: its whole name, its parser, and the parser that takes the words after ``medai``."""
    own = medai.make_parser()
    yield from leaves("medai", own, own, leave_out=tuple(medai.ELSEWHERE))
    yield from leaves("medai", worker.make_parser(), worker.make_parser())
    yield from leaves("medai models", models_cli.make_parser(), models_cli.make_parser())
    yield "medai deidentify", outside.make_parser(), outside.make_parser()
    yield "medai dicom-front", dicom_front.make_parser(), dicom_front.make_parser()
    yield "medai demo", demo.make_parser(), demo.make_parser()
    yield "medai scan", scan_cli.make_parser(), scan_cli.make_parser()
    yield from leaves("medai trial", trial_cli.make_parser(), trial_cli.make_parser())
    yield "medai ris", ris.parser({}), ris.parser({})
    every = train.make_parser(train.ALL)
    yield from leaves("medai-train", every, every)


def leaves(
    name: str, parser: Parser, whole: Parser, leave_out: tuple[str, ...] = ()
) -> Iterator[tuple[str, Parser, Parser]]:
    """The commands below a parser."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name, parser, whole
    for group in groups:
        for word, inner in group.choices.items():
            if word not in leave_out:
                yield from leaves(f"{name} {word}", inner, whole)


def words_after(line: str, name: str) -> list[str]:
    """The arguments of an example, as its parser takes them: without a remark, a redirection or what leads to it."""
    words = shlex.split(line.split("   ")[0].split(" > ")[0])
    apart = ("models", "deidentify", "demo", "dicom-front", "ris", "scan", "trial")
    leading = {f"medai {each}": 2 for each in apart}
    return words[next((count for start, count in leading.items() if name.startswith(start)), 1) :]


# -- what the pages show

PROGRAMS = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:\./medai|medai|medai-train|\.ci/run|python|\.venv/bin/python|curl|docker|promtool|export|cat)(?=\s|$)"
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^    \S.*\n)+", re.MULTILINE)
SHELL = ("sh", "console")


@dataclass(frozen=True)
class Shown:
    """A command that a page shows, without its remark."""

    page: str
    text: str
    """On one line; of a "here document" the first line."""
    script: str
    """As a shell takes it."""


def shown_in(page: str, text: str) -> list[Shown]:
    """Each command of a page's blocks: fenced as ``sh`` or ``console``, or bare and beginning with a program of ours."""
    found: list[Shown] = []
    for language, block in BLOCK.findall(text):
        if language in SHELL or (not language and PROGRAMS.match(block)):
            found += _commands(page, block)
    for block in INDENTED.findall(BLOCK.sub("", text)):
        if PROGRAMS.match(block.lstrip()):
            found += _commands(page, block)
    return found


def _commands(page: str, block: str) -> Iterator[Shown]:
    block = re.sub(r"\\\n\s*", "", block)
    lines = iter(line.strip() for line in block.splitlines() if line.strip())
    prompt = "$ " if re.search(r"^\$ ", block, re.MULTILINE) else ""
    for line in lines:
        if not line.startswith(prompt):
            continue  # what a command printed
        line = line.removeprefix(prompt)
        text = re.split(r"\s{2,}|\s#\s", line)[0]
        script = text
        if end := re.search(r"<<'(\w+)'$", text):
            for more in lines:
                script += f"\n{more}"
                if more == end[1]:
                    break
        yield Shown(page, text, script)


def every_shown(root: Path) -> list[Shown]:
    """Of README.md, CONTRIBUTING.md and docs/."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    return [each for page in pages for each in shown_in(str(page.relative_to(root)), page.read_text(encoding="utf-8"))]


def parse(text: str) -> str | None:
    """Let the parser of a ``medai`` or ``medai-train`` command take it; its whole name, None for another program.

    Exits, as the parser does, where it does not parse.
    """
    line = text.removeprefix("./")
    names = {name: whole for name, _, whole in commands()}
    fit = [name for name in names if line == name or line.startswith(f"{name} ")]
    if not fit:
        return None
    name = max(fit, key=len)
    names[name].parse_args(words_after(line, name))
    return name
