"""The transaction is valid FHIR R5 and R4, says what the SEG and the ORU say, and changes nothing when it is sent again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from fhir.resources import get_fhir_model_class
from fhir.resources.bundle import Bundle
from fhir.resources.R4B import get_fhir_model_class as get_r4_model_class
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from medai.router.contract import Order
from medai.router.delivery import fhir as courier
from medai.router.settings.destinations import FhirDestination
from medai.router.settings.tables import Settings
from medai.workers.results import fhir_text
from medai.workers.results.encode import encode_all
from medai.workers.results.fhir import encode_fhir
from medai.workers.results.frames import headers_of
from medai.workers.results.identity import device_uid, tracking_uid
from medai.workers.results.source import Source

ORDER = Order(
    placer="ORD\\T\\1^RIS^1.2.9^ISO",
    accession="A42",
    patient_id="0815",
    patient_id_authority="HOSP&1.2.3&ISO",
    procedure=("CTCHEST", "CT chest & neck", "L"),
)
EHR = FhirDestination(fhir_url="https://ehr.example/fhir")

HOSTILE = st.text(st.sampled_from('1.2P|^"\\{}\r\n\x00\x85 ü#/'), min_size=1, max_size=20).filter(
    lambda text: text.strip(" \x00\x85\r\n")
)
"""Identifiers as no sound system makes them."""


@pytest.fixture(scope="module")
def source(make: Any) -> Any:
    return make.source()


def encoded(make: Any, source: Any, *, found: Any = None, destination: FhirDestination = EHR, **job: Any) -> bytes:
    segmentation = found or make.segmentation(source)
    return encode_fhir(make.context(source, segmentation=segmentation, job=make.job(source, **job)), destination)


def resources(payload: bytes) -> dict[str, dict[str, Any]]:
    """By address, as each is PUT."""
    return {entry["request"]["url"]: entry["resource"] for entry in json.loads(payload)["entry"]}


def only(payload: bytes, kind: str) -> dict[str, Any]:
    (found,) = [item for url, item in resources(payload).items() if url.startswith(f"{kind}/")]
    return found


def studies(payload: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The study itself, and the part of it that the result adds."""
    found = resources(payload)
    study, series = (each for url, each in found.items() if url.startswith("ImagingStudy/"))
    return study, series


def codes(concept: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(item.get("system"), item["code"]) for item in concept["coding"]]


COMMON = {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"}
STATUS = {"Observation": COMMON, "DiagnosticReport": COMMON | {"partial", "appended"}}
"""The value sets observation-status (R4, R5) and diagnostic-report-status (R4), whose ends the library leaves out."""
VERSIONS = {
    "R5": (EHR, get_fhir_model_class),
    "R4": (EHR.model_copy(update={"version": "R4"}), get_r4_model_class),
}
"""The R4 models of the library are those of R4B (4.3.0), in which everything that is sent is as in R4 (4.0.1)."""
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ordered": {"order": ORDER},
    "revised": {"revision": 2},
}
SOURCES = ("CT", "MR", "enhanced CT", "enhanced MR", "de-identified", "minimal")
MINIMAL = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "SeriesNumber", "BodyPartExamined"),
    *("AcquisitionDate", "AcquisitionTime"),
)
"""What images need not say."""


