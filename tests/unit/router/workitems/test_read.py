"""What a workitem says is read from DICOM JSON as pydicom writes it, and from what others make of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ups_server import workitem as made

from medai.router.workitems import read
from medai.router.workitems.read import Code

LUNGS = Code(value="LUNGS", scheme="99HOSPITAL", meaning="Lungs by AI")


def test_a_workitem_is_read_as_pydicom_writes_it() -> None:
    found = read.workitem(made("1.2.3", "1.9", station=("MEDAI", "L", "Med-AI")).to_json_dict())
    assert found == read.Workitem(
        uid="1.2.3", state="SCHEDULED", ready=True, study="1.9", work=(LUNGS,),
        stations=(Code(value="MEDAI", scheme="L", meaning="Med-AI"),),
    )  # fmt: skip
    assert LUNGS.key == "LUNGS^99HOSPITAL"


def test_a_code_may_be_long() -> None:
    said = made("1.2.3", "1.9", code=("A-CODE-OF-MANY-LETTERS", "L", "x")).to_json_dict()
    found = read.workitem(said)
    assert found is not None
    assert found.work[0].value == "A-CODE-OF-MANY-LETTERS"


def test_a_code_that_is_longer_than_the_standard_allows_is_left_out_and_its_meaning_cut() -> None:
    def coded(value: str, scheme: str, meaning: str) -> dict[str, Any]:
        found = {"00080119": value, "00080102": scheme, "00080104": meaning}
        return {tag: {"vr": "UC", "Value": [text]} for tag, text in found.items()}

    listed = [coded("A" * 1025, "L", "a"), coded("B", "L" * 17, "b"), coded("C", "L", "c" * 1000)]
    (code,) = read.codes({read.WORK_CODES: {"vr": "SQ", "Value": listed}}, read.WORK_CODES)
    assert (code.key, len(code.meaning)) == ("C^L", 64)


@pytest.mark.parametrize(
    ("output", "inputs", "study"),
    [("", ("1.9", "1.8"), "1.9"), ("1.8", ("1.9", "1.8"), "1.8"), ("1.7", ("1.9", "1.8"), "1.9"), ("1.7", ("",), "")],
)
def test_the_study_is_the_workitems_own_where_it_is_an_input_else_the_first_input(
    output: str, inputs: tuple[str, ...], study: str
) -> None:
    said = made("1.2.3", inputs[0], more_inputs=inputs[1:], output_study=output).to_json_dict()
    found = read.workitem(said)
    assert found is not None
    assert found.study == study


@pytest.mark.parametrize(("word", "ready"), [("READY", True), ("UNREADY", False), ("INCOMPLETE", False), ("", True)])
def test_a_workitem_may_not_be_ready_yet(word: str, ready: bool) -> None:
    found = read.workitem(made("1.2.3", "1.9", readiness=word).to_json_dict())
    assert found is not None
    assert found.ready is ready


def test_the_address_tells_which_it_is_where_the_answer_does_not() -> None:
    said = made("1.2.3", "1.9").to_json_dict()
    del said["00080018"]
    assert read.workitem(said) is None
    found = read.workitem(said, "1.2.3")
    assert found is not None
    assert found.uid == "1.2.3"


@pytest.mark.parametrize("uid", ["1.2/../../studies", "1.2?x", "1." * 40 + "1", "", "01.2", " "])
def test_what_is_no_uid_is_no_workitem(uid: str) -> None:
    assert read.workitem({"00080018": {"vr": "UI", "Value": [uid]}}) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("A1.^ ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Value", "vr", "00080100"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([read.INPUT, read.WORK_CODES, read.STATE, read.READINESS]), anything))
def test_whatever_a_worklist_says_is_read_or_left_out(said: dict[str, Any]) -> None:
    found = read.workitem(said, "1.2.3")
    assert found is not None
    assert all(isinstance(code.value, str) for code in found.work)
