"""Which role may make which call and see which page: the tables that every request is held against (auth.py, pages.py).

What is not in them answers nobody. Each role may also what those above it in the table may; some calls tell more
to a higher role (``messages`` whole, surveys with names), as their own descriptions say. docs/security.md shows them:

    python -m medai.router.console.permissions docs/security.md

A test holds both equal. Next: auth.py.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from medai.router.ledger.accounts import Role

ANYBODY = frozenset({"GET /api/health", "POST /api/login"})
"""Without a login."""
CALLS: Mapping[Role, frozenset[str]] = {
    Role.SERVICE: frozenset(
        {
            "GET /api/openapi.json",
            "GET /api/me",
            "POST /api/logout",
            # what waits and what reads: of no study
            "GET /api/status",
            "GET /api/turnaround",
            "GET /api/routes",
            "GET /api/models",
            "GET /api/models/{name}/card",
            "GET /api/models/{name}/drift",
            "GET /api/models/agreement",
        }
    ),
    Role.READER: frozenset(
        {
            # of oneself
            "POST /api/me/password",
            "GET /api/tokens",
            "POST /api/tokens",
            "DELETE /api/tokens/{token_id}",
            # what was read, and why
            "GET /api/dead",
            "POST /api/rules/test",
            "GET /api/edits",
            "GET /api/studies",
            "GET /api/studies/{study_id}",
            "GET /api/readings/{job_id}/key-image",
            "GET /api/readings/{job_id}/slices",
            "GET /api/readings/{job_id}/slices/{number}/image",
            "GET /api/readings/{job_id}/slices/{number}/outlines",
            "GET /api/readings/{job_id}/report",
            "GET /api/readings/{job_id}/messages",
            # what one says of it
            "GET /api/surveys/sus",
            "POST /api/surveys/sus",
            "GET /api/surveys/usefulness/{job_id}",
            "POST /api/surveys/usefulness/{job_id}",
        }
    ),
    Role.OPERATOR: frozenset(
        {
            # whose it is
            "GET /api/studies/{study_id}/patient",
            "GET /dicom-web/studies",
            "GET /dicom-web/studies/{path}",
            # what an order says: placer and accession number
            "GET /api/held",
            "GET /api/held/merges",
            # act
            "POST /api/held/{hold_id}/release",
            "POST /api/held/{hold_id}/reject",
            "POST /api/held/merges/{hold_id}/release",
            "POST /api/held/merges/{hold_id}/reject",
            "POST /api/readings/{job_id}/stat",
            "POST /api/readings/{job_id}/cancel",
            "POST /api/readings/{job_id}/again",
            "POST /api/readings/{job_id}/withdraw",
            "POST /api/dead/{letter_id}/retry",
            "POST /api/dead/{letter_id}/drop",
            # what all said
            "GET /api/surveys/summary",
            "GET /api/surveys/sus.csv",
            "GET /api/surveys/usefulness.csv",
        }
    ),
    Role.ADMINISTRATOR: frozenset(
        {
            "GET /api/audit",
            "GET /api/accounts",
            "POST /api/accounts",
            "POST /api/accounts/{name}/password",
            "POST /api/accounts/{name}/role",
            "POST /api/accounts/{name}/disable",
            "POST /api/accounts/{name}/enable",
        }
    ),
}


OPEN_PAGES = frozenset({"/login", "/login/oidc", "/login/oidc/back"})
"""Without a login; so are the files of pages and viewer, among which is no secret."""
PAGES: Mapping[Role, frozenset[str]] = {
    Role.SERVICE: frozenset(),
    Role.READER: frozenset(
        {
            "/",
            "/studies",
            "/studies/{study_id}",
            "/readings/{job_id}/key-image",
            "/readings/{job_id}/usefulness",
            "/rules",
            "/models",
            "/models/{name}",
            "/agreement",
            "/surveys",
            "/sessions",
            "/tokens",
        }
    ),
    Role.OPERATOR: frozenset({"/held", "/viewer", "/studies/{study_id}/viewer", "/readings/{job_id}/viewer"}),
    Role.ADMINISTRATOR: frozenset({"/audit", "/accounts"}),
}
FOR = {
    Role.SERVICE: "a program that watches; no study, no password",
    Role.READER: "who reads images: looks, and says what a result was worth",
    Role.OPERATOR: "who acts on readings and orders, and sees whose they are",
    Role.ADMINISTRATOR: "who makes accounts and reads the audit trail",
}
MARKED = re.compile(r"(<!-- table roles -->\n).*?(<!-- end of table -->)", re.DOTALL)


def needed(call: str) -> Role | None:
    """The lowest role that may make a call ("GET /api/me"); None: no role may."""
    return next((role for role in Role if call in CALLS[role]), None)


def needed_by_page(path: str) -> Role | None:
    """The lowest role that may see a page ("/studies/{study_id}"); None: no role may."""
    return next((role for role in Role if path in PAGES[role]), None)


def table() -> str:
    """What each role may, beside what those before it may, for people."""
    lines = ["| role | is for | calls of the API | pages |", "|---|---|---|---|"]
    lines.append(f"| (without a login) | | {_listed(ANYBODY)} | {_listed(OPEN_PAGES)} |")
    lines += [f"| {role.value} | {FOR[role]} | {_listed(CALLS[role])} | {_listed(PAGES[role])} |" for role in Role]
    return "\n".join(lines)


def filled(page: str) -> str:
    """A page of the documentation with the table as it is now."""
    return MARKED.sub(lambda found: f"{found[1]}\n{table()}\n\n{found[2]}", page)


def _listed(names: frozenset[str]) -> str:
    ordered = sorted(names, key=lambda name: (name.partition(" ")[2] or name, name))
    return ", ".join(f"`{name}`" for name in ordered)


if __name__ == "__main__":
    shown = Path(sys.argv[1])
    shown.write_text(filled(shown.read_text(encoding="utf-8")), encoding="utf-8")