def source_of(make: Any, name: str) -> Any:
    source = make.source(modality="MR" if "MR" in name else "CT")
    if name.startswith("enhanced"):
        headers, frames = headers_of(make.enhanced(source))
        return Source(headers=headers, volume=source.volume, frames=frames)
    for header in source.headers:
        if name == "de-identified":
            header.PatientIdentityRemoved, header.PatientID, header.PatientName, header.AccessionNumber = (
                "YES",
                "",
                "",
                "",
            )
        for keyword in MINIMAL if name == "minimal" else ():
            delattr(header, keyword)
    return source


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("back", [False, True])
def test_the_bundle_and_every_resource_in_it_are_valid_also_when_taken_back(
    make: Any, version: str, name: str, variant: str, back: bool
) -> None:
    destination, model_of = VERSIONS[version]
    source = source_of(make, name)
    for found in (make.segmentation(source, warnings=("the mask touches the edge",)), make.hippocampus(source)):
        payload = encoded(make, source, found=found, destination=destination, **VARIANTS[variant])
        payload = courier.withdrawn(payload, now=1.0, words="A reason.") if back else payload
        bundle = model_of("Bundle").model_validate_json(payload)
        assert bundle.type == "transaction"
        assert json.loads(bundle.model_dump_json()) == json.loads(payload)
        for url, resource in resources(payload).items():
            assert url == f"{resource['resourceType']}/{resource['id']}"
            assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", resource["id"])
            read = model_of(resource["resourceType"]).model_validate(resource)
            assert_sound(read)


def assert_sound(resource: Any) -> None:
    """The library names the codes and the targets of references that FHIR allows and does not enforce them.

    "+" stands for codes that it leaves out.
    """
    for name, field in type(resource).model_fields.items():
        said = field.json_schema_extra or {}
        allowed, kinds = said.get("enum_values"), said.get("enum_reference_types")
        if allowed and "+" in allowed:
            allowed = STATUS[type(resource).__name__]
        value = getattr(resource, name, None)
        if allowed and value is not None:
            assert set(value if isinstance(value, list) else [value]) <= set(allowed), f"{name} {value}"
        for item in value if isinstance(value, list) else [value]:
            if kinds and type(item).__name__ == "Reference" and "Resource" not in kinds:
                told = (item.reference or "").partition("/")[0] or item.type
                assert told in {None, "#wado", *kinds}, f"{name} {told}"
            if hasattr(type(item), "model_fields"):
                assert_sound(item)


def test_every_entry_is_a_put_and_a_second_encoding_is_the_same_bytes(make: Any, source: Any) -> None:
    payload = encoded(make, source)
    assert payload == encoded(make, source)
    assert {entry["request"]["method"] for entry in json.loads(payload)["entry"]} == {"PUT"}
    assert len(resources(payload)) == len(json.loads(payload)["entry"])


def test_every_reference_leads_to_a_resource_of_the_bundle_or_within(make: Any, source: Any) -> None:
    payload = encoded(make, source, found=make.hippocampus(source), order=ORDER)
    named = set(re.findall(r'"reference":"([^"]+)"', payload.decode()))
    assert named - set(resources(payload)) == {"#wado"}
    for each in studies(payload):
        assert each["contained"][0]["id"] == "wado"
        assert each["contained"][0]["address"] == "https://pacs.example/dicom-web"


def test_the_numbers_are_the_measurements_in_ucum_with_their_segment(make: Any, source: Any) -> None:
    segmentation, job = make.segmentation(source), make.job(source)
    volume, mean, *_ = make.measurements(source, segmentation)
    found = resources(encoded(make, source))
    right = found[f"Observation/{job.filler}-1"]
    assert right["status"] == "preliminary"
    assert codes(right["code"]) == [("http://snomed.info/sct", "118565006")]
    assert right["code"]["text"] == "Right lung volume"
    assert right["valueQuantity"] == {
        "value": volume.value, "unit": "mL", "system": "http://unitsofmeasure.org", "code": "mL",
    }  # fmt: skip
    attenuation, side = right["component"]
    assert attenuation["valueQuantity"]["value"] == mean.value
    assert attenuation["valueQuantity"]["code"] == "[hnsf'U]"
    assert codes(side["code"]) == [("http://snomed.info/sct", "272741003")]
    assert codes(side["valueCodeableConcept"]) == [("http://snomed.info/sct", "24028007")]
    assert codes(right["bodySite"]) == [("http://snomed.info/sct", "39607008")]
    assert right["identifier"] == [
        {"system": "urn:dicom:uid", "value": f"urn:oid:{tracking_uid(job, segmentation.segments[0])}"}
    ]
    assert right["derivedFrom"] == [{"reference": f"ImagingSelection/{job.filler}-1"}]
    assert right["effectiveDateTime"] == "2026-03-14"


