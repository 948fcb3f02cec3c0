"""What each destination for DICOM objects gets of a reading besides what the archive holds, packed for the ledger.

The forms that its settings ask for, each made once however many ask for it, and the note that rejects what it gets.
Next: forms.py, rejection.py (the objects), router/files/parcel.py (the parcel), router/delivery/objects.py (who sends).
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

from pydicom import Dataset

from medai.router.contract import Form
from medai.router.files.parcel import Parcel, pack
from medai.router.settings.destinations import TakesObjects
from medai.workers.results.context import Context
from medai.workers.results.forms import encode_forms
from medai.workers.results.rejection import encode_rejection

FROM_ARCHIVE = frozenset({Form.SEG, Form.SEG_DEFLATED, Form.SR, Form.SC})
"""Forms that are sent from there; a SEG is deflated on its way."""


def encode_parcels(context: Context, objects: Mapping[str, Dataset]) -> Mapping[str, bytes]:
    """Destination -> its parcel, where there is anything in it; ``objects`` are those for the archive, by kind."""
    named = ((name, context.settings.destinations.get(name)) for name in context.job.destinations)
    takers = {name: taker for name, taker in named if isinstance(taker, TakesObjects)}
    wanted = {form for taker in takers.values() for form in taker.results} - FROM_ARCHIVE
    forms = encode_forms(context, objects["seg"], wanted) if wanted else {}
    parcels = {name: pack(_parcel(context, taker, objects, forms)) for name, taker in takers.items()}
    return {name: parcel for name, parcel in parcels.items() if parcel is not None}


def to_bytes(dataset: Dataset) -> bytes:
    """A DICOM file in memory."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _parcel(
    context: Context, taker: TakesObjects, objects: Mapping[str, Dataset], forms: Mapping[Form, Dataset]
) -> Parcel:
    mine = {form: forms[form] for form in taker.results if form in forms}
    kinds = ["seg" if form is Form.SEG_DEFLATED else form.value for form in taker.results]
    sent = [*(objects[kind] for kind in kinds if kind in objects), *mine.values()]
    note = to_bytes(encode_rejection(context, sent)) if taker.rejection_notes and sent else None
    return Parcel(forms={form: to_bytes(dataset) for form, dataset in mine.items()}, note=note)
