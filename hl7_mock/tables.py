"""The HL7 tables that the checks look into (HL7 v2.5.1, appendix A), and the few that the acknowledgement uses.

Next: checks.py.
"""

from __future__ import annotations

ERROR_CODES = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "104": "Value too long",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}
"""Table 0357."""

PROCESSING_IDS = frozenset({"P", "T", "D"})
"""Table 0103."""

RESULT_STATUS = {
    "O": "ordered",
    "I": "in process",
    "S": "scheduled",
    "A": "some results",
    "R": "stored, not verified",
    "P": "preliminary",
    "F": "final",
    "C": "corrected",
    "X": "withdrawn",
}
"""Table 0123 (OBR-25); Y and Z belong to queries and are not results. X is "no results available; order canceled":
of a result that was sent before (we take no other), that it holds no more."""

STATUS_RANK = {"O": 0, "I": 0, "S": 0, "A": 1, "R": 2, "P": 2, "F": 3, "C": 4, "X": 5}
"""How far a result has come. A later message of the same filler number may not have a lower rank; inbox.py has the
exceptions: what C needs, and what may follow X."""

OBSERVATION_STATUS = frozenset("CDFINOPRSUWX")
"""Table 0085 (OBX-11)."""

ABNORMAL_FLAGS = frozenset(
    {"L", "H", "LL", "HH", "<", ">", "N", "A", "AA", "U", "D", "B", "W", "S", "R", "I", "MS", "VS"}
)
"""Table 0078 (OBX-8)."""

VALUE_TYPES = frozenset(
    """AD CE CF CK CN CP CX DT ED FT MO NM PN RP SN ST TM TN TS TX XAD XCN XON XPN XTN
    CWE CNE DR DTM EI HD ID IS SI""".split()  # noqa: SIM905 - a table reads better as words
)
"""Table 0125 (OBX-2): the first line as printed in 2.5.1, the second allowed by later versions and IHE profiles."""

TYPES_OF_DATA = frozenset({"AP", "AU", "FT", "IM", "multipart", "NS", "SD", "SI", "TEXT", "TX"})
"""Table 0191 (RP.3)."""

SUBTYPES = frozenset(
    """BASIC DICOM FAX GIF HTML JOT JPEG Octet-stream PICT PostScript RTF SGML TIFF x-hl7-cda-level-one XML""".split()  # noqa: SIM905 - as above
)
"""Table 0291 (RP.4), as printed in 2.5.1."""

STATUS_WITHOUT_VALUE = frozenset("DIONSX")
"""OBX-11 values for which OBX-5 (and then OBX-2) may be empty: deleted, pending, not asked, not obtained."""

PRIORITIES = {
    "S": "S",
    "STAT": "S",
    "A": "A",
    "ASAP": "A",
    "HIGH": "A",
    "URGENT": "A",
    "R": "R",
    "ROUTINE": "R",
    "MEDIUM": "R",
    "LOW": "R",
}
"""Words for a priority -> table 0485."""

PRIORITY_NAMES = {"S": "STAT", "A": "ASAP", "R": "routine"}