def test_an_image_selection_is_the_segment_of_the_seg_that_is_stored(make: Any, source: Any) -> None:
    job = make.job(source)
    seg = make.seg(source)
    found = resources(encoded(make, source))
    for segment in seg.SegmentSequence:
        selection = found[f"ImagingSelection/{job.filler}-{segment.SegmentNumber}"]
        assert selection["studyUid"] == seg.StudyInstanceUID
        assert selection["seriesUid"] == seg.SeriesInstanceUID
        assert selection["frameOfReferenceUid"] == seg.FrameOfReferenceUID
        (instance,) = selection["instance"]
        assert instance["uid"] == seg.SOPInstanceUID
        assert instance["subset"] == [str(segment.SegmentNumber)]
        assert instance["sopClass"]["code"] == f"urn:oid:{seg.SOPClassUID}"


def test_a_total_derives_from_the_observations_of_its_segments(make: Any, source: Any) -> None:
    segmentation, job = make.hippocampus(source), make.job(source)
    total = resources(encoded(make, source, found=segmentation))[f"Observation/{job.filler}-T1"]
    assert total["valueQuantity"]["value"] == make.measurements(source, segmentation)[-1].value
    assert [item["reference"] for item in total["derivedFrom"]] == [f"Observation/{job.filler}-{n}" for n in (1, 2)]


def test_the_verdict_and_what_a_person_should_look_at_are_told(make: Any, source: Any) -> None:
    warned = make.segmentation(source, warnings=("the mask touches the edge",))
    job = make.job(source)
    for found, code, flag in ((warned, "CHECK", "A"), (make.hippocampus(source), "PLAUSIBLE", "N")):
        payload = encoded(make, source, found=found)
        verdict = resources(payload)[f"Observation/{job.filler}-V"]
        assert codes(verdict["valueCodeableConcept"]) == [(fhir_text.LOCAL_SYSTEM, code)]
        assert verdict["interpretation"][0]["coding"][0]["code"] == flag
        assert [note["text"] for note in verdict.get("note", [])] == list(found.warnings)
        conclusion = only(payload, "DiagnosticReport")["conclusion"]
        assert "not verified by anyone" in conclusion
        assert all(text in conclusion for text in found.warnings)


def test_a_revision_updates_the_same_report_observations_and_selections_as_modified(make: Any, source: Any) -> None:
    first = encoded(make, source)
    second = encoded(make, source, revision=2, job_id=make.other_job_id)
    old, new = (set(resources(each)) for each in (first, second))
    filler = make.job(source).filler
    assert (old - new, new - old) == ({f"Provenance/{filler}-P1"}, {f"Provenance/{filler}-P2"})
    assert only(first, "DiagnosticReport")["status"] == "preliminary"
    assert only(second, "DiagnosticReport")["status"] == "modified"
    (selection,) = [url for url in resources(first) if url.startswith("ImagingSelection/") and url.endswith("-1")]
    assert resources(first)[selection]["instance"] != resources(second)[selection]["instance"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_that_is_taken_back_is_entered_in_error_and_study_device_and_history_stay(
    make: Any, source: Any, version: str
) -> None:
    payload = encoded(make, source, destination=VERSIONS[version][0])
    back = courier.withdrawn(payload, now=1.0, words="A reason.")
    before, after = resources(payload), resources(back)
    history = after.pop(f"Provenance/{make.job(source).filler}-W")
    kept = {url for url, resource in after.items() if resource == before[url]}
    assert kept == {url for url in before if url.startswith(("ImagingStudy/study-", "Device/", "Provenance/"))}
    assert all(after[url] == before[url] | {"status": "entered-in-error"} for url in set(before) - kept)
    assert {each["reference"] for each in history["target"]} == set(before) - kept


def test_two_routes_write_the_same_study_and_reports_of_their_own(make: Any, source: Any) -> None:
    lungs, other = resources(encoded(make, source)), resources(encoded(make, source, route="other"))
    shared = {url for url in lungs if url in other}
    assert sorted(url.partition("-")[0] for url in shared) == ["Device/device", "ImagingStudy/study"]
    assert all(lungs[url] == other[url] for url in shared)


def test_the_patient_is_the_orders_by_identifier_and_authority_else_the_images(make: Any, source: Any) -> None:
    ordered = only(encoded(make, source, order=ORDER), "DiagnosticReport")["subject"]
    assert ordered["type"] == "Patient"
    assert (ordered["identifier"]["system"], ordered["identifier"]["value"]) == ("urn:oid:1.2.3", "0815")
    assert ordered["identifier"]["assigner"] == {"display": "HOSP"}
    imaged = only(encoded(make, source), "DiagnosticReport")["subject"]["identifier"]
    assert imaged == {
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]},
        "value": "MRN-77|1",
        "assigner": {"display": "HOSPITAL"},
    }


