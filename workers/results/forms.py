"""The forms of a result that only leave: made for a DICOM destination that wants them, never stored in the archive.

Next: labelmap.py, overlay.py, rtstruct.py, gsps.py, pdf.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from pydicom import Dataset

from medai.router.contract import Form
from medai.workers.results.context import Context
from medai.workers.results.gsps import encode_gsps
from medai.workers.results.labelmap import encode_labelmap
from medai.workers.results.overlay import encode_overlay
from medai.workers.results.pdf import encode_pdf
from medai.workers.results.rtstruct import encode_rtstruct


def encode_forms(context: Context, seg: Dataset, wanted: Collection[Form]) -> dict[Form, Dataset]:
    """The wanted forms in the order of Form, each in the transfer syntax of its ``file_meta``; every time the same.

    SEG, SR and SC, which every job has already, are passed over. Raises GeometryMismatch when the mask does not fit.
    """
    makers: Mapping[Form, Callable[[], Dataset]] = {
        Form.LABELMAP: partial(encode_labelmap, context),
        Form.OVERLAY: partial(encode_overlay, context),
        Form.RTSTRUCT: partial(encode_rtstruct, context, seg),
        Form.GSPS: partial(encode_gsps, context),
        Form.PDF: partial(encode_pdf, context, seg),
    }
    return {form: makers[form]() for form in Form if form in wanted and form in makers}
