"""Hold every package of requirements.lock against known advisories, without a network.

    .venv/bin/python deploy/advisories.py             fails where a locked version is in an advisory's range
    .venv/bin/python deploy/advisories.py --refresh   asks OSV (osv.dev) anew about each package, and writes the list

The list is advisories.toml beside this file; it says of which day it is, and an old one is warned of. pip-audit would
need PyPI or OSV each time. Next: locked.py, docs/security.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from locked import LOCK, Locked, read
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LIST = Path(__file__).with_name("advisories.toml")
OSV = "https://api.osv.dev"
OLD = datetime.timedelta(days=90)
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Advisory:
    """A known fault of one package."""

    package: str
    id: str
    affected: tuple[str, ...]
    """Ranges as in PEP 440; a version that is in any of them is affected."""
    summary: str

    def concerns(self, version: str) -> bool:
        """Whether that version has the fault."""
        return any(SpecifierSet(each).contains(Version(version), prereleases=True) for each in self.affected)


@dataclass(frozen=True)
class Known:
    """The list."""

    date: datetime.date
    accepted: Mapping[str, str]
    """Advisory -> why it does not concern us."""
    advisories: tuple[Advisory, ...]

    def found(self, locked: Iterable[Locked]) -> list[tuple[Locked, Advisory]]:
        """Packages with advisories that concern them and were not accepted."""
        open_ones = [each for each in self.advisories if each.id not in self.accepted]
        return [
            (one, each)
            for one in locked
            for each in open_ones
            if each.package == one.name and each.concerns(one.version)
        ]


def known(text: str) -> Known:
    """The list as it is written. Raises ValueError, KeyError where it is not as ``written`` makes it."""
    said = tomllib.loads(text)
    advisories = [
        Advisory(canonicalize_name(each["package"]), each["id"], tuple(each["affected"]), each["summary"])
        for each in said.get("advisory", [])
    ]
    return Known(said["date"], said.get("accepted", {}), tuple(advisories))


def written(said: Known) -> str:
    """The list as a file."""
    lines = [
        "# Known advisories for packages that we pin: deploy/advisories.py holds requirements.lock against them.",
        "# It wrote this by --refresh, from OSV (osv.dev; entries: CC-BY 4.0 or CC0); edit [accepted] alone.",
        f"date = {said.date.isoformat()}",
        "",
        "# An advisory that is known and does not concern us: its id = why.",
        "[accepted]",
        *(f"{json.dumps(key)} = {json.dumps(why)}" for key, why in sorted(said.accepted.items())),
    ]
    for each in sorted(said.advisories, key=lambda each: (each.package, each.id)):
        lines += ["", "[[advisory]]", f"package = {json.dumps(each.package)}", f"id = {json.dumps(each.id)}"]
        lines += [f"affected = {json.dumps(list(each.affected))}", f"summary = {json.dumps(each.summary)}"]
    return "\n".join(lines) + "\n"


def asked(package: str, source: str, http: urllib3.PoolManager) -> Iterator[Advisory]:
    """What OSV knows of a package; the same fault under two names once. Raises HTTPError, ValueError."""
    seen: dict[str, Advisory] = {}
    for entry in _entries(package, source, http):
        names = {str(entry["id"]), *map(str, entry.get("aliases", []))}
        twin = next((seen[name] for name in names if name in seen), None)
        ranges = dict.fromkeys([*(twin.affected if twin else ()), *_ranges(entry, package)])
        words = str(entry.get("summary") or entry.get("details", "")).strip().partition("\n")[0][:200]
        one = Advisory(package, twin.id if twin else str(entry["id"]), tuple(ranges), twin.summary if twin else words)
        seen |= dict.fromkeys(names | {one.id}, one)
    yield from {one.id: one for one in seen.values() if one.affected}.values()


def _entries(package: str, source: str, http: urllib3.PoolManager) -> Iterator[dict[str, Any]]:
    question: dict[str, Any] = {"package": {"name": package, "ecosystem": "PyPI"}}
    while True:
        answer = http.request("POST", f"{source}/v1/query", json=question, timeout=TIMEOUT_S)
        if answer.status != 200:
            raise ValueError(f"{source} answered {answer.status} about {package}")
        said = answer.json()
        yield from (entry for entry in said.get("vulns", []) if not entry.get("withdrawn"))
        if not said.get("next_page_token"):
            return
        question["page_token"] = said["next_page_token"]


def _ranges(entry: Mapping[str, Any], package: str) -> Iterator[str]:
    for affected in entry.get("affected", []):
        if canonicalize_name(affected.get("package", {}).get("name", "")) != package:
            continue
        spans = [
            one for each in affected.get("ranges", []) if each["type"] == "ECOSYSTEM" for one in _spans(each["events"])
        ]
        yield from spans or [f"=={version}" for version in affected.get("versions", []) if _is_version(version)]


def _spans(events: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Events of a range as specifiers: introduced, then fixed or last_affected or neither. OSV promises no order."""
    said = [(kind, version) for event in events for kind, version in event.items() if _is_version(version)]
    begun = ""
    for kind, version in sorted(said, key=lambda event: (Version(event[1]), event[0] == "introduced")):
        if kind == "introduced":
            begun = begun or f">={version}"
        elif begun and kind in ("fixed", "last_affected"):
            yield f"{begun},{'<' if kind == 'fixed' else '<='}{version}"
            begun = ""
    if begun:
        yield begun


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def refreshed(before: Known, locked: Iterable[Locked], source: str, today: datetime.date) -> Known:
    """The list as OSV has it now; what was accepted stays accepted."""
    http = urllib3.PoolManager(retries=urllib3.Retry(3, backoff_factor=1.0))
    found = [each for name in sorted({each.name for each in locked}) for each in asked(name, source, http)]
    return Known(today, before.accepted, tuple(found))


def check(said: Known, locked: Sequence[Locked], today: datetime.date) -> int:
    """Tell; the exit status."""
    print(f"{len(said.advisories)} advisories of {said.date} against {len(locked)} packages")
    if today - said.date > OLD:
        print(
            f"the list is {(today - said.date).days} days old: deploy/advisories.py --refresh, where there is a network"
        )
    found = said.found(locked)
    for one, each in found:
        print(
            f"{one.name} {one.version}: {each.id}: {each.summary} (affected: {'; '.join(each.affected)})",
            file=sys.stderr,
        )
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, or refresh and check; the exit status."""
    asking = argparse.ArgumentParser(description="Hold requirements.lock against known advisories.")
    asking.add_argument("--refresh", action="store_true", help="ask OSV about each package first, and write the list")
    asking.add_argument("--source", default=OSV, metavar="URL", help="who answers like OSV (%(default)s)")
    asking.add_argument("--list", type=Path, default=LIST, metavar="FILE", help="the list (%(default)s)")
    asking.add_argument("--lock", type=Path, default=LOCK, metavar="FILE", help="the lock (%(default)s)")
    told = asking.parse_args(arguments)
    locked = read(told.lock.read_text(encoding="utf-8"))
    said = known(told.list.read_text(encoding="utf-8"))
    today = datetime.datetime.now(datetime.UTC).date()
    if told.refresh:
        try:
            said = refreshed(said, locked, told.source, today)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            print(f"the list stays as it was: {error}", file=sys.stderr)
            return 2
        told.list.write_text(written(said), encoding="utf-8")
    return check(said, locked, today)


if __name__ == "__main__":
    sys.exit(main())