def test_a_system_is_given_only_to_the_authority_that_it_belongs_to(make: Any, source: Any) -> None:
    def system(**systems: str) -> str | None:
        destination = EHR.model_copy(update={"patient_systems": systems})
        subject = only(encoded(make, source, destination=destination), "DiagnosticReport")["subject"]
        return subject["identifier"].get("system")

    assert system(HOSPITAL="urn:oid:1.2.3.4") == "urn:oid:1.2.3.4"
    assert system(ELSEWHERE="urn:oid:1.2.3.4") is None


def test_a_patient_without_identifier_is_not_made_up(make: Any) -> None:
    source = make.source()
    for header in source.headers:
        header.PatientID = ""
    payload = encoded(make, source)
    Bundle.model_validate_json(payload)
    subjects = {json.dumps(item["subject"]) for item in resources(payload).values() if "subject" in item}
    assert subjects == {'{"type": "Patient", "display": "the images name no patient identifier"}'}


def test_order_accession_procedure_and_study_are_named(make: Any, source: Any) -> None:
    payload = encoded(make, source, order=ORDER)
    report, (study, series) = only(payload, "DiagnosticReport"), studies(payload)
    assert series["identifier"] == study["identifier"]
    (order,) = report["basedOn"]
    assert (order["identifier"]["value"], order["identifier"]["system"]) == ("ORD&1", "urn:oid:1.2.9")
    assert order["identifier"]["assigner"] == {"display": "RIS"}
    assert report["code"] == {
        "coding": [{"code": "CTCHEST", "display": "CT chest & neck"}],
        "text": "CT chest & neck",
    }
    uid, accession = study["identifier"]
    assert uid == {"system": "urn:dicom:uid", "value": f"urn:oid:{source.first.StudyInstanceUID}"}
    assert accession["value"] == "A42"
    without = encoded(make, source)
    assert "basedOn" not in only(without, "DiagnosticReport")
    assert studies(without)[0]["identifier"][1]["value"] == "ACC123"
    assert codes(only(without, "DiagnosticReport")["code"]) == [("http://loinc.org", "25045-6")]


@pytest.mark.parametrize("destination", [EHR, EHR.model_copy(update={"version": "R4"})])
def test_a_result_whose_order_is_told_later_says_it_as_one_that_had_it(
    make: Any, source: Any, destination: FhirDestination
) -> None:
    without = encoded(make, source, destination=destination)
    later = courier.ordered(without, ORDER)
    assert later is not None
    at_once = resources(encoded(make, source, destination=destination, order=ORDER))
    named = {url: each["basedOn"] for url, each in resources(later).items() if "basedOn" in each}
    assert named == {url: each["basedOn"] for url, each in at_once.items() if "basedOn" in each}
    assert len(named) == 2
    assert courier.ordered(later, ORDER) is None
    assert courier.ordered(without, Order(placer="")) is None


