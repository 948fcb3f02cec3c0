"""Which role may make which call: the table that every call of the API is held against (auth.py).

A call that is not in it answers nobody. Each role may also what those above it in the table may; some calls tell more
to a higher role (``messages`` whole, surveys with names), as their own descriptions say. Next: auth.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from medai.router.ledger.accounts import Role

ANYBODY = frozenset({"GET /api/health", "POST /api/login"})
"""Without a login."""
CALLS: Mapping[Role, frozenset[str]] = {
    Role.VIEWER: frozenset(
        {
            "GET /api/openapi.json",
            # of oneself
            "GET /api/me",
            "POST /api/me/password",
            "POST /api/logout",
            "GET /api/tokens",
            "POST /api/tokens",
            "DELETE /api/tokens/{token_id}",
            # what waits, what was read, why
            "GET /api/status",
            "GET /api/turnaround",
            "GET /api/dead",
            "GET /api/routes",
            "POST /api/rules/test",
            "GET /api/models",
            "GET /api/models/{name}/card",
            "GET /api/models/{name}/drift",
            "GET /api/models/agreement",
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
            # act
            "POST /api/held/{hold_id}/release",
            "POST /api/held/{hold_id}/reject",
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
    Role.ADMIN: frozenset(
        {
            "GET /api/audit",
            "GET /api/accounts",
            "POST /api/accounts",
            "POST /api/accounts/{name}/password",
            "POST /api/accounts/{name}/disable",
            "POST /api/accounts/{name}/enable",
        }
    ),
}


def needed(call: str) -> Role | None:
    """The lowest role that may make a call ("GET /api/me"); None: no role may."""
    return next((role for role in Role if call in CALLS[role]), None)
