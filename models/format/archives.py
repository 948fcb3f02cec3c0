"""What a weight file is and what is in it, without ever running anything that it holds.

Pickled code is never executed: torch's files are read with ``weights_only=True``, which makes tensors, numbers,
words and lists and nothing else. A TorchScript archive holds a graph that torch's own interpreter runs; it is told
from a pickle by its layout, and one whose graph touches files is refused. Next: networks/runners.py, versions.py.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from medai.models.errors import ModelUnavailable

HOLDERS = ("network_weights", "state_dict", "model_state_dict", "model")
"""Under which key of a checkpoint its weights may be."""
PREFIXES = ("module.", "_orig_mod.")
"""What torch's wrappers for several GPUs and for compilation put before each name."""
TOUCHES_FILES = re.compile(r"\b(save|from_file|load_tensor|symm_mem|c10d|_c10d_functional|profiler)\b")
"""torch's operators that take a file's name, or speak to other processes. As words alone: a graph may spell the call in
several ways."""
UNPACKS_TO = 4
"""torch.jit.save compresses nothing but the code, which is small."""
PICKLED = "holds pickled code, which is never run; export it as safetensors, TorchScript or ONNX"


def is_torchscript(path: Path) -> bool:
    """Whether a file has the layout of TorchScript: a zip of one folder with ``code/`` and ``constants.pkl``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    top = names[0].partition("/")[0] if names else ""
    return f"{top}/constants.pkl" in names and any(name.startswith(f"{top}/code/") for name in names)


def require_torchscript(path: Path) -> bytes:
    """The TorchScript archive anew, each of its files once: what is checked here, and alone may be loaded or stored.

    A zip may have two lists of its files, of which one reader sees the first and another the second; so it is read
    once, and torch's reader is only shown what was written from that. Raises ModelUnavailable unless it is
    TorchScript whose graph opens no file and no connection.
    """
    if not is_torchscript(path):
        raise ModelUnavailable(
            f"{path.name} is not a TorchScript archive (a zip with code/ and constants.pkl). "
            "Write one with torch.jit.save; weights alone need a network_def"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _require_plain(path, members)
            return _written_anew({member.filename: archive.read(member) for member in members}, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelUnavailable(f"{path.name} is damaged: its zip cannot be read") from error


def _require_plain(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Nothing that torch never writes: a name twice, a path that leads elsewhere, files that overlap, a zip bomb."""
    names = [member.filename for member in members]
    if len({name.lower() for name in names}) < len(names) or len({name.partition("/")[0] for name in names}) > 1:
        raise ModelUnavailable(f"{path.name} was not written by torch: a name twice, or several folders")
    if any(".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name for name in names):
        raise ModelUnavailable(f"{path.name} was not written by torch: a name in it leads out of it")
    placed = sorted(members, key=lambda member: member.header_offset)
    if any(one.header_offset + one.compress_size > next_.header_offset for one, next_ in pairwise(placed)):
        raise ModelUnavailable(f"{path.name} was not written by torch: files in it overlap")
    size = path.stat().st_size
    if sum(member.file_size for member in members) > UNPACKS_TO * size:
        raise ModelUnavailable(f"{path.name} unpacks to more than {UNPACKS_TO} times its size, as a zip bomb does")


def _written_anew(files: Mapping[str, bytes], path: Path) -> bytes:
    """A zip of these files, uncompressed and dated alike: the same content always makes the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            if name.endswith(".py"):
                _require_no_files(path, name.partition("/code/")[2], data)
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def _require_no_files(path: Path, part: str, code: bytes) -> None:
    if found := TOUCHES_FILES.search(code.decode("utf-8", errors="replace")):
        raise ModelUnavailable(
            f"{path.name} names torch's operator {found.group(1)} in {part}: a model may not read or write files"
        )


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of .safetensors, or of a file of torch.save (a state dict, or a checkpoint around one).

    Raises ModelUnavailable for a damaged file and for one that would need unpickling.
    """
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, torch.Tensor] = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise ModelUnavailable(f"{path.name} is missing, damaged or not safetensors") from error
        return tensors
    return state_of(read_checkpoint(path), path.name)


def read_checkpoint(path: Path) -> Any:
    """What a file of torch.save holds. Raises ModelUnavailable where it is more than tensors and plain values."""
    if is_torchscript(path):
        raise ModelUnavailable(f'{path.name} is a TorchScript archive: say "runner": "torchscript"')
    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelUnavailable(f"{path.name} {PICKLED}") from error
    except Exception as error:
        # torch raises errors of many kinds for files that are not its own.
        raise ModelUnavailable(f"{path.name} is missing, damaged or not a file of torch.save") from error


def state_of(held: Any, name: str) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, without the prefix that all its names share."""
    for key in HOLDERS:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
            break
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise ModelUnavailable(f"{name} holds no state dict: named tensors, alone or under {', '.join(HOLDERS)}")
    state = {str(key): value for key, value in held.items()}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _numbers() -> list[Any]:
    """numpy's numbers, which nnU-Net's checkpoints hold among their figures: data, no code."""
    import numpy as np
    from numpy._core.multiarray import scalar

    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    before_numpy_2 = (scalar, "numpy.core.multiarray.scalar")
    return [scalar, before_numpy_2, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]
