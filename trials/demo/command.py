"""``medai demo``: one study through the whole system, on this machine, for everybody to watch.

The flow is ``_tour``: start everything, order a study at the RIS, make and send its images, follow it, check the
result where it should have arrived (archive and RIS, not our own word for it), show it, stop everything.
A study given with ``--study`` keeps its UIDs and its patient; only an empty accession number is filled in, with one
derived from its Study UID, because the order and the images are joined by it. Next: follow.py, box.py, text.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from medai.router.words import counted
from medai.trials.box import Box, BoxError, Teller, down, log_tails, up
from medai.trials.demo.follow import Outcome, follow
from medai.trials.demo.text import measurement_table, oru_lines, waterfall
from medai.trials.scanner.scu import Peer, SendError, send
from medai.trials.scanner.studies import copy_studies, nifti_to_mr_series
from medai.trials.study import Patient, StudyError, StudyFolder, derive

HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
"""Colin 27, a real T1 head (mean of 27 scans of one man, 1 mm), from the Debian package mricron-data."""

PATIENT = Patient(patient_id="MEDAI-DEMO", name="Demo^Colin", birth_date="19620101", sex="M")

EXAMPLES = """\
examples:
  medai demo                                a real head, all by itself
  medai demo --study ~/scans/chest          your own DICOM folder; a zip works too
  medai demo --keep                         leave everything running and say where to look
  medai demo --json                         the outcome as JSON on stdout, the story on stderr
  medai demo --json result.json             the outcome in a file
