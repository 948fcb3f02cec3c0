"""What a weight file is and holds, told without running anything that it holds."""

from __future__ import annotations

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
