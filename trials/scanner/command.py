"""``medai scan``: one scanner by hand. It makes studies from real volumes and sends them as a modality would.

With ``--ris`` it takes what the worklist has for its modality and reports performed steps; else it makes patients up.
Exit codes: 0 the archive has everything, 1 it has not, 2 wrong usage, 130 interrupted. Next: examination.py.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from medai.router.words import counted
from medai.trials.box import Teller
from medai.trials.clock import Clock
from medai.trials.scanner.examination import Examination, examine
from medai.trials.scanner.scu import Peer, SendError
from medai.trials.scanner.sender import Settings
from medai.trials.scanner.sources import from_folder, head, radiograph, stacked_ct
from medai.trials.scanner.volumes import Request, Template, thinned
from medai.trials.scanner.worklist import Scheduled, worklist
from medai.trials.scenario import ScenarioError
from medai.trials.study import Patient, derive

HABITS = (
    "localizer", "repeated-series", "aborted-association", "late-slices", "wrong-body-part", "missing-accession",
    "duplicate-send", "compressed", "association-per-image", "discontinued",
)  # fmt: skip
AS_FAST_AS_POSSIBLE = 1e9
"""Images per second: no wait that can be measured."""
EXAMPLES = """\
examples:
  medai scan --archive localhost:4242
  medai scan --archive localhost:4242 --modality CT --source ~/dicom/chest --habit localizer --habit late-slices
  medai scan --archive localhost:4242 --ris localhost:11112 --count 3    the next three of the worklist
  medai scan --archive localhost:4242 --modality CR --pace 0 --count 50 --seed 7 --json

Without --source: Colin 27 as MR, pydicom's CT slice stacked as CT, its projection as CR.
The same seed makes the same studies; the seed that was used is shown.
Exit codes: 0 the archive has everything, 1 it has not, 2 wrong usage, 130 interrupted.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    source: Path | None
    archive: Peer
    ris: Peer | None
    scanner: Settings
    habits: tuple[str, ...]
    count: int
    seed: str
    every_nth: int
    downsample: int
    give_up_s: float
    json: bool


