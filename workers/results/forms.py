"""The forms of a result that only leave: made for a DICOM destination that wants them, never stored in the archive.

Next: labelmap.py, overlay.py, rtstruct.py, gsps.py, pdf.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import structlog
from pydicom import Dataset

from medai.router.contract import Form
from medai.router.log import describe
from medai.workers.results.context import Context
from medai.workers.results.gsps import encode_gsps
from medai.workers.results.labelmap import encode_labelmap
from medai.workers.results.overlay import encode_overlay
from medai.workers.results.pdf import encode_pdf
from medai.workers.results.rtstruct import encode_rtstruct

log = structlog.get_logger(__name__)


def encode_forms(context: Context, seg: Dataset, wanted: Collection[Form]) -> dict[Form, Dataset]:
    """The wanted forms in the order of Form, each in the transfer syntax of its ``file_meta``; every time the same.

    SEG, SR and SC, which every job has already, are passed over. A form that can't be made is left out: it costs its
    destination this form (the receipt says so), not everybody the reading.
    """
    makers: Mapping[Form, Callable[[], Dataset]] = {
        Form.LABELMAP: partial(encode_labelmap, context),
        Form.OVERLAY: partial(encode_overlay, context),
        Form.RTSTRUCT: partial(encode_rtstruct, context, seg),
        Form.GSPS: partial(encode_gsps, context),
        Form.PDF: partial(encode_pdf, context, seg),
    }
    made = {form: _made(form, makers[form]) for form in Form if form in wanted and form in makers}
    return {form: dataset for form, dataset in made.items() if dataset is not None}


def _made(form: Form, maker: Callable[[], Dataset]) -> Dataset | None:
    try:
        return maker()
    except Exception as error:  # noqa: BLE001 - strangers' headers in others' libraries: whatever they raise, the rest goes on
        log.error("form_left_out", form=form.value, reason=describe(error))
        return None