def test_a_loinc_code_of_the_images_stands_beside_the_ordered_one(make: Any, source: Any) -> None:
    loinc = Dataset()
    loinc.CodeValue, loinc.CodingSchemeDesignator, loinc.CodeMeaning = "24627-2", "LN", "CT Chest"
    named = replace(source, headers=tuple(make.copy(h, ProcedureCodeSequence=[loinc]) for h in source.headers))
    ordered = only(encoded(make, named, order=ORDER), "DiagnosticReport")["code"]
    assert codes(ordered) == [(None, "CTCHEST"), ("http://loinc.org", "24627-2")]
    assert ordered["text"] == "CT chest & neck"
    assert codes(only(encoded(make, named), "DiagnosticReport")["code"]) == [("http://loinc.org", "24627-2")]


def test_the_device_is_the_model_and_what_it_says_is_labelled_as_of_ai(make: Any, source: Any) -> None:
    payload = encoded(make, source)
    device = only(payload, "Device")
    model = make.segmentation(source).model
    assert device["identifier"] == [{"system": "urn:dicom:uid", "value": f"urn:oid:{device_uid(model)}"}]
    assert (device["modelNumber"], device["version"]) == ("ct_lungs", [{"value": "1.2.0"}])
    for url, resource in resources(payload).items():
        labels = [label["code"] for label in resource.get("meta", {}).get("security", [])]
        assert labels == ([] if url.startswith(("ImagingStudy/study-", "Device/", "Provenance/")) else ["AIAST"])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_results_series_are_those_that_are_stored_and_its_addresses_lead_to_them(
    make: Any, source: Any, version: str
) -> None:
    objects = make.encode(source)
    payload = encoded(make, source, destination=VERSIONS[version][0])
    _, series = studies(payload)
    told = [
        (each["uid"], each["instance"][0]["uid"], each["instance"][0]["sopClass"]["code"]) for each in series["series"]
    ]
    assert told == [(o.SeriesInstanceUID, o.SOPInstanceUID, f"urn:oid:{o.SOPClassUID}") for o in objects.values()]
    assert [each["description"] for each in series["series"]] == [o.SeriesDescription for o in objects.values()]
    for each, stored in zip(series["series"], objects.values(), strict=True):
        modality = each["modality"] if version == "R4" else each["modality"]["coding"][0]
        assert modality["code"] == stored.Modality
    report = only(payload, "DiagnosticReport")
    pacs = f"https://pacs.example/dicom-web/studies/{source.first.StudyInstanceUID}/series"
    sr, key_image = objects["sr"], objects["sc"]
    (form,) = report["presentedForm"]
    assert form["contentType"] == "application/dicom"
    assert form["url"] == f"{pacs}/{sr.SeriesInstanceUID}/instances/{sr.SOPInstanceUID}"
    (media,) = report["media"]
    content = resources(payload)[media["link"]["reference"]]["content"]
    picture = content if version == "R4" else content[0]["attachment"]
    assert picture["url"] == f"{pacs}/{key_image.SeriesInstanceUID}/instances/{key_image.SOPInstanceUID}/rendered"
    assert picture["contentType"] == "image/jpeg"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_provenance_says_which_device_made_what_from_which_study(make: Any, source: Any, version: str) -> None:
    payload = encoded(make, source, destination=VERSIONS[version][0])
    told = only(payload, "Provenance")
    found = resources(payload)
    apart = ("Provenance/", "Device/", "ImagingStudy/study-")
    assert [each["reference"] for each in told["target"]] == [url for url in found if not url.startswith(apart)]
    (agent,), (entity,) = told["agent"], told["entity"]
    (device,) = [url for url in found if url.startswith("Device/")]
    assert agent["who"] == {"reference": device}
    assert agent["type"]["coding"][0]["code"] == "assembler"
    assert (entity["role"], entity["what"]) == ("source", {"reference": f"ImagingStudy/{studies(payload)[0]['id']}"})
    assert told["recorded"] == only(payload, "DiagnosticReport")["issued"]
    assert told["activity"]["coding"][0]["code"] == "CREATE"
    later = only(encoded(make, source, destination=VERSIONS[version][0], revision=2), "Provenance")
    assert later["activity"]["coding"][0]["code"] == "UPDATE"
    assert later["id"] != told["id"]