class Patience:
    """A clock that gives up when the archive has taken nothing for so many seconds."""

    def __init__(self, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._clock = Clock(accelerate=1.0)
        self._waits_since: float | None = None

    def sleep(self, hospital_s: float) -> None:
        """Wait; the scanner does so before an image, so the one before was taken."""
        self._waits_since = None
        self._clock.sleep(hospital_s)

    def pause_s(self, real_s: float) -> bool:
        """Wait before another try; whether there shall be none."""
        now = time.monotonic()
        self._waits_since = self._waits_since if self._waits_since is not None else now
        if now + real_s - self._waits_since > self._give_up_s:
            return True
        return self._clock.pause_s(real_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Scan what was asked for."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    teller = Teller(sys.stderr)
    done: list[dict[str, Any]] = []
    try:
        _scan_all(options, teller, done)
        code = 0 if len(done) == options.count and all(study["ok"] for study in done) else 1
    except ScenarioError as error:
        return _failed(options, str(error), 2)
    except SendError as error:
        return _failed(options, str(error), 1)
    except KeyboardInterrupt:
        code = 130
    _conclude(options, done, code)
    return code


def _scan_all(options: Options, teller: Teller, done: list[dict[str, Any]]) -> None:
    """The flow, on one page."""
    template = _template(options)
    teller.say(f"studies are made from {template.source}; seed {options.seed}")
    seen: set[str] = set()
    for number in range(1, options.count + 1):
        scheduled = _next_scheduled(options, seen)
        if options.ris is not None and scheduled is None:
            teller.say(f"the worklist has no more {options.scanner.modality} studies")
            return
        request = _request(options, number, scheduled)

        def tell(name: str, detail: str, number: int = number) -> None:
            teller.say(f"study {number}: {name}{': ' if detail else ''}{detail}")

        made = examine(
            template, request, options.scanner, habits=options.habits, archive=options.archive, ris=options.ris,
            clock=Patience(options.give_up_s), tell=tell,
        )  # fmt: skip
        done.append(_told(number, request, made, options))
        teller.say(f"study {number}: {_sentence(done[-1])}")
        if not done[-1]["ok"]:
            return


def _template(options: Options) -> Template:
    modality = options.scanner.modality
    if options.source is not None:
        found = _of_folder(options.source, modality)
    elif modality == "MR":
        found = head()
    else:
        found = stacked_ct() if modality == "CT" else radiograph(stacked_ct())
    return thinned(found, every_nth=options.every_nth, downsample=options.downsample)


def _of_folder(folder: Path, modality: str) -> Template:
    """A radiograph that the folder lacks is the projection of its CT."""
    try:
        return from_folder(folder, modality)
    except ScenarioError:
        if modality != "CR":
            raise
        return radiograph(from_folder(folder, "CT"))


def _next_scheduled(options: Options, seen: set[str]) -> Scheduled | None:
    """The first entry of the worklist that was not scanned here yet; raises SendError where the RIS is away."""
    if options.ris is None:
        return None
    for entry in worklist(options.ris, modality=options.scanner.modality):
        if entry.study_uid not in seen:
            seen.add(entry.study_uid)
            return entry
    return None


def _request(options: Options, number: int, scheduled: Scheduled | None) -> Request:
    seed = f"scan|{options.seed}|{number}"
    digest = sha256(seed.encode()).hexdigest().upper()
    nobody = Patient(patient_id=f"SCAN{digest[:8]}", name=f"Scan{digest[:6]}^No{number}", sex="O")
    pace = options.scanner.images_per_s
    return Request(
        patient=scheduled.patient if scheduled else nobody,
        accession=scheduled.accession if scheduled else f"S{digest[:11]}",
        study_uid=scheduled.study_uid if scheduled and scheduled.study_uid else derive(seed, "study"),
        seed=seed,
        acquired_at=datetime.now(UTC).astimezone(),
        requested_procedure_id=scheduled.requested_procedure_id if scheduled else "",
        scheduled_step_id=scheduled.scheduled_step_id if scheduled else "",
        procedure=scheduled.procedure if scheduled else "",
        image_s=1.0 / pace,
        pause_s=options.scanner.pause_s,
    )


def _told(number: int, request: Request, made: Examination, options: Options) -> dict[str, Any]:
    sent, expected = made.sent, sum(len(series.images) for series in made.series)
    return {
        "number": number,
        "study_uid": request.study_uid,
        "accession": "" if "missing_accession" in options.habits else request.accession,
        "scheduled": bool(request.scheduled_step_id),
        "step_reported": made.step_begun and made.step_ended,
        "series": {series.name: len(series.images) for series in made.series},
        "transfer_syntax": made.series[0].images[0].file_meta.TransferSyntaxUID.name,
        "images": sent.images,
        "sent_again": sent.resent,
        "associations": sent.associations,
        "first_image_at": sent.first_at if sent.images else None,
        "last_image_at": sent.last_at if sent.images else None,
        "refused": sent.refused,
        "ok": sent.images == expected and not sent.refused,
    }


def _sentence(study: dict[str, Any]) -> str:
    if not study["images"]:
        return f"the archive accepted nothing; {'; '.join(study['refused'])}"
    seconds = study["last_image_at"] - study["first_image_at"]
    again = f", {study['sent_again']} sent again" if study["sent_again"] else ""
    refused = f"; {'; '.join(study['refused'])}" if study["refused"] else ""
    took = f"{seconds:.1f} s, {counted(study['associations'], 'association')}"
    return f"{counted(study['images'], 'image')} in {took}{again}{refused}"


def _conclude(options: Options, done: list[dict[str, Any]], code: int) -> None:
    if options.json:
        print(json.dumps({"seed": options.seed, "studies": done, "ok": code == 0}, indent=2))
        return
    whole = sum(study["ok"] for study in done)
    images = counted(sum(study["images"] for study in done), "image")
    print(f"in the archive: {whole} of {counted(options.count, 'study', 'studies')} ({images})")


def _failed(options: Options, text: str, code: int) -> int:
    said = json.dumps({"error": text, "exit_code": code}) if options.json else f"medai scan: {text}"
    print(said, file=sys.stderr)
    return code


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="medai scan",
        description="Scan as a modality does: worklist, performed step, images made from real volumes, by C-STORE.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--archive", required=True, metavar="HOST:PORT", help="where images go")
    add("--archive-aet", default="ORTHANC", metavar="AET", help="its AE title (default ORTHANC)")
    add("--ris", metavar="HOST:PORT", help="worklist and performed steps; without it patients are made up")
    add("--ris-aet", default="MEDAI_RIS", metavar="AET", help="its AE title (default MEDAI_RIS)")
    add("--aet", default="MEDAI_SCANNER", metavar="AET", help="the scanner's AE title (default MEDAI_SCANNER)")
    add("--modality", choices=("CT", "MR", "CR"), default="MR", help="default MR")
    add("--source", type=Path, metavar="DIR", help="DICOM folder: its largest series of the modality is taken")
    add("--every-nth", type=int, default=1, metavar="N", help="take each n-th slice (default 1)")
    add("--downsample", type=int, default=1, metavar="N", help="take each n-th row and column (default 1)")
    add("--count", type=int, default=1, metavar="N", help="how many studies (default 1)")
    add("--pace", type=float, default=10.0, metavar="N", help="images per second; 0: as fast as possible (default 10)")
    add("--pause", type=float, default=2.0, metavar="S", help="seconds between two series (default 2)")
    add("--late-after", type=float, default=30.0, metavar="S", help="when late slices follow (default 30)")
    text = f"what does not go by the book; may be given more than once: {', '.join(HABITS)}"
    add("--habit", action="append", default=[], choices=HABITS, metavar="NAME", dest="habits", help=text)
    add("--seed", metavar="TEXT", help="the same seed makes the same studies (default: a new one)")
    add(
        "--give-up",
        type=float,
        default=60.0,
        metavar="S",
        help="give up after S seconds without an archive (default 60)",
    )
    add("--json", action="store_true", help="print the outcome as JSON; progress goes to standard error")
    return made


def _options(argv: Sequence[str] | None) -> Options:
    made = make_parser()
    asked = made.parse_args(argv)
    if asked.source is not None and not asked.source.is_dir():
        made.error(f"--source {asked.source} is not a folder")
    for name in ("every_nth", "downsample", "count"):
        if getattr(asked, name) < 1:
            made.error(f"--{name.replace('_', '-')} must be at least 1")
    for name in ("pace", "pause", "late_after", "give_up"):
        if not (math.isfinite(getattr(asked, name)) and getattr(asked, name) >= 0):
            made.error(f"--{name.replace('_', '-')} must be finite and not negative")
    pace = asked.pace or AS_FAST_AS_POSSIBLE
    return Options(
        source=asked.source,
        archive=_peer(made, "--archive", asked.archive, asked.archive_aet, asked.aet),
        ris=_peer(made, "--ris", asked.ris, asked.ris_aet, asked.aet) if asked.ris else None,
        scanner=Settings(
            name=asked.aet, modality=asked.modality, images_per_s=pace, pause_s=asked.pause, late_s=asked.late_after
        ),
        habits=tuple(habit.replace("-", "_") for habit in asked.habits),
        count=asked.count,
        seed=asked.seed or f"{datetime.now(UTC):%Y%m%d%H%M%S%f}",
        every_nth=asked.every_nth,
        downsample=asked.downsample,
        give_up_s=asked.give_up,
        json=asked.json,
    )


def _peer(parser: argparse.ArgumentParser, option: str, text: str, called: str, calling: str) -> Peer:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        parser.error(f"{option} {text}: give HOST:PORT, as in localhost:4242")
    for title in (called, calling):
        if not 0 < len(title.strip()) <= 16:
            parser.error(f"the AE title {title!r} must have 1 to 16 characters")
    return Peer(host=host.strip("[]"), port=int(port), called_aet=called, calling_aet=calling, timeout_s=10.0)


if __name__ == "__main__":
    sys.exit(main())