"""


STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    study: Path | None
    keep: bool
    json_file: Path | None
    folder: Path
    own_folder: bool
    """The folder was made by us for this run, so it may be tidied up."""
    timeout_s: float
    priority: str
    associations: int


def main(argv: list[str]) -> int:
    """Run the demo; 0 only if every result is where it belongs, 1 if not, 130 after Ctrl-C."""
    os.umask(0o077)  # a study of the user's own may be a patient's
    options, stdout = _options(argv), sys.stdout
    if options.json_file == STDOUT:
        with contextlib.redirect_stdout(sys.stderr):
            return _run(options, stdout)
    return _run(options, stdout)


def _run(options: Options, stdout: TextIO) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    teller = Teller()
    outcomes: list[Outcome] = []
    code = 1
    try:
        outcomes = _tour(options, teller)
        code = 0 if outcomes and all(outcome.ok for outcome in outcomes) else 1
    except KeyboardInterrupt:
        teller.say("interrupted")
        code = 130
    except (BoxError, SendError, StudyError) as error:
        teller.say(f"FAILED: {error}")
    finally:
        _stop(options, teller, leave=options.keep and code != 130)
    _write_json(options, outcomes, stdout, ok=code == 0)
    if code == 1:
        _explain_failure(options, outcomes, teller)
    _tidy(options, code)
    teller.say("everything is where it belongs" if code == 0 else f"not complete (exit {code})")
    return code


def _tour(options: Options, teller: Teller) -> list[Outcome]:
    """The flow, on one page."""
    teller.say(f"folder of this run: {options.folder}")
    studies = _find_studies(options, teller)
    teller.say("starting Orthanc, Redis, router, worker and mock RIS ...")
    box = up(options.folder)
    teller.say(f"all parts answer; archive {box.orthanc_url}, RIS page {box.ris_url}")
    sent = []
    for study in studies:
        _order(box, study, options, teller)
        sent.append(_acquired(study, teller))
        _send(box, sent[-1], options, teller)
    outcomes = []
    for study in sent:
        outcomes += follow(box, study, timeout_s=options.timeout_s, teller=teller)
    for number, outcome in enumerate(outcomes, start=1):
        _show(box, outcome, _results_folder(options, number, len(outcomes)), teller)
    if options.keep:
        _tell_where(box, options, teller)
    return outcomes


def _find_studies(options: Options, teller: Teller) -> tuple[StudyFolder, ...]:
    """What will be sent. The default head is only planned here: its images are made once it was ordered."""
    place = options.folder / "study"
    if options.study is None:
        if not HEAD.exists():
            raise StudyError(f"{HEAD} is missing: install the Debian package mricron-data, or give --study FOLDER")
        accession = f"D{datetime.now(UTC).astimezone():%y%m%d%H%M%S}"
        uid = derive(accession, "study")
        return (
            StudyFolder(folder=place, files=(), study_uid=uid, accession=accession, patient=PATIENT, modality="MR"),
        )
    teller.say(f"reading {options.study} ...")
    studies = copy_studies(options.study, place, fresh_identity=False, accession=None)
    for study in studies:
        skipped = f"; {counted(study.skipped, 'other file')} left out" if study.skipped else ""
        teller.say(f"a study of {counted(len(study.files), f'{study.modality} image')}{skipped}")
    return studies


def _acquired(study: StudyFolder, teller: Teller) -> StudyFolder:
    """The study with its images: the default head is scanned now, as an MR series."""
    if study.files:
        return study
    teller.say(f"writing the real head {HEAD.name} as an MR series ...")
    now = datetime.now(UTC).astimezone()
    made = nifti_to_mr_series(
        HEAD,
        study.folder,
        patient=study.patient,
        accession=study.accession,
        study_uid=study.study_uid,
        seed=study.accession,
        acquired_at=now,
    )
    teller.say(f"a study of {counted(len(made.files), f'{made.modality} image')}")
    return made


def _order(box: Box, study: StudyFolder, options: Options, teller: Teller) -> None:
    order = box.place_order(study, priority=options.priority)
    answer = order.get("ack") or f"none yet ({order.get('state')})"
    teller.say(f"order {order['placer']} placed at the RIS; the router answers {answer}")


def _send(box: Box, study: StudyFolder, options: Options, teller: Teller) -> None:
    archive = box.facts["orthanc"]
    peer = Peer(host="127.0.0.1", port=int(archive["dicom_port"]), called_aet=str(archive["aet"]), tls=box.tls)
    teller.say(f"sending {counted(len(study.files), 'image')} by C-STORE to {peer.called_aet}, port {peer.port} ...")
    step = max(1, len(study.files) // 4)

    def progress(done: int, total: int) -> None:
        if done % step == 0 and done < total:
            teller.say(f"  {done} of {total}")

    result = send(study.files, peer, associations=options.associations, on_progress=progress)
    for failure in result.failures[:5]:
        teller.say(f"  refused: {failure.file.name}: {failure.reason}")
    if not result.sent:
        raise SendError("the archive accepted none of the images")
    again = f", {result.resent} of them sent again" if result.resent else ""
    teller.say(
        f"sent {counted(result.sent, 'image')} in {result.seconds:.2f} s ({result.images_per_s:.0f} images/s{again})"
    )


def _show(box: Box, outcome: Outcome, place: Path, teller: Teller) -> None:
    if outcome.job is None:
        return
    block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    title = f"route {outcome.job['route']}, model {outcome.job['model']}, {outcome.job['state']}"
    _section(f"Stages ({title})", waterfall(outcome.job["stamps"], block=block))
    turnaround_s = outcome.job.get("turnaround_s")
    if turnaround_s is not None:
        waited = f"; {outcome.job['quiet_s']} s of it waiting for more images" if outcome.job.get("quiet_s") else ""
        print(f"  last image -> ORU acknowledged: {turnaround_s:.2f} s{waited}")
    _section("Measurements", measurement_table(outcome.job.get("measurements", [])))
    if outcome.oru:
        _section("ORU^R01 as the RIS keeps it", oru_lines(outcome.oru))
    _section("Checked", [f"{'ok     ' if check.ok else 'MISSING'} {check.text}" for check in outcome.checks])
    saved = _save(box, outcome, place)
    if saved:
        _section("Saved", [str(path) for path in saved])
    print(flush=True)
    teller.say("this study is done" if outcome.ok else "something is missing")


def _section(title: str, lines: list[str]) -> None:
    print(f"\n{title}")
    for line in lines:
        print(f"  {line}")


def _save(box: Box, outcome: Outcome, place: Path) -> list[Path]:
    """The stored objects as files, the key image as PNG, the ORU as text."""
    place.mkdir(parents=True, exist_ok=True)
    saved = []
    for kind, orthanc_id in outcome.orthanc_ids.items():
        saved.append(place / f"{kind}.dcm")
        saved[-1].write_bytes(box.instance_bytes(orthanc_id, "file"))
    if "sc" in outcome.orthanc_ids:
        saved.append(place / "key-image.png")
        saved[-1].write_bytes(box.instance_bytes(outcome.orthanc_ids["sc"], "preview", accept="image/png"))
    if outcome.oru:
        saved.append(place / "oru.hl7")
        saved[-1].write_text(outcome.oru, encoding="utf-8", newline="")
    return saved


def _tell_where(box: Box, options: Options, teller: Teller) -> None:
    archive = box.facts["orthanc"]
    _section(
        "It keeps running. Where to look",
        [
            f"archive        {box.orthanc_url}  (user {archive['username']}, password {archive['password']})",
            f"send images to DICOM 127.0.0.1:{archive['dicom_port']}, AE title {archive['aet']}",
            f"RIS            {box.ris_url}",
            f"configuration  {box.facts.get('config', '')}",
            f"logs           {box.logs}",
            f"jobs           ./medai jobs --dir {options.folder}",
            f"stop it        ./medai down --dir {options.folder}",
        ],
    )
    print(flush=True)
    teller.say("left running (--keep)")


def _results_folder(options: Options, number: int, total: int) -> Path:
    place = options.folder / "results"
    return place if total == 1 else place / f"{number:02d}"


def _stop(options: Options, teller: Teller, *, leave: bool) -> None:
    if leave or not (options.folder / "medai.toml").exists():  # without that file nothing was started
        return
    teller.say("stopping everything ...")
    try:
        down(options.folder)
    except (BoxError, KeyboardInterrupt) as error:
        teller.say(f"could not stop everything: {error}; try: medai down --dir {options.folder}")


def _write_json(options: Options, outcomes: list[Outcome], stdout: TextIO, *, ok: bool) -> None:
    if options.json_file is None:
        return
    text = json.dumps({"studies": [outcome.as_json() for outcome in outcomes], "ok": ok}, indent=2)
    if options.json_file == STDOUT:
        print(text, file=stdout)
    else:
        options.json_file.write_text(f"{text}\n", encoding="utf-8")


def _explain_failure(options: Options, outcomes: list[Outcome], teller: Teller) -> None:
    for outcome in outcomes:
        if not outcome.ok:
            _section("The router's last decisions", outcome.reasons or ["(none recorded)"])
    if not outcomes or any(outcome.job is not None and not outcome.ok for outcome in outcomes):
        _section("Ends of the logs", log_tails(options.folder) or ["(no logs yet)"])
    print(flush=True)
    teller.say(f"logs and data stay in {options.folder}")


def _tidy(options: Options, code: int) -> None:
    """After success in a folder of our own, only the results stay; a failure keeps everything to look at."""
    if options.keep or not options.own_folder or code == 1:
        return
    for path in options.folder.iterdir():
        if path.name == "results":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not any(options.folder.iterdir()):
        options.folder.rmdir()


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="medai demo",
        description="Start everything in a folder of its own, order and send one study, show what comes back, stop.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--study", type=Path, metavar="PATH", help="folder, zip or file of DICOM; default: a real T1 head")
    add("--keep", action="store_true", help="leave the system running at the end")
    text = "print the outcome as JSON (all else goes to stderr), or write it to FILE"
    add("--json", type=Path, nargs="?", const=STDOUT, metavar="FILE", dest="json_file", help=text)
    add("--dir", type=Path, metavar="DIR", help="folder for data, logs and results; default: a new temporary one")
    add("--timeout", type=float, default=600.0, metavar="S", help="longest wait for a result (default 600)")
    add("--priority", choices=("R", "A", "S"), default="R", help="of the order: routine, ASAP, STAT (default R)")
    add("--associations", type=int, default=1, metavar="N", help="C-STORE associations at once (default 1)")
    return made


def _options(argv: list[str]) -> Options:
    made = make_parser()
    asked = made.parse_args(argv)
    if asked.study is not None and not asked.study.exists():
        made.error(f"--study {asked.study} does not exist")
    if asked.associations < 1:
        made.error("--associations must be at least 1")
    folder = asked.dir.absolute() if asked.dir else Path(tempfile.mkdtemp(prefix="medai-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    return Options(
        study=asked.study,
        keep=asked.keep,
        json_file=asked.json_file,
        folder=folder,
        own_folder=asked.dir is None,
        timeout_s=asked.timeout,
        priority=asked.priority,
        associations=asked.associations,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
