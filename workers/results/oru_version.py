"""How an ORU^R01 is written in each version of HL7 that a RIS may ask for (``[ris] version``).

What a version does not know is left out, and what it asks for is there: v2.3 has no structure in MSH-9, one name in
PID-5 and, as the machine-readable forms of the standard have it, asks for OBR-27; v2.3.1 asks for OBX-4; CWE came with
v2.5 to table 0125 (OBX-2), OBX-18 and 19 with v2.4. Everything else is the same in all of them, MSH-18 too: UTF-8 is
what is sent, though table 0211 of older versions may not list that name for it. Identifiers that came from the RIS go
back whole, whatever version they came in. Next: oru.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OruVersion:
    """What one version says otherwise than v2.5.1."""

    kind: str = "ORU^R01^ORU_R01"
    """MSH-9."""
    coded: str = "CE"
    """OBX-2 of a coded value; no value of ours has more than the six components of a CE."""
    names_repeat: bool = True
    """Whether PID-5 may have a second name, such as the ideographic one."""
    timing: str = ""
    """OBR-27, quantity and timing: once."""
    observation_fields: int = 19
    """The last field of an OBX that it knows."""
    sub_id: str = ""
    """OBX-4 of what belongs to no segment."""


VERSIONS: Mapping[str, OruVersion] = {
    "2.5.1": OruVersion(coded="CWE"),
    "2.4": OruVersion(),
    "2.3.1": OruVersion(observation_fields=17, sub_id="0"),
    "2.3": OruVersion(kind="ORU^R01", names_repeat=False, timing="1", observation_fields=17),
}
"""By MSH-12."""
