"""Whatever a docstring, a comment or a page names is there: files, folders, sections, anchors, modules and commands."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from medai.router.cli.main import ELSEWHERE
from medai.router.cli.main import make_parser as medai
from medai.training.cli import COMMANDS as TRAINING
from medai.trials.trial_cli import make_parser as trial
from medai.workers.models_cli import make_parser as models

ROOT = Path(__file__).resolve().parents[2]
HISTORY = "CHANGELOG.md"
SCRIPTS = ("medai", "pyproject.toml", ".ci/run")
MADE = frozenset({
    "medai.toml", "site.json",  # of a site
    "docker-entrypoint.sh",  # of an image of others
    "metadata.json", "inference.json", "reference.json", "split.json", "training.toml", "description.toml", "model.ts", "README.md",
    "lungs.json", "spleen.json",  # of a bundle
    "labels.csv", "patients.csv", "dataset.json", "manifest.json", "config.toml", "step.json", "plans.json",  # of a data set
    "history.csv", "summary.json", "figures.json", "cases.csv", "table.md", "table.csv", "comparison.json",  # of a run
    "promotion.toml", "report.html", "trial.json", "Node.js", "mine.toml", "chaos.json", "u.csv", "sus.csv", "audit.csv",
})  # fmt: skip
"""Files that commands write or users bring: none of this repository. A name with a part in capitals stands for any."""
FILE = re.compile(
    r"(?<![\w/.*{}<>$~-])(?P<name>(?:\.?[\w-]+/)*\.?[\w-]+\.(?:py|md|toml|html|js|mjs|css|json|ya?ml|csv|sh|svg|png))(?![\w*/])(?!\.\w)"
    r"(?:#(?P<anchor>[\w-]+)|, section (?P<section>\d+))?"
)
LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\((?P<to>[^)\s]+)\)")
MODULE = re.compile(
    r"(?<![\w/.-])medai\.(?P<dotted>(?:router|workers|models|training|hl7_mock|trials)\b(?:\.\w+)*)(?![\w.]*\[)"
)
COMMAND = re.compile(r"(?<![\w/.-])(?:\./)?(?P<program>medai|medai-train) (?P<words>[a-z][a-z-]*(?: [a-z][a-z-]+)?)")
TESTS_COMMAND = frozenset({"setup", "test", "chaos"})
"""What the script ./medai does itself."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A stretch of text, and where it stands."""

    file: str
    line: int
    text: str

    def at(self, position: int) -> str:
        return f"{self.file}:{self.line + self.text.count(chr(10), 0, position)}"


@cache
def tracked() -> tuple[str, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(sorted(name for name in set(listed.stdout.splitlines()) if (ROOT / name).is_file()))


@cache
def places() -> frozenset[str]:
    """Every file and folder of the repository."""
    folders = {str(parent) for name in tracked() for parent in Path(name).parents}
    return frozenset(tracked()) | folders


@cache
def passages() -> tuple[Passage, ...]:
    """Docstrings and comments of the code, and the pages that people read."""
    found: list[Passage] = []
    for name in tracked():
        if name.endswith(".py"):
            found += [each for each, is_code in texts(name) if not is_code]
        elif name.endswith(".js"):
            found += comments(name, r"//.*")
        elif is_page(name) or name.endswith((".yml", ".service", "Dockerfile")) or name in SCRIPTS:
            found.append(Passage(file=name, line=1, text=(ROOT / name).read_text(encoding="utf-8")))
    return tuple(found)


def is_page(name: str) -> bool:
    return name.endswith(".md") and not name.startswith("models/bundles/")


@cache
def texts(name: str) -> tuple[tuple[Passage, bool], ...]:
    """Docstrings and comments of a module, and (True) its other texts: messages and help."""
    docs, found = set(), []
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):  # a parent comes before its children
        if isinstance(node, ast.Expr):
            docs.add(id(node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append((Passage(file=name, line=node.lineno, text=node.value), id(node) not in docs))
    return (*found, *((each, False) for each in comments(name, r"(?:^|(?<=\s))# .*")))


def comments(name: str, pattern: str) -> list[Passage]:
    lines = enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1)
    return [Passage(file=name, line=at, text=said[0]) for at, line in lines for said in re.finditer(pattern, line)]


def found_at(file: str, name: str) -> str:
    """The place that ``name`` means where ``file`` names it; empty where there is none.

    A name begins in the same folder (in a unit test: also in that of the module it tests), in the same top folder, or
    at the root.
    """
    here, top = Path(file).parent, Path(file).parts[0]
    bases = [here, Path(str(here).removeprefix("tests/unit/")), Path(top), Path()]
    candidates = (_normal(str(base / name)) for base in bases)
    return next((each for each in candidates if each in places()), "")


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in Path(path).parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


@cache
def headings(page: str) -> tuple[str, ...]:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return tuple(re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE))


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def wrong_files() -> Iterator[str]:
    for passage in passages():
        for match in FILE.finditer(passage.text):
            place = found_at(passage.file, match["name"])
            if place:
                yield from _wrong_part(passage, match, place)
            elif not _elsewhere(passage, match):
                yield f"{passage.at(match.start())} names {match['name']}, which is not there"


