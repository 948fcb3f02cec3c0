"""Results in each HL7 version before judges that others wrote: hl7apy and hl7types strictly, v2fhir and @medplum/hl7.

Every kind of result, with its narrative: with and without an order, a revision, with and without notes, one that names its patient in two
scripts, one that was re-coded to another patient, and one that was taken back.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hl7types import decode_er7
from peers.check_messages import complaints

from medai.hl7_mock.checks import check_header, check_result
from medai.hl7_mock.message import parse
from medai.router.contract import Order
from medai.router.hl7.oru_edit import recode, withdrawn
from medai.router.hl7.patients_in import PatientMessage
from medai.router.settings.tables import OrthancSettings, RisSettings, Settings
from medai.workers.results.frames import headers_of
from medai.workers.results.oru import encode_oru
from medai.workers.results.oru_version import VERSIONS
from medai.workers.results.source import Source

pytestmark = pytest.mark.slow

ORDER = Order(
    placer="ORD1^RIS^1.2.9^ISO",
    accession="A42",
    patient_id="0815",
    patient_id_authority="HOSP",
    patient_identifiers=("0815^^^HOSP^MR", "A99^^^INSURER^PI"),
    patient_account="ACCT9^^^HOSP^AN",
    patient_name="Doe^Jane",
    birth_date="19700101",
    sex="F",
    procedure=("CTCHEST", "CT chest & neck", "L"),
    requested_procedure_id="RP1",
    scheduled_step_id="SPS1",
    ordered_by="4321^Ward^Doctor",
    patient_class="I",
    location="W3^12^1",
    visit_number="V55^^^HOSP^VN",
)
UPDATE = PatientMessage(
    control_id="C9",
    sender=("RIS", "HOSPITAL"),
    kind="update",
    patient_id="0815",
    patient_id_authority="HOSP",
    patient_name="Roe^Jane~\u5c71^\u592a^^^^^L^I",
    prior_id="",
    prior_id_authority="",
    birth_date="19710202",
    sex="O",
    digest="d",
)


@pytest.fixture(scope="module")
def make(project_root: Path) -> Any:
    """The makers of the unit tests."""
    path = project_root / "tests" / "unit" / "workers" / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_makers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Factory()


def sources(make: Any) -> Iterator[tuple[str, Any]]:
    """CT and MR, as frames of one object, without what de-identification takes away, and with the least."""
    for modality in ("CT", "MR"):
        source = make.source(modality=modality)
        yield modality, source
        headers, frames = headers_of(make.enhanced(source))
        yield f"enhanced {modality}", Source(headers=headers, volume=source.volume, frames=frames)
    bare = {"PatientIdentityRemoved": "YES", "PatientName": "", "PatientBirthDate": "", "AccessionNumber": ""}
    yield "de-identified", replace(source, headers=tuple(make.copy(header, **bare) for header in source.headers))
    least = {"PatientSex": "", "StudyDate": "", "StudyTime": "", "AcquisitionDate": "", "AcquisitionTime": ""}
    yield "minimal", replace(source, headers=tuple(make.copy(header, **bare, **least) for header in source.headers))
    nobody = {**bare, **least, "PatientID": "", "IssuerOfPatientID": None}
    yield "of nobody", replace(source, headers=tuple(make.copy(header, **nobody) for header in source.headers))
    scripts = {"PatientName": "Yamada^Taro=\u5c71\u7530^\u592a\u90ce"}
    yield "two scripts", replace(source, headers=tuple(make.copy(header, **scripts) for header in source.headers))


def messages(make: Any, version: str) -> Iterator[tuple[str, bytes]]:
    """Every kind of result, by its name."""
    settings = Settings(
        ris=RisSettings(version=version, narrative=True), orthanc=OrthancSettings(dicomweb_url="https://pacs.example/dicom-web")
    )  # fmt: skip
    for name, source in sources(make):
        for order in (None, ORDER):
            for revision, warnings in ((1, ()), (2, ("the mask touches the edge",))):
                segmentation = make.segmentation(source, warnings=warnings) if warnings else make.hippocampus(source)
                job = make.job(source, order=order, revision=revision)
                context = replace(make.context(source, segmentation=segmentation, job=job), settings=settings)
                told = encode_oru(context)
                kind = f"{version} {name}{' with an order' if order else ''}, revision {revision}"
                yield kind, told
                yield f"{kind}, withdrawn", withdrawn(told, control_id="W1", now=0.0)
                if order:
                    coded = recode(told, prior_id="0815", prior_authority="HOSP", patient=UPDATE)
                    assert coded is not None
                    yield f"{kind}, of a patient with a new name", coded


@pytest.mark.parametrize("version", VERSIONS)
def test_hl7apy_finds_no_fault_in_any_kind_of_result(make: Any, version: str) -> None:
    seen = 0
    for kind, told in messages(make, version):
        read = parse_message(told.decode("utf-8"), validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
        assert read.version == version
        assert read.validate(), kind
        seen += 1
    assert seen == 80


@pytest.mark.parametrize("version", VERSIONS)
def test_hl7types_reads_each_by_the_classes_of_its_version(make: Any, version: str) -> None:
    models = importlib.import_module(f"hl7types.hl7.v{version.replace('.', '_')}.messages")
    for kind, told in messages(make, version):
        assert decode_er7(told.decode("utf-8"), models.ORU_R01) is not None, kind


@pytest.mark.parametrize("version", VERSIONS)
def test_foreign_receivers_take_every_kind_of_result(make: Any, version: str) -> None:
    assert complaints(messages(make, version)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_our_own_ris_takes_every_kind_of_result(make: Any, version: str) -> None:
    for kind, told in messages(make, version):
        message = parse(told)
        assert (check_header(message), check_result(message)) == (None, ()), kind
