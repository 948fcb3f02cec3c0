"""Who may associate: by the AE title that is called, by the one that calls, and by where it calls from.

Next: settings/dicom_in.py (what a site says of it), relay.py (who asks).
"""

from __future__ import annotations

import ipaddress

from medai.router.dicom_front.pdu import Rejection, Request
from medai.router.settings.dicom_in import DicomInSettings


class Senders:
    """The site's answer to a request. Titles are compared as Orthanc does: in capitals, without spaces around."""

    def __init__(self, settings: DicomInSettings) -> None:
        self._called = {_same(title) for title in settings.front.called_ae_titles}
        self._known = {(_same(sender.ae_title), _address(sender.host)) for sender in settings.senders}
        self._anybody = settings.anybody

    def refusal(self, request: Request, address: str) -> Rejection | None:
        """Why it is not let in; None where it is."""
        if self._called and _same(request.called) not in self._called:
            return Rejection.CALLED_AE_NOT_RECOGNIZED
        if not self._anybody and (_same(request.calling), _address(address)) not in self._known:
            return Rejection.CALLING_AE_NOT_RECOGNIZED
        return None


def _same(title: str) -> str:
    return title.strip(" ").upper()


def _address(text: str) -> str:
    """As it is compared: one of IPv4 that came in by an IPv6 socket is one of IPv4."""
    found = ipaddress.ip_address(text.partition("%")[0])
    return str(getattr(found, "ipv4_mapped", None) or found)
