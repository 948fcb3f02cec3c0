"""Every line means something to an auditor, and each action of this system has its place in the table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_cases import JANE, bare, event, line

from medai.router.audit import events
from medai.router.audit.events import KINDS, Agent
from medai.router.ledger.audit_lines import Subject

WRITERS = {"noted": 2, "note_action": 1, "looked": 2, "note_activity": 1, "_record": -1}
"""Who writes lines down, and which argument of theirs is the action."""


def actions_of(source: Path) -> Iterator[str]:
    """The words for actions in a module, where they are written out."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in WRITERS:
            continue
        said = [word.value for word in node.keywords if word.arg == "action"]
        if 0 <= WRITERS[name] < len(node.args):
            said.append(node.args[WRITERS[name]])
        for each in said:
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value
            elif isinstance(each, ast.IfExp):
                yield from (str(arm.value) for arm in (each.body, each.orelse) if isinstance(arm, ast.Constant))


def test_each_action_that_is_written_down_has_its_place_in_the_table(project_root: Path) -> None:
    written = {word for source in (project_root / "router").rglob("*.py") for word in actions_of(source)}
    assert {"study", "login failed", "patient", "stat", "order change", "start"} <= written, "the search finds them"
    assert written - KINDS.keys() == set()


@pytest.mark.parametrize(
    ("of", "code", "action"),
    [
        (line("study"), "110103", "R"),
        (bare("patient merge", detail="1 to 2"), "110110", "U"),
        (bare("order change", detail="PL: active"), "110109", "U"),
        (bare("login failed", detail="from ::1"), "110114", "E"),
        (bare("studies"), "110112", "E"),
        (bare("audit"), "110101", "R"),
        (bare("account add", detail="bob"), "110113", "E"),
        (bare("start"), "110100", "E"),
        (line("reading", detail="mr_brain 1"), "110104", "R"),
        (line("withdraw", detail="wrong"), "110103", "D"),
        (line("something of tomorrow"), "110103", "R"),
        (bare("something of tomorrow"), "110113", "E"),
        (bare("study"), "110113", "E"),
    ],
)
def test_a_line_is_an_event(of: events.TrailLine, code: str, action: str) -> None:
    found = event(of).kind
    assert (found.event.value, found.action) == (code, action)


def test_what_went_wrong_is_no_success() -> None:
    assert event(bare("login failed", detail="from 10.1.2.3")).kind.outcome == "4"
    assert event(line("viewer refused")).kind.outcome == "4"
    assert event(bare("viewer refused")).kind.outcome == "4", "also where nobody knows the study"
    assert event(bare("login")).kind.outcome == "0"


def test_who_where_and_whose_are_read_from_the_line() -> None:
    failed = event(bare("login failed", detail="from 2001:db8::7"))
    assert (failed.agent, failed.address) == (Agent.PERSON, "2001:db8::7")
    assert event(bare("login failed", detail="password change, from 10.1.2.3")).address == "10.1.2.3"
    assert event(bare("account add", detail="from scratch")).address == ""
    assert event(line("study", address="2001:db8::7")).address == "2001:db8::7"
    assert event(line("study", address="a proxy's jest")).address == ""
    held = event(bare("merge_released", detail="4710 to 4711: name, birth date"), Subject())
    assert held.subject.identifier == "4711"
    merge = event(bare("patient merge", detail="4710 to 4711", account="(RIS)"), Subject())
    assert (merge.agent, merge.subject.identifier) == (Agent.RIS, "4711")
    held = event(line("order_held", detail="PL-1^RIS: another name than the images", account="router"))
    assert (held.agent, held.order, held.subject) == (Agent.SYSTEM, "PL-1^RIS", JANE)
