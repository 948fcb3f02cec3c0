"""Inputs in the form of public bug reports, made by the scripts beside the project, with the truth that each tells.

Each folder of ``shared/cases`` makes a series (or messages) that somebody's system met. Read as a user's files are read,
it gives the voxels of its plain form or is refused with a reason; its results are valid for others. Skipped, saying so,
where the folder is not beside this checkout. A case that no row here names fails.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ball_model import CARD, SPEC, BallModel, BallModels
from hl7types import decode_er7
from hl7types.hl7.v2_5_1.messages import ORU_R01
from validators import run, tool

from medai.models.errors import ModelsError
from medai.models.images.preprocess import nifti_to_volume, series_to_volume
from medai.router.contract import Priority
from medai.router.errors import MedaiError
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import OrderMessage
from medai.router.hl7.segments import BadMessage
from medai.router.ledger import Ledger
from medai.router.settings.tables import Settings
from medai.workers import process
from medai.workers.source_files import read_series

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")
"""What pydicom thinks of these headers is what they are about."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a folder must give: the truth of ``base``, every ``step`` th slice, or a refusal that says ``refused``."""

    base: str = "ct"
    step: int = 1
    refused: str = ""
    arguments: tuple[str, ...] = ()
    clip: tuple[int, int] = (-1024, 3071)
    """What the form can hold at all: 12 bits hold less."""
    name: str = ""
    """The patient's name as it must be read."""


CHARSETS = {
    "jp_std": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ir6_single": "Case^Test",
    "ext_single": "Müller^Jürgen",
    "gb18030": "Wang^XiaoDong=王^小东",
    "gbk_backslash": "Zhang^San=張^乗誠",
    "gbk_as_latin": "",
    "jp": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "jp_ir13": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    "kr": "Hong^Gildong=洪^吉洞=홍^길동",
    "none_utf8": "Müller^Jürgen",
    "none_latin": "Müller^Jürgen",
    "wrong_term": "Müller^Jürgen",
    "cyrillic": "Люкceмбypг^X",
}
"""Which ``charsets`` -> how the name reads; empty: bytes that say less than they meant, which nobody can know."""
ROWS: dict[str, Row] = {
    "plain_ct": Row(),
    "plain_mr": Row(base="mr"),
    "accession_long": Row(),
    "backslash_ids": Row(),
    "birth_date_form": Row(),
    "bits_signed12": Row(clip=(-2048, 2047)),
    "bits_unused": Row(),
    "dates_odd": Row(),
    "ds_comma": Row(refused="no readable Pixel Spacing"),
    "ds_long": Row(),
    "ds_ut": Row(base="mr"),
    "excess_padding": Row(),
    "monochrome1_ct": Row(),
    "monochrome1_mr": Row(base="mr"),
    "no_preamble": Row(),
    "no_preamble_some": Row(),
    "padding_low": Row(),
    "patient_id_empty": Row(),
    "rtstruct_same_series": Row(),
    "rtstruct_same_series last": Row(arguments=("zz_RS.dcm",)),
    "uid_leading_zero": Row(),
    "duplicate_sop": Row(refused="SOP Instance UID"),
    "duplicate_sop_alternate": Row(refused="SOP Instance UID"),
    "interleaved_phases": Row(refused="acquisition"),
    "two_patients_one_series": Row(refused="2 Patient IDs"),
    "rescale_missing_some": Row(base="mr", refused="2 units"),
    "rescale_missing_some from the 20th on": Row(base="mr", refused="no Rescale Slope", arguments=("-20", "2.5")),
    "canon_series_per_slice": Row(refused="are each a series of their own"),
    **{f"charsets {which}": Row(arguments=(which,), name=name) for which, name in CHARSETS.items()},
}
"""Folder (and what is different) -> what it must give."""
REFUSED = {"j2k_no_eoc_s16"}
"""Images without an end are refused: a transfer that broke off looks the same."""
MANY = ("bits_signed12_compressed", "compressed", "nifti_nan", "nifti_scl_nan", "padding_ge_fullres")
"""Folders that make several series or volumes; each has a test of its own."""
SAYS = [
    "hl7_cancel_two_obr", "hl7_orc_two_obr", "hl7_pid3_no_mr", "hl7_placer_namespaces", "hl7_truncation_char",
    "hl7_x00e0",
]  # fmt: skip
"""Folders of messages."""


@pytest.fixture(scope="module")
def cases(shared_data: Callable[[str], Path]) -> Path:
    """The folder of the cases."""
    shared_data("ct_chest_LIDC-IDRI-0314")
    folder = shared_data(".").parent / "cases"
    if not folder.exists():
        pytest.skip("shared/cases is not beside this checkout")
    return folder


