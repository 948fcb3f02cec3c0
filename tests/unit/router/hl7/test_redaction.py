"""A message that is shown says nothing of its patient."""

from __future__ import annotations

from dicom_cases import PLANTED

from medai.router.hl7.redaction import HIDDEN, hidden

ORU = "MSH|^~\\&|MED-AI||RIS||20260101||ORU^R01|1|P|2.5.1\rPID|1||MRN-PLANTED-77^^^H||Plantedname^Test||19010203|O\rOBX|1|NM|volume||4.2|mL\r"


def test_a_message_is_shown_without_its_patient() -> None:
    text = hidden(ORU)
    assert not [value for value in PLANTED.values() if value in text]
    assert "OBX|1|NM|volume||4.2|mL" in text
    assert f"PID|1||{HIDDEN}||{HIDDEN}||{HIDDEN}|O" in text


def test_what_is_no_hl7_is_hidden_whole() -> None:
    assert hidden('{"resourceType": "Bundle"}') == HIDDEN
