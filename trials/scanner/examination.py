"""One study on one scanner, from the performed step's begin to its end: what a trial and ``medai scan`` have in common.

A RIS that is away holds up no scan: the step is then not reported, and the images do not refer to it.
Next: sender.py, volumes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from medai.trials.scanner.scu import Peer, SendError
from medai.trials.scanner.sender import PerformedStep, Sender, Sent, Settings, Tell, Waiting
from medai.trials.scanner.volumes import Request, Series, Template, make_study


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What a scanner did."""

    series: tuple[Series, ...]
    sent: Sent
    step_begun: bool
    """The RIS took the performed step's begin."""
    step_ended: bool


def examine(
    template: Template,
    request: Request,
    scanner: Settings,
    *,
    habits: Sequence[str],
    archive: Peer,
    ris: Peer | None,
    clock: Waiting,
    tell: Tell,
) -> Examination:
    """Make a study and send it; returns when the archive has all of it, or the clock says to give up.

    The study is made once the step has begun, and is not kept. ``tell`` hears mpps-in-progress, first-image,
    series-sent, aborted, archive-away, sent-twice, late-slices, mpps-completed or mpps-discontinued, mpps-not-taken.
    """
    step = PerformedStep(ris, scanner, request) if ris is not None else None
    begun = step is not None and _reported(step.begin, tell, "mpps-in-progress")
    series = make_study(template, replace(request, performed=begun), habits=habits)
    sent = Sender(archive, scanner, habits, clock, tell).run(series)
    ended = False
    if step is not None and begun:
        completed = "discontinued" not in habits
        name = "mpps-completed" if completed else "mpps-discontinued"
        ended = _reported(lambda: step.end(series, completed=completed), tell, name)
    return Examination(series=series, sent=sent, step_begun=begun, step_ended=ended)


def _reported(send: Callable[[], None], tell: Tell, name: str) -> bool:
    """Whether the RIS took a message of the performed step."""
    try:
        send()
    except SendError as error:
        tell("mpps-not-taken", str(error))
        return False
    tell(name, "")
    return True