def _elsewhere(passage: Passage, match: re.Match[str]) -> bool:
    """Whether the name is of no file that should be here: a link (judged as one), an address, a made file, the past."""
    word = passage.text[: match.start()].rpartition(" ")[2]
    parts = match["name"].split("/")
    return (
        "](" in word or "//" in word or ":" in word
        or (parts[-1] in MADE and (parts[0] == "docs" or not (ROOT / parts[0]).is_dir()))
        or any(Path(part).stem.isupper() for part in parts)
        or passage.file == HISTORY
    )  # fmt: skip


def _wrong_part(passage: Passage, match: re.Match[str], place: str) -> Iterator[str]:
    if match["anchor"] and match["anchor"] not in map(anchor, headings(place)):
        yield f"{passage.at(match.start())} names {match[0]}, and {place} has no such heading"
    if match["section"] and not any(each.startswith(f"{match['section']}. ") for each in headings(place)):
        yield f"{passage.at(match.start())} names {match[0]}, and {place} has no such section"


def wrong_links() -> Iterator[str]:
    for name in filter(is_page, tracked()):
        text = (ROOT / name).read_text(encoding="utf-8")
        passage = Passage(file=name, line=1, text=text)
        for match in LINK.finditer(re.sub(r"`[^`\n]*`", lambda code: " " * len(code[0]), text)):
            to, _, part = match["to"].partition("#")
            if "://" in to:
                continue
            place = _normal(str(Path(name).parent / to)) if to else name
            if place not in places():
                yield f"{passage.at(match.start())} links to {to}, which is not there"
            elif part and part not in map(anchor, headings(place)):
                yield f"{passage.at(match.start())} links to {match['to']}, and {place} has no such heading"


def wrong_modules() -> Iterator[str]:
    for passage in passages():
        for match in MODULE.finditer(passage.text):
            if not _is_module(match["dotted"].split(".")):
                yield f"{passage.at(match.start())} names {match[0]}, which is no module and no name in one"


def _is_module(dotted: list[str]) -> bool:
    if "/".join(dotted) in places():
        return True
    for length in range(len(dotted), 0, -1):
        path = "/".join(dotted[:length])
        for source in (f"{path}.py", f"{path}/__init__.py"):
            if source in places():
                text = (ROOT / source).read_text(encoding="utf-8")
                return all(re.search(rf"\b{name}\b", text) for name in dotted[length:])
    return False


def _choices(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _words(parser: argparse.ArgumentParser) -> frozenset[str]:
    """Words that may follow a command: its own commands, else the choices of its first argument."""
    first = next((a.choices for a in parser._actions if not a.option_strings and a.choices is not None), ())
    return frozenset(map(str, first))


@cache
def commands() -> Mapping[str, frozenset[str] | None]:
    """``medai X`` -> the words of which the next must be one; None: anything may follow."""
    known: dict[str, frozenset[str] | None] = {}
    for name, parser in _choices(medai()).items():
        known[f"medai {name}"] = _words(parser) or None
    known |= {f"medai {name}": None for name in (*ELSEWHERE, *TESTS_COMMAND)}
    known |= {f"medai-train {name}": None for name in TRAINING}
    known["medai trial"] = frozenset(_choices(trial()))
    known["medai models"] = frozenset(_choices(models()))
    return known


def wrong_commands() -> Iterator[str]:
    for name in tracked():
        if name.endswith(".py"):
            for passage, _ in texts(name):
                yield from _wrong_commands(passage, re.compile(r"``[^`]+``|'medai[^'\n]*'"))
        elif is_page(name):
            passage = Passage(file=name, line=1, text=(ROOT / name).read_text(encoding="utf-8"))
            yield from _wrong_commands(passage, re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL))


def _wrong_commands(passage: Passage, code: re.Pattern[str]) -> Iterator[str]:
    for span in code.finditer(passage.text):
        for match in COMMAND.finditer(span[0]):
            first, _, second = match["words"].partition(" ")
            said = f"{match['program']} {first}"
            where = passage.at(span.start() + match.start())
            if said not in commands():
                yield f"{where} names the command {said!r}, which is not there"
            elif second and (words := commands()[said]) is not None and second not in words:
                yield f"{where} names {said + ' ' + second!r}; after {said!r} come {', '.join(sorted(words))}"


@pytest.mark.parametrize("wrong", [wrong_files, wrong_links, wrong_modules, wrong_commands])
def test_what_is_named_is_there(wrong: Callable[[], Iterator[str]]) -> None:
    assert "\n".join(sorted(set(wrong()))) == ""


@pytest.mark.parametrize(
    ("file", "name", "place"),
    [
        ("router/queue/sweeper.py", "broker.py", "router/queue/broker.py"),
        ("router/queue/sweeper.py", "contract.py", "router/contract.py"),
        ("router/queue/sweeper.py", "ledger/schema.py", "router/ledger/schema.py"),
        ("router/queue/sweeper.py", "workers/pipeline.py", "workers/pipeline.py"),
        ("router/queue/sweeper.py", "schema.py", ""),
        ("router/queue/sweeper.py", "docs/decisions.md", "docs/decisions.md"),
        ("docs/routes.md", "decisions.md", "docs/decisions.md"),
        ("docs/routes.md", "../README.md", "README.md"),
        ("README.md", "docs/nothing.md", ""),
    ],
)
def test_a_name_means_one_place(file: str, name: str, place: str) -> None:
    assert found_at(file, name) == place


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("6. Stamps and stages", "6-stamps-and-stages"),
        ("What is checked, and what is refused", "what-is-checked-and-what-is-refused"),
    ],
)
def test_an_anchor_is_made_of_its_heading(heading: str, expected: str) -> None:
    assert anchor(heading) == expected
