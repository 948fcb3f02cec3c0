"""The tables [outside.NAME] of medai.toml: AI of others, which gets images without their patients.

A route names it as its model. Next: workers/outside/exchange.py, docs/gateway.md.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medai.router.settings.destinations import Address, StowDestination, WebServer
from medai.router.settings.section import Positive

VERSION = "outside"
"""What stands where a model of ours has its version: whoever runs it changes it when they like."""


class OutsideSettings(WebServer):
    """An AI outside the hospital, behind a DICOMweb server: images go there without their patients, and what it makes
    of them is fetched from there."""

    stow_url: Address
    """Base of its DICOMweb services (STOW-RS, QIDO-RS, WADO-RS), such as https://ai.example/dicom-web."""
    poll_s: Positive = 20.0
    """How often it is asked for its answer; one that is the same twice is whole."""
    answer_h: Positive = 4.0
    """How long it may take; then the reading fails."""
    max_objects: Annotated[int, Field(ge=1, le=99)] = 10
    """Objects that an answer may hold. None may have more than 32 MiB."""

    @property
    def server(self) -> StowDestination:
        """As a server that takes objects."""
        return StowDestination(**{name: getattr(self, name) for name in (*WebServer.model_fields, "stow_url")})
