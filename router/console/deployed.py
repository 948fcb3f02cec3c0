"""A model's own page: its card, its figures, the versions that have read, how far readings drift from its training set.

Next: router/reports/models.py (what is shown), router/reports/drift.py (the measures).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape
from pydantic import Field

from medai.router.console.api import REFUSALS, ledger_of, now_of, tally_of
from medai.router.console.auth import require
from medai.router.console.pages import Someone, render
from medai.router.reports import models
from medai.router.reports.models import ModelDrift
from medai.router.reports.report import Report
from medai.router.reports.status import ModelEntry, known_model

deployed_api = APIRouter(prefix="/api", responses=REFUSALS, dependencies=[Depends(require())], tags=["look"])
deployed_pages = APIRouter(include_in_schema=False)
ModelName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="A model's name.")]
Days = Annotated[float, Query(gt=0, le=3650, description="So many days back.")]
_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
"""Cards are written by whoever made a model: no HTML of theirs gets onto a page."""


def _words_of_picture(_self: RendererHTML, tokens: Sequence[Token], index: int, _options: object, _env: object) -> str:
    """Pictures lie in the bundle, which the console does not have."""
    return escape(tokens[index].content)


def _link(self: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """A link into the bundle leads nowhere from here: its words stay."""
    if not str(tokens[index].attrs.get("href", "")).startswith(("https://", "http://")):
        tokens[index].attrs = {}
    return self.renderToken(tokens, index, options, env)


_markdown.add_render_rule("image", _words_of_picture)
_markdown.add_render_rule("link_open", _link)


class OwnCard(Report):
    """What the version that is deployed says of itself."""

    name: str
    version: str
    text: str = Field(description="The card, as Markdown.")
    figures: str = Field(description="The figures of its evaluation, as Markdown.")
    has_reference: bool = Field(description="Whether it says how its training set is distributed.")
    missing: str = Field(description="Why it does not.")


def _model(request: Request, name: str) -> ModelEntry:
    found = known_model(ledger_of(request), name)
    if found is None:
        raise HTTPException(404, "no worker has announced such a model")
    return found


@deployed_api.get("/models/{name}/card")
def model_card(name: ModelName, request: Request) -> OwnCard:
    """What a model says of itself: its card and the figures of its evaluation."""
    version = _model(request, name).version
    own = models.card(ledger_of(request), name, version) or models.ModelCard()
    return OwnCard(
        name=name, version=version, text=own.text, figures=own.figures, has_reference=own.reference is not None,
        missing=own.missing,
    )  # fmt: skip


@deployed_api.get("/models/{name}/drift")
def model_drift(name: ModelName, request: Request, days: Days = models.DAYS) -> ModelDrift:
    """How what a model was shown, and what it made of it, looks beside its training set."""
    version = _model(request, name).version
    return models.drift(ledger_of(request), name, version, now_of(request), days=days)


@deployed_pages.get("/models/{name}")
def model_page(name: ModelName, request: Request, who: Someone, days: Days = models.DAYS) -> HTMLResponse:
    """One model."""
    ledger, now, model = ledger_of(request), now_of(request), _model(request, name)
    version = model.version
    own = models.card(ledger, name, version) or models.ModelCard()
    counted = tally_of(request).verdicts
    took = models.reading_times(ledger, name, version, now - days * 86_400.0)
    return render(
        request, "model.html", who, model=model, text=html(own.text), figures=html(own.figures), took=took,
        held=sorted(ledger.fleet.held_models(now).get(name, set())), versions=models.versions(ledger, name),
        verdicts=[row for row in counted if row.model == name],
        drift=models.drift(ledger, name, version, now, days=days), days=days,
    )  # fmt: skip


def html(markdown: str) -> Markup:
    """A card as HTML; what is HTML in it is shown as text."""
    return Markup(_markdown.render(markdown))  # noqa: S704 # made by the renderer, which escapes
