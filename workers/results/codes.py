"""The codes that several kinds of result use: what was imaged, what was measured, what the checks came to.

SNOMED CT (SCT), LOINC (LN), DICOM (DCM, PS3.16) and our own (99MEDAI). LOINC is where a published context has it: the
imaging procedure (CID 100) and the findings of an imaging report (PS3.20). For the volume or the attenuation of a
structure in an image no such context names a LOINC code, and TID 1500 has those of SNOMED CT and DICOM: none is made up
from LOINC's list. Next: context.py.
"""

from __future__ import annotations

from medai.models.volume import Code
from medai.workers.results.measure import MEAN_ATTENUATION, VOLUME

LOCAL = "99MEDAI"
"""Our own coding scheme, for what no standard one has a code for."""
ARTIFICIAL_INTELLIGENCE = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")
PROCEDURES = {
    "CT": Code(value="25045-6", scheme="LN", meaning="CT unspecified body region"),
    "MR": Code(value="25056-3", scheme="LN", meaning="MRI unspecified body region"),
    "PT": Code(value="44136-0", scheme="LN", meaning="PET unspecified body region"),
    "NM": Code(value="49118-3", scheme="LN", meaning="NM unspecified body region"),
    "CR": Code(value="43468-8", scheme="LN", meaning="XR unspecified body region"),
    "DX": Code(value="43468-8", scheme="LN", meaning="XR unspecified body region"),
}
"""Procedure reported (121058) by modality, of CID 100: the imaging, not the algorithm."""
ANY_PROCEDURE = Code(value="363679005", scheme="SCT", meaning="Imaging procedure")
IMAGING_PROCEDURES = frozenset(
    {("SCT", "363679005"), ("SCT", "258177008"), ("SCT", "433139009"), ("SCT", "446315002"), ("SCT", "443271005")}
    | {("SCT", "443844003"), ("DCM", "126020"), ("DCM", "126021"), ("DCM", "126022"), ("RADLEX", "RPID5427")}
    | {("LN", code) for code in ("25045-6", "25056-3", "49118-3", "44136-0", "44139-4", "39142-5", "39632-5")}
)
"""CID 100, Quantitative Diagnostic Imaging Procedures (PS3.16), as (scheme, value)."""
FINDINGS = Code(value="59776-5", scheme="LN", meaning="Procedure Findings")
"""The narrative: the code of the section Findings of an imaging report (DICOM PS3.20 9.5), into which dictation systems
take it. 18782-3, Radiology Study observation (narrative), is the whole body of a radiologist's report: too much."""
QUANTITIES = {
    VOLUME: Code(value="118565006", scheme="SCT", meaning="Volume"),
    MEAN_ATTENUATION: Code(value="112031", scheme="DCM", meaning="Attenuation Coefficient"),
}
QUANTITY_WORDS = {VOLUME: "volume", MEAN_ATTENUATION: "mean attenuation"}
"""As the last words of a measurement's name: "Right lung volume"."""
LATERALITY = Code(value="272741003", scheme="SCT", meaning="Laterality")
TOPOGRAPHY = Code(value="106233006", scheme="SCT", meaning="Topographical modifier")
ASSESSMENT = Code(value="111005", scheme="DCM", meaning="Assessment Category")
"""Assignment of an overall result to a general category (PS3.16 annex D)."""
VERDICTS = {
    "plausible": Code(value="PLAUSIBLE", scheme=LOCAL, meaning="Plausible by automatic checks"),
    "check": Code(value="CHECK", scheme=LOCAL, meaning="To be checked by a person"),
}
"""Of the plausibility checks; no standard context group has such categories."""