@pytest.fixture(scope="module")
def maker(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs a case's script; the two bases are made once."""
    base = tmp_path_factory.mktemp("bases")
    environment = {**os.environ, "CASES_BASE": str(base), "MEDAI_SHARED_DATA": str(cases.parent / "data")}

    def make(case: str, out: Path, *arguments: str) -> Path:
        command = [sys.executable, str(cases / case / "make.py"), str(out), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return out

    make.base = base  # type: ignore[attr-defined]
    make("plain_ct", base / "plain")
    make("plain_mr", base / "plain")
    return make


def truth(maker: Any, row: Row) -> Any:
    """[slice, row, column]: HU of the CT, or the head's stored values."""
    with np.load(maker.base / f"{row.base}.npz") as kept:
        values = np.asarray(kept["hu" if row.base == "ct" else "v"])[:: row.step]
    return np.clip(values, *row.clip) if row.base == "ct" else values


def models_for(base: str) -> Any:
    """The threshold model: soft tissue of the chest, or what is bright in the head."""
    unit, modality, limit = ("HU", "CT", 0.0) if base == "ct" else ("arbitrary", "MR", 400.0)
    models = BallModels()
    spec = SPEC.model_copy(update={"modalities": frozenset({modality}), "unit": unit})
    models.model = BallModel(limit=limit, spec=spec, card=replace(CARD, name="any"))
    return models


def processed(folder: Path, out: Path, base: str) -> dict[str, Any]:
    """``medai process`` with the threshold."""
    settings = Settings(routes=[])
    return process.process(
        folder, out, settings=settings, registry=models_for(base), model="any", series=None, report=lambda _: None
    )


def test_every_case_beside_the_project_is_played_here(cases: Path) -> None:
    there = {folder.name for folder in cases.iterdir() if (folder / "make.py").exists()}
    assert there == {name.split(" ")[0] for name in ROWS} | set(MANY) | set(SAYS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_series_gives_the_values_of_its_plain_form_or_is_refused_with_the_reason(
    maker: Any, tmp_path: Path, name: str
) -> None:
    row = ROWS[name]
    folder = maker(name.split(" ")[0], tmp_path / "in", *row.arguments)
    if row.refused:
        with pytest.raises((MedaiError, ModelsError), match=re.escape(row.refused)):
            processed(folder, tmp_path / "out", row.base)
        assert not list((tmp_path / "out").glob("*")), "a refusal leaves nothing half-written"
        return
    volume = series_to_volume(read_series(folder).images).volume
    expected = truth(maker, row)
    if row.base == "ct" and volume.voxels.shape[1:] == (126, 126):
        expected = expected[:, :126, :126]
    assert np.abs(volume.voxels - background(expected, name)).max() <= 0.5
    processed(folder, tmp_path / "out", row.base)
    look_at_results(folder, tmp_path / "out", row)


def background(expected: Any, name: str) -> Any:
    """What lies outside the field of view, where the case's pixels are padding there, is air."""
    if name != "padding_low":
        return expected
    y, x = np.mgrid[:128, :128] - 63.5
    return np.where(x * x + y * y > 63.5**2, -1024, expected)


def errors(path: Path) -> set[str]:
    """dciodvfy's, without what they stand in: the value or the attribute that is wrong."""
    lines = [line for line in run(tool("dciodvfy"), path).splitlines() if line.startswith("Error")]
    return {(re.findall(r"<([^>]+)>", line) or [line])[0] for line in lines}


def look_at_results(folder: Path, out: Path, row: Row) -> None:
    """What others say of SEG, SR, key image and ORU. What was wrong with a number as it came is wrong with it here."""
    ours = set().union(*(errors(out / f"{kind}.dcm") for kind in ("seg", "sr", "sc")))
    for path in sorted(folder.iterdir()):
        if not ours:
            break
        ours -= errors(path)
    assert not ours
    seg = pydicom.dcmread(out / "seg.dcm")
    if row.name:
        assert str(seg.PatientName).rstrip("=") == row.name
    message = (out / "oru.hl7").read_bytes().decode("utf-8")
    if "||||^^^^^^U" in message:  # no image says who it is, and a made-up number would be somebody else's
        message = message.replace("PID|1||", "PID|1||?")
    decode_er7(message, ORU_R01)
    observed = next(part for part in message.split("\r") if part.startswith("OBR|")).split("|")[7]
    assert re.fullmatch(r"(20260105(\d{6})?([+-]\d{4})?)?", observed), observed


@pytest.mark.slow
@pytest.mark.parametrize("case", ["bits_signed12_compressed", "compressed"])
def test_every_transfer_syntax_of_the_field_gives_the_values_of_the_plain_form(
    maker: Any, tmp_path: Path, case: str
) -> None:
    out = maker(case, tmp_path / "in")
    step = 3 if case == "compressed" else 1
    wrong = {}
    for folder in sorted(path for path in out.iterdir() if list(path.glob("*.dcm"))):
        clip = (-2048, 2047) if "signed12" in case or folder.name.endswith("s12") else (-1024, 3071)
        try:
            voxels = series_to_volume(read_series(folder).images).volume.voxels
        except (MedaiError, ModelsError) as error:
            if folder.name not in REFUSED:
                wrong[folder.name] = str(error)
            continue
        difference = np.abs(voxels - truth(maker, Row(step=step, clip=clip))).max()
        if difference > 0.5:
            wrong[folder.name] = f"differs by {difference}"
    assert wrong == {}


def test_padding_at_full_resolution_is_air_and_nothing_else_differs(maker: Any, tmp_path: Path) -> None:
    out = maker("padding_ge_fullres", tmp_path / "in")
    plain, padded = (series_to_volume(read_series(out / name).images).volume.voxels for name in ("plain", "padded"))
    y, x = np.mgrid[:512, :512] - 255.5
    outside = x * x + y * y > 256**2
    assert np.array_equal(plain[:, ~outside], padded[:, ~outside])
    assert padded.min() >= -1024


@pytest.mark.parametrize(("name", "modality"), [("mr", "MR"), ("ct", "CT")])
def test_a_nifti_with_gaps_reads_as_its_plain_form_or_is_refused(
    maker: Any, tmp_path: Path, name: str, modality: str
) -> None:
    out = maker("nifti_nan", tmp_path / "in")
    plain = nifti_to_volume(out / f"{name}_plain.nii.gz", modality=modality).voxels
    for path in sorted(out.glob(f"{name}_[!p]*.nii.gz")):
        try:
            voxels = nifti_to_volume(path, modality=modality).voxels
        except (MedaiError, ModelsError) as error:
            assert "NaN" in str(error) or "not a number" in str(error)
            continue
        assert np.isfinite(voxels).all()
        assert np.mean(np.abs(voxels - plain) > 0.5) < 0.25, path.name


def test_a_nifti_whose_slope_is_no_number_is_taken_as_it_is_stored(maker: Any, tmp_path: Path) -> None:
    out = maker("nifti_scl_nan", tmp_path / "in")
    plain, *same = (nifti_to_volume(out / f"{name}.nii", modality="CT").voxels for name in ("plain", "nan", "zero"))
    assert all(np.array_equal(plain, voxels) for voxels in same)
    assert np.array_equal(nifti_to_volume(out / "slope2.nii", modality="CT").voxels, plain * 2.0 - 100.0)


# -- messages


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.migrate()
    yield ledger
    ledger.close()


def told(cases: Path, case: str, ledger: Ledger) -> dict[str, tuple[Any, ...]]:
    """Accession number -> the orders that are found for it after all messages of a case."""
    spec = importlib.util.spec_from_file_location(case, cases / case / "messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for number, data in enumerate(module.MESSAGES):
        try:
            _, found = parse(data)
        except BadMessage:
            continue
        ledger.orders.take([each for each in found if isinstance(each, OrderMessage)], 1000.0 + number)
    return {accession: ledger.orders.of_study(study_uid=uid, accession=accession) for accession, uid in module.ASK}


def test_every_request_of_a_message_is_an_order(cases: Path, ledger: Ledger) -> None:
    found = told(cases, "hl7_orc_two_obr", ledger)
    assert {accession: len(orders) for accession, orders in found.items()} == dict.fromkeys(found, 1)
    assert {order.priority for orders in found.values() for order in orders} == {Priority.STAT}
    assert [order.procedure[0] for orders in found.values() for order in orders] == ["CTHEAD", "CTCHEST"] * 3


def test_a_cancel_ends_every_request_under_it(cases: Path, ledger: Ledger) -> None:
    assert set(told(cases, "hl7_cancel_two_obr", ledger).values()) == {()}


def test_placers_of_two_hospitals_are_two_and_one_s_cancel_is_not_the_other_s(cases: Path, ledger: Ledger) -> None:
    found = told(cases, "hl7_placer_namespaces", ledger)
    assert [order.placer for order in found["N-ACC"]] == ["4711^NORTH"]
    assert found["S-ACC"] == ()


def test_every_repetition_of_the_patient_s_number_is_kept(cases: Path, ledger: Ledger) -> None:
    (order,) = told(cases, "hl7_pid3_no_mr", ledger)["ACC9"]
    assert len(order.patient_identifiers) == 4
    assert any(number.startswith("1053251221^") for number in order.patient_identifiers)


def test_a_truncation_character_and_too_few_separators_lose_no_order(cases: Path, ledger: Ledger) -> None:
    found = told(cases, "hl7_truncation_char", ledger)
    assert {accession: [order.patient_id for order in orders] for accession, orders in found.items()} == {
        accession: ["77"] for accession in found
    }


def test_a_name_is_read_by_the_message_s_character_set(cases: Path, ledger: Ledger) -> None:
    found = told(cases, "hl7_x00e0", ledger)
    assert {accession: [order.patient_name for order in orders] for accession, orders in found.items()} == {
        accession: ["Libertà^Anna"] for accession in found
    }
    assert "\0" not in json.dumps([order.patient_name for orders in found.values() for order in orders])