def test_a_job_is_encoded_for_its_own_fhir_servers_and_for_no_other_destination(make: Any, source: Any) -> None:
    destinations = {"ehr": EHR, "other": EHR, "pacs2": {"modality": "P"}}
    found = encode_all(
        stack_of(source),
        make.segmentation(source),
        make.job(source, destinations=("archive", "ris", "pacs2", "ehr")),
        Settings(results=make.settings.results, orthanc=make.settings.orthanc, destinations=destinations),
        created_at=make.created_at,
    ).fhir  # fmt: skip
    assert found == {"ehr": encoded(make, source)}


def stack_of(source: Any) -> Any:
    from medai.models.volume import Stack

    return Stack(volume=source.volume, datasets=source.headers)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("20260314", "120502.25", "+0130"), "2026-03-14T12:05:02+01:30"),
        (("20260314", "1205", "-0500"), "2026-03-14T12:05:00-05:00"),
        (("20260314", "120502", ""), "2026-03-14"),
        (("20260314", "", "+0100"), "2026-03-14"),
        (("2026", "120502", "+0100"), ""),
        (("", "", ""), ""),
    ],
)
def test_a_time_without_its_offset_is_left_out_because_fhir_asks_for_both(
    given: tuple[str, str, str], expected: str
) -> None:
    assert fhir_text.date_time(*given) == expected


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(study=HOSTILE, patient=HOSTILE)
@example(study='1.2"},{"x|3', patient='P|1\r"')
@pytest.mark.filterwarnings("ignore")  # pydicom's, on making the case
def test_no_identifier_can_change_an_element(make: Any, source: Any, study: str, patient: str) -> None:
    """The same resources with the same elements as of plain identifiers; addresses and references are derived."""
    changed = [make.copy(header, StudyInstanceUID=study, PatientID=patient) for header in source.headers]
    context = make.context(source)
    hostile = replace(context, source=replace(source, headers=tuple(changed)))
    found = json.loads(encode_fhir(hostile, EHR))
    good = json.loads(encoded(make, source))
    assert list(elements(found)) == list(elements(good))
    for entry in found["entry"]:
        assert re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9.-]{1,64}", entry["request"]["url"])
    told = "".join(str(value) for value in leaves(found))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", told)


def elements(node: Any, path: str = "") -> Iterator[str]:
    """The path of every element."""
    yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from elements(value, f"{path}/{key}")


def leaves(node: Any) -> Iterator[object]:
    """Every value."""
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from leaves(value)
    else:
        yield node


def test_without_an_address_no_study_has_an_endpoint(make: Any, source: Any) -> None:
    context = replace(make.context(source), settings=Settings())
    payload = encode_fhir(context, EHR)
    for each in studies(payload):
        assert "endpoint" not in each
        assert "contained" not in each
    assert not {"media", "presentedForm"} & set(only(payload, "DiagnosticReport"))
    assert "DocumentReference" not in {url.partition("/")[0] for url in resources(payload)}


def test_an_identifier_of_control_characters_alone_is_none(make: Any, source: Any) -> None:
    headers = tuple(make.copy(header, PatientID="\x00\x01") for header in source.headers)
    study, _ = studies(encoded(make, replace(source, headers=headers)))
    assert "identifier" not in study["subject"]


def test_a_moment_without_a_zone_is_no_instant() -> None:
    assert fhir_text.instant(datetime(2026, 3, 14, 15, 9, 26)) == ""  # noqa: DTZ001 - that is the case
