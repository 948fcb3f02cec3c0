"""R4 says in its own words what R5 says: the segment, the model, a revision and the picture."""

from __future__ import annotations

import json
from typing import Any

import pytest
from v2fhir.validate import validate_bundle

from medai.router.delivery.fhir import withdrawn
from medai.router.settings.destinations import FhirDestination
from medai.workers.results.fhir import encode_fhir

R4 = FhirDestination(fhir_url="https://ehr.example/fhir", version="R4")


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def resources(make: Any, source: Any, *, destination: FhirDestination = R4, **job: Any) -> dict[str, dict[str, Any]]:
    payload = encode_fhir(make.context(source, job=make.job(source, **job)), destination)
    return {entry["request"]["url"]: entry["resource"] for entry in json.loads(payload)["entry"]}


def test_an_observation_names_its_segment_by_its_tracking_uid_and_its_number(make: Any, source: Any) -> None:
    found, filler, seg = resources(make, source), make.job(source).filler, make.seg(source)
    for segment in seg.SegmentSequence:
        told = found[f"Observation/{filler}-{segment.SegmentNumber}"]
        assert told["identifier"] == [{"system": "urn:dicom:uid", "value": f"urn:oid:{segment.TrackingUID}"}]
        number = told["component"][0]
        assert number["code"]["coding"][0]["code"] == "121191"
        assert number["valueInteger"] == segment.SegmentNumber
        (of,) = told["derivedFrom"]
        assert found[of["reference"]]["series"][0]["instance"][0]["uid"] == seg.SOPInstanceUID


def test_nothing_of_r5_alone_is_sent(make: Any, source: Any) -> None:
    kinds = {url.partition("/")[0] for url in resources(make, source)}
    assert kinds == {"ImagingStudy", "Device", "Observation", "Media", "DiagnosticReport", "Provenance"}


def test_a_revision_is_preliminary_since_r4_knows_no_report_that_changed_before_it_was_final(
    make: Any, source: Any
) -> None:
    report = resources(make, source, revision=2)[f"DiagnosticReport/{make.job(source).filler}"]
    assert report["status"] == "preliminary"


def test_the_report_names_both_parts_of_the_study(make: Any, source: Any) -> None:
    found, filler = resources(make, source), make.job(source).filler
    named = [each["reference"] for each in found[f"DiagnosticReport/{filler}"]["imagingStudy"]]
    assert named == [url for url in found if url.startswith("ImagingStudy/")]


def test_the_device_has_its_name_and_type_as_r4_writes_them(make: Any, source: Any) -> None:
    (device,) = [each for url, each in resources(make, source).items() if url.startswith("Device/")]
    assert device["deviceName"] == [{"name": "Lungs in CT", "type": "user-friendly-name"}]
    assert device["type"]["coding"][0]["code"] == "123110"
    assert device["version"] == [{"value": "1.2.0"}]


def test_the_endpoint_says_what_it_pays_out(make: Any, source: Any) -> None:
    for url, each in resources(make, source).items():
        if url.startswith("ImagingStudy/"):
            (endpoint,) = each["contained"]
            assert endpoint["connectionType"]["code"] == "dicom-wado-rs"
            assert endpoint["payloadType"]


@pytest.mark.parametrize("back", [False, True])
def test_a_bridge_of_others_finds_no_fault_in_the_transaction(make: Any, source: Any, back: bool) -> None:
    """v2fhir writes R4 transactions itself, and checks invariants that fhir.resources does not."""
    for found in (make.hippocampus(source), make.segmentation(source, warnings=("the mask touches the edge",))):
        payload = encode_fhir(make.context(source, segmentation=found, job=make.job(source, revision=2)), R4)
        validate_bundle(json.loads(withdrawn(payload, now=1.0, words="A reason.") if back else payload))


def test_both_versions_use_the_same_addresses(make: Any, source: Any) -> None:
    r4 = set(resources(make, source))
    r5 = set(resources(make, source, destination=FhirDestination(fhir_url="https://ehr.example/fhir")))
    assert {url.partition("/")[0] for url in r5 ^ r4} == {"ImagingSelection", "Media", "DocumentReference"}
