"""What a destination for DICOM objects gets of one reading besides what the archive holds: its parcel in the ledger.

The other forms of the result, and the note that rejects all of it should it ever be superseded or withdrawn (IHE IOCM).
A parcel is a zip of DICOM files whose bytes follow from its content alone. Once delivered it is cut down to the note:
that may be wanted years later, and the pictures would only make the ledger grow.
Next: workers/deliver.py (who packs it), delivery/courier.py (who opens it).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from medai.router.contract import Form
from medai.router.errors import PermanentError

NOTE = "rejection-note"
MAGIC = b"PK"
"""How a parcel begins."""
_DATED = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """DICOM files for one destination."""

    forms: Mapping[Form, bytes] = field(default_factory=dict, hash=False)
    """Forms of the result that the archive does not hold."""
    note: bytes | None = None
    """Rejects what this destination got of the reading."""


def pack(parcel: Parcel) -> bytes | None:
    """The parcel as the ledger keeps it; None where it is empty."""
    members = {form.value: content for form, content in parcel.forms.items()}
    if parcel.note is not None:
        members[NOTE] = parcel.note
    if not members:
        return None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(f"{name}.dcm", date_time=_DATED)
            member.create_system = 3  # whatever system writes it
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, members[name])
    return buffer.getvalue()


def unpack(payload: bytes | None) -> Parcel:
    """What a delivery's payload holds: nothing where the reading is of a version that packed none.

    A form of a later version that this one has no name for is left out. Raises PermanentError for what is no parcel.
    """
    if not payload:
        return Parcel()
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            members = {name.removesuffix(".dcm"): archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise PermanentError("what the ledger keeps for this destination is damaged: read the study again") from error
    note = members.pop(NOTE, None)
    return Parcel(forms={form: members[form.value] for form in Form if form.value in members}, note=note)


def is_parcel(payload: bytes) -> bool:
    """Whether a payload is one, and no message in words."""
    return payload.startswith(MAGIC)


def note_alone(payload: bytes | None) -> bytes | None:
    """The parcel that is left when all has been delivered; None where there is no note in it."""
    return pack(Parcel(note=unpack(payload).note))
