"""What a bundle says of itself to people: its card, the figures in it, and how its training set is distributed.

Workers announce it once per version, so that the console can show it without having the model.
Next: workers/app.py, router/reports/models.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CARD = Path("docs") / "README.md"
REFERENCE = Path("docs") / "reference.json"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
"""The figures lie between these in a card; ``medai-train evaluate --card`` writes them."""
MOST_CHARACTERS = 100_000
MOST_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class OwnCard:
    """``text`` and ``figures`` are Markdown; ``text`` has no figures. Empty where the bundle holds none."""

    text: str = ""
    figures: str = ""
    reference: dict[str, Any] | None = field(default=None, hash=False)
    """docs/reference.json as it is; None: ``missing`` says why."""
    missing: str = ""


def own_card(folder: Path, fingerprint: str) -> OwnCard:
    """A bundle's card and reference; ``fingerprint``: of the weights that run now, which the reference must be of."""
    text, figures = _split(_read(folder / CARD))
    reference, missing = _reference(folder / REFERENCE, fingerprint)
    return OwnCard(text=text, figures=figures, reference=reference, missing=missing)


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "\n\n(The rest is in the bundle.)\n"


def _split(card: str) -> tuple[str, str]:
    before, begin, rest = card.partition(BEGIN)
    figures, end, after = rest.partition(END)
    if not begin or not end:
        return card, ""
    return before.rstrip().removesuffix("**Figures.**") + after, figures.strip()


def _reference(path: Path, fingerprint: str) -> tuple[dict[str, Any] | None, str]:
    make = "medai-train reference makes one where the training set is at hand"
    if not path.is_file():
        return None, f"The bundle holds no reference of its training set: {make}."
    try:
        if path.stat().st_size > MOST_BYTES:
            return None, f"{path.name} is larger than {MOST_BYTES} bytes: it is not read."
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, f"{path.name} can't be read as JSON: {make}."
    if not isinstance(content, dict) or content.get("form") != 1:
        return None, f"{path.name} is in a form that this version does not know: {make}."
    if content.get("outputs") != "labels" and content.get("fingerprint") != fingerprint:
        return None, f"{path.name} was made with other weights than these: {make}."
    return content, ""
