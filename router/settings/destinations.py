"""The tables [destinations.NAME] of medai.toml: where results go besides the archive and the RIS.

Next: delivery/dicom_node.py, delivery/fhir.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from medai.router.settings.section import Positive, Section


class DicomDestination(Section):
    """An extra DICOM node for the results: the name it has in Orthanc's DicomModalities."""

    modality: str
    """Its name in DicomModalities."""
    commitment: Literal["auto", "required", "off"] = "auto"
    """Storage commitment after C-STORE. ``auto``: asked for, and C-STORE counts alone where the node does not offer it;
    ``required``: the delivery waits until the node commits; ``off``: not asked for."""
    commitment_timeout_s: Positive = 30.0
    """Longest wait for the node's report on a storage commitment."""


class FhirDestination(Section):
    """A FHIR server for the results, which takes a transaction. Log in by token, or by username and password."""

    fhir_url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]
    """Base of the FHIR server, such as https://ehr.example/fhir; a login does not belong in it."""
    version: Literal["R5", "R4"] = "R5"
    """The FHIR that the server speaks: R5 (5.0), or R4 (4.0, and 4.3 too, which is called R4B)."""
    username: str = ""
    """User for HTTP Basic; empty: no such login."""
    password: SecretStr = SecretStr("")
    """Its password; better given as MEDAI_DESTINATIONS__NAME__PASSWORD than in a file."""
    token: SecretStr = SecretStr("")
    """Bearer token; better given as MEDAI_DESTINATIONS__NAME__TOKEN than in a file."""
    timeout_s: Positive = 30.0
    """Longest wait for one answer."""
    ca_file: str = ""
    """Certificate authority of the server; empty: the system's."""
    patient_systems: dict[str, Annotated[str, Field(pattern=r"^(urn:|https?://)\S+$")]] = Field(default_factory=dict)
    """Assigning authority -> URI of its patient identifiers (HOSPITAL = "urn:oid:1.2.3"), where order and images know
    it by name alone; "" stands for identifiers that name none. One that is not listed is named in words."""

    @model_validator(mode="after")
    def _one_login(self) -> FhirDestination:
        if self.username and self.token.get_secret_value():
            raise ValueError("give either token or username and password, not both")
        return self


def _kind(value: Any) -> str | None:
    """Which destination a table is: told apart by the key that each must have, and None where that fails."""
    if isinstance(value, Section):
        return "fhir" if isinstance(value, FhirDestination) else "dicom"
    keys = {"modality", "fhir_url"} & set(value if isinstance(value, dict) else ())
    return {"modality": "dicom", "fhir_url": "fhir"}[keys.pop()] if len(keys) == 1 else None


Destination = Annotated[
    Annotated[DicomDestination, Tag("dicom")] | Annotated[FhirDestination, Tag("fhir")],
    Discriminator(
        _kind,
        custom_error_type="destination_kind",
        custom_error_message="a destination has either modality (a DICOM node) or fhir_url (a FHIR server), not both",
    ),
]
