"""What a weight file is and holds, told without running anything that it holds."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from foreign_cases import Trap, torchscript_folder

from medai.models.errors import ModelUnavailable
from medai.models.format.archives import is_torchscript, read_checkpoint, read_weights, require_torchscript, state_of

ONE = torch.ones(2)


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_torchscript_is_told_by_its_layout(tmp_path: Path) -> None:
    assert is_torchscript(torchscript_folder(tmp_path / "a") / "model.ts")
    torch.save({"a": ONE}, tmp_path / "plain.pt")
    assert not is_torchscript(tmp_path / "plain.pt")
    (tmp_path / "text").write_text("no zip")
    assert not is_torchscript(tmp_path / "text")
    assert not is_torchscript(tmp_path / "nowhere")


def test_a_graph_that_opens_no_file_may_be_read(tmp_path: Path) -> None:
    require_torchscript(torchscript_folder(tmp_path / "a") / "model.ts")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"m/code/a.py": "torch.save(x, y)", "m/constants.pkl": ""}, "names torch's operator save in a.py"),
        ({"m/code/deep/b.py": "ops . aten . from_file(x)", "m/constants.pkl": ""}, "operator from_file in deep/b.py"),
        ({"m/code/a.py": "", "m/CODE/a.py": "", "m/constants.pkl": ""}, "a name twice, or several folders"),
        ({"m/code/a.py": "", "m/constants.pkl": "", "n/code/a.py": ""}, "a name twice, or several folders"),
        ({"m/data.pkl": ""}, "is not a TorchScript archive"),
    ],
)
def test_a_graph_that_names_files_or_hides_one_is_refused(members: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        require_torchscript(zipped(tmp_path / "m.ts", members))


def two_faced(shown: bytes, hidden: bytes) -> bytes:
    """A zip with two lists of its files. Python's reader takes where the list lies from the end of the file, torch's from
    what is written there: it finds the first list, which Python takes for something that was put in front."""

    def listed(raw: bytes) -> tuple[int, bytes, int]:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        end = raw.rindex(b"PK\x05\x06")
        count = len(archive.infolist())
        (size,) = struct.unpack_from("<I", raw, end + 12)
        return archive.start_dir, raw[archive.start_dir : archive.start_dir + size], count

    at, first, count = listed(hidden)
    start, second, same = listed(shown)
    assert (len(first), count) == (len(second), same)
    head = hidden[:at] + first
    moved, place = bytearray(second), 0
    front = len(head) + start - at  # what Python takes for put in front
    for _ in range(count):
        name, extra, comment = struct.unpack_from("<HHH", moved, place + 28)
        (offset,) = struct.unpack_from("<I", moved, place + 42)
        struct.pack_into("<I", moved, place + 42, offset + len(head) - front)
        place += 46 + name + extra + comment
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(first), at, 0)
    return head + shown[:start] + bytes(moved) + end


def test_a_zip_with_two_lists_of_its_files_is_read_once_and_written_anew(tmp_path: Path) -> None:
    good, bad = ({"m/constants.pkl": "", "m/code/a.py": code} for code in ("x + 1", "torch.from_file(x)"))
    shown = zipped(tmp_path / "good.ts", good).read_bytes()
    hidden = zipped(tmp_path / "bad.ts", {**bad, "m/constants.pkl": "p" * 500}).read_bytes()
    (tmp_path / "both.ts").write_bytes(two_faced(shown, hidden))
    anew = require_torchscript(tmp_path / "both.ts")
    assert b"from_file" in (tmp_path / "both.ts").read_bytes()
    assert b"from_file" not in anew
    assert zipfile.ZipFile(io.BytesIO(anew)).read("m/code/a.py") == b"x + 1"
    assert anew == require_torchscript(tmp_path / "good.ts"), "the same content makes the same bytes"
    (tmp_path / "other.ts").write_bytes(two_faced(hidden, shown) if len(hidden) < len(shown) else hidden)
    with pytest.raises(ModelUnavailable, match="from_file"):
        require_torchscript(tmp_path / "other.ts")


@pytest.mark.parametrize("name", ["m/../../evil", "m/..\\evil"])
def test_a_name_that_leads_out_of_the_archive_is_refused(name: str, tmp_path: Path) -> None:
    members = {"m/code/a.py": "", "m/constants.pkl": "", name: "x"}
    with pytest.raises(ModelUnavailable, match="leads out of it"):
        require_torchscript(zipped(tmp_path / "m.ts", members))


def test_files_that_overlap_are_refused(tmp_path: Path) -> None:
    raw = bytearray(
        zipped(tmp_path / "m.ts", {"m/constants.pkl": "", "m/code/a.py": "x" * 100, "m/data/0": "y" * 100}).read_bytes()
    )
    last = raw.rindex(b"PK\x01\x02")
    (offset,) = struct.unpack_from("<I", raw, last + 42)
    struct.pack_into("<I", raw, last + 42, offset - 60)
    (tmp_path / "m.ts").write_bytes(bytes(raw))
    with pytest.raises(ModelUnavailable, match="overlap"):
        require_torchscript(tmp_path / "m.ts")


def test_a_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.ts", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("m/constants.pkl", "m/code/a.py", "m/data/0"):
            archive.writestr(name, bytes(5_000_000))
    with pytest.raises(ModelUnavailable, match="zip bomb"):
        require_torchscript(tmp_path / "m.ts")


@pytest.mark.parametrize(
    "code",
    [
        "ops.symm_mem.one_shot_all_reduce(x)",
        "torch . save(x, y)",
        "ops.aten.from_file(x)",
        "ops.debugprims.load_tensor(x)",
    ],
)
def test_operators_that_touch_files_or_other_processes_are_refused(code: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="names torch's operator"):
        require_torchscript(zipped(tmp_path / "m.ts", {"m/constants.pkl": "", "m/code/a.py": code}))


@pytest.mark.parametrize("key", ["network_weights", "state_dict", "model_state_dict", "model"])
def test_a_state_is_found_in_a_checkpoint_without_the_prefix_that_all_share(key: str) -> None:
    held = {"epoch": 3, key: {"module.a.weight": ONE, "module.b": ONE}}
    assert set(state_of(held, "x.pt")) == {"a.weight", "b"}
    assert set(state_of({"module._orig_mod.a": ONE}, "x.pt")) == {"a"}
    assert set(state_of({"module.a": ONE, "b": ONE}, "x.pt")) == {"module.a", "b"}, "one has no prefix"


@pytest.mark.parametrize("held", [{}, [], ONE, {"a": 1}, {"model": {"a": "text"}}, None])
def test_what_holds_no_named_tensors_is_no_state(held: object) -> None:
    with pytest.raises(ModelUnavailable, match=r"x.pt holds no state dict: named tensors, alone or under network_w"):
        state_of(held, "x.pt")


def test_a_pickle_is_refused_by_name_and_its_code_does_not_run(tmp_path: Path) -> None:
    torch.save({"a": Trap(tmp_path / "sprung")}, tmp_path / "x.pt")
    with pytest.raises(ModelUnavailable, match=r"x.pt holds pickled code, which is never run"):
        read_checkpoint(tmp_path / "x.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("x.pt", "not a file of torch.save"), ("x.safetensors", "damaged or not safetensors")]
)
def test_a_damaged_or_missing_file_is_a_plain_reason(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        read_weights(tmp_path / name)
    torch.save({"a": ONE}, tmp_path / "whole.pt")
    (tmp_path / name).write_bytes((tmp_path / "whole.pt").read_bytes()[:200])
    with pytest.raises(ModelUnavailable, match=words):
        read_weights(tmp_path / name)
