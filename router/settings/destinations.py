"""The tables [destinations.NAME] of medai.toml: where results go besides the archive and the RIS.

Next: delivery/dicom_node.py, delivery/stow.py, delivery/fhir.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from medai.router.contract import Form
from medai.router.settings.section import Positive, Section
from medai.router.settings.tls import ClientTls

Address = Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]
"""Of a server, without a login in it."""


class TakesObjects(Section):
    """What a destination for DICOM objects has, however they are sent there."""

    results: Annotated[tuple[Form, ...], Field(min_length=1)] = (Form.SEG, Form.SR, Form.SC)
    """Forms in which it gets a result: seg or seg-deflated, labelmap, sr, sc, overlay, rtstruct, gsps, pdf."""
    rejection_notes: bool = True
    """Tell it by a rejection note (IHE IOCM) that a result was superseded or withdrawn."""

    @model_validator(mode="after")
    def _each_object_once(self) -> Self:
        if len(set(self.results)) < len(self.results):
            raise ValueError("results names a form twice")
        if {Form.SEG, Form.SEG_DEFLATED} <= set(self.results):
            raise ValueError("results has either seg or seg-deflated, not both: they are one object")
        return self


class WebServer(ClientTls):
    """How to log in to a server that speaks HTTP, by token, or by username and password, and how to trust it."""

    username: str = ""
    """User for HTTP Basic; empty: no such login."""
    password: SecretStr = SecretStr("")
    """Its password; better given as MEDAI_DESTINATIONS__NAME__PASSWORD than in a file."""
    token: SecretStr = SecretStr("")
    """Bearer token; better given as MEDAI_DESTINATIONS__NAME__TOKEN than in a file."""
    timeout_s: Positive = 30.0
    """Longest wait for one answer."""

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.username and self.token.get_secret_value():
            raise ValueError("give either token or username and password, not both")
        return self


class DicomDestination(TakesObjects):
    """An extra DICOM node for the results: the name it has in Orthanc's DicomModalities."""

    modality: str
    """Its name in DicomModalities."""
    commitment: Literal["auto", "required", "off"] = "auto"
    """Storage commitment after C-STORE. ``auto``: asked for, and C-STORE counts alone where the node does not offer it;
    ``required``: the delivery waits until the node commits; ``off``: not asked for."""
    commitment_timeout_s: Positive = 30.0
    """Longest wait for the node's report on a storage commitment."""


class StowDestination(TakesObjects, WebServer):
    """A DICOMweb server for the results, which takes them by STOW-RS."""

    stow_url: Address
    """Base of its DICOMweb services, such as https://pacs.example/dicom-web; a login does not belong in it."""


class FhirDestination(WebServer):
    """A FHIR server for the results, which takes a transaction. Log in by token, or by username and password."""

    fhir_url: Address
    """Base of the FHIR server, such as https://ehr.example/fhir; a login does not belong in it."""
    version: Literal["R5", "R4"] = "R5"
    """The FHIR that the server speaks: R5 (5.0), or R4 (4.0, and 4.3 too, which is called R4B)."""
    patient_systems: dict[str, Annotated[str, Field(pattern=r"^(urn:|https?://)\S+$")]] = Field(default_factory=dict)
    """Assigning authority -> URI of its patient identifiers (HOSPITAL = "urn:oid:1.2.3"), where order and images know
    it by name alone; "" stands for identifiers that name none. One that is not listed is named in words."""


_KINDS: dict[str, tuple[str, type[Section]]] = {
    "modality": ("dicom", DicomDestination),
    "stow_url": ("stow", StowDestination),
    "fhir_url": ("fhir", FhirDestination),
}
"""The key that each kind of destination must have, and no other kind has."""


def _kind(value: Any) -> str | None:
    """Which destination a table is: told apart by its key, and None where that fails."""
    if isinstance(value, Section):
        return next(tag for tag, kind in _KINDS.values() if isinstance(value, kind))
    keys = _KINDS.keys() & set(value if isinstance(value, dict) else ())
    return _KINDS[keys.pop()][0] if len(keys) == 1 else None


Destination = Annotated[
    Annotated[DicomDestination, Tag("dicom")]
    | Annotated[StowDestination, Tag("stow")]
    | Annotated[FhirDestination, Tag("fhir")],
    Discriminator(
        _kind,
        custom_error_type="destination_kind",
        custom_error_message=(
            "a destination has exactly one of modality (a DICOM node), stow_url (a DICOMweb server) and fhir_url "
            "(a FHIR server)"
        ),
    ),
]
