"""The table [workitems] of medai.toml: a worklist (UPS-RS) whose workitems are read. Next: workitems/performer.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from medai.router.settings.destinations import WebServer
from medai.router.settings.section import Positive

OwnName = Annotated[str, Field(pattern=r"^([!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?)?$")]
"""A code value (SH, PS3.5), which an AE title may be, or nothing."""
CodeKey = Annotated[str, Field(pattern=r"^[^\^\\\s][^\^\\]{0,63}\^[^\^\\\s][^\^\\]{0,15}$")]


class WorkitemsSettings(WebServer):
    """Workitems of a worklist (UPS-RS) that the router claims, has read, and reports on. ``url`` empty: off. Log in by
    token, or by username and password."""

    url: Annotated[str, Field(pattern=r"^(https?://[^\s/@?#]+(/[^\s@?#]*)?)?$")] = ""
    """Base of the DICOMweb services of the worklist, such as https://manager.example/dicom-web; a login does not belong
    in it. Empty: off."""
    password: SecretStr = SecretStr("")
    """Its password; better given as MEDAI_WORKITEMS__PASSWORD than in a file."""
    token: SecretStr = SecretStr("")
    """Bearer token; better given as MEDAI_WORKITEMS__TOKEN than in a file."""
    poll_s: Positive = 10.0
    """How often scheduled workitems are looked for, and those in progress looked after."""
    performer: OwnName = ""
    """Whom a workitem must be scheduled for to be ours: a code value of its Scheduled Station Name Code Sequence (an AE
    title, where it names stations so). Empty: whoever it is scheduled for."""
    give_up_h: Positive = 72.0
    """A workitem whose study does not come, or whose reading does not begin, is canceled after this many hours."""
    routes: dict[CodeKey, str] = Field(default_factory=dict)
    """Which route does what a workitem asks for: code value and coding scheme of its scheduled workitem code, or of the
    station that it is scheduled for -> name of the route ("LUNGS^99HOSPITAL" = "lungs"). Others are left alone."""
