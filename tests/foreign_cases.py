"""Models as strangers would bring them, made on the spot: weights, graphs, a MONAI bundle, nnU-Net results, traps."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medai.models.geometry import Geometry
from medai.models.volume import Volume

LUNG = {
    "number": 1,
    "name": "Lung",
    "category": ["91723000", "SCT", "Anatomical Structure"],
    "type": ["39607008", "SCT", "Lung"],
    "plausible": {"ml": [100, 9000]},
}
SPLEEN = {**LUNG, "name": "Spleen", "type": ["78961009", "SCT", "Spleen"], "plausible": {"ml": [0, 500]}}
CT = {"modalities": ["CT"], "unit": "HU"}
UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}
PLAIN_CONV = {
    "n_stages": 2,
    "features_per_stage": [4, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


class Trap:
    """Unpickling this makes a file: proof that pickled code ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def section(**changes: Any) -> dict[str, Any]:
    """A medai section that lacks nothing, for a graph."""
    return {
        "title": "Lung",
        "input": CT,
        "segments": [LUNG],
        "feed": {"intensity": {"kind": "window", "low": -1000, "high": 400}},
        "inferer": {"multiple": 8},
        **changes,
    }


class TwoClasses(torch.nn.Module):
    """Class 1 where the fed value is below ``level`` (-0.5: air in lungs); no weights to speak of."""

    def __init__(self, level: float = -0.5) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images - self.level, self.level - images], dim=1)


def torchscript_folder(folder: Path, **changes: Any) -> Path:
    """A TorchScript graph with its metadata.json."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(TwoClasses()).save(str(folder / "model.ts"))
    write_json(folder / "metadata.json", {"version": "1.0.0", "medai": section(**changes)})
    return folder


def onnx_folder(folder: Path, **changes: Any) -> Path:
    """The same function as an ONNX graph, written without any exporter."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    shape = ["batch", 1, "slices", "rows", "columns"]
    level = onnx.helper.make_tensor("level", onnx.TensorProto.FLOAT, [1], [-0.5])
    nodes = [
        onnx.helper.make_node("Sub", ["image", "level"], ["other"]),
        onnx.helper.make_node("Sub", ["level", "image"], ["lung"]),
        onnx.helper.make_node("Concat", ["other", "lung"], ["logits"], axis=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "two_classes",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2, *shape[2:]])],
        [level],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    write_json(folder / "metadata.json", {"version": "1.0.0", "medai": section(**changes)})
    return folder


def monai_unet(seed: int = 0) -> torch.nn.Module:
    """The network of UNET with random weights."""
    from monai.networks.nets import UNet

    torch.manual_seed(seed)
    return UNet(**{key: value for key, value in UNET.items() if key != "_target_"}).eval()


def monai_config(pixdim: list[float], roi: list[int]) -> dict[str, Any]:
    """configs/inference.json as MONAI's own examples write it, expressions and all."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": UNET,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": -57,
                    "a_max": 164,
                    "b_min": 0,
                    "b_max": 1,
                    "clip": True,
                },
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": roi, "sw_batch_size": 4, "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
            ],
        },
        "evaluator": {"_target_": "SupervisedEvaluator", "device": "@device", "inferer": "@inferer"},
        "checkpointloader": {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'"},
        "run": ["$@evaluator.run()"],
    }


def monai_bundle(folder: Path, network: torch.nn.Module, config: dict[str, Any]) -> Path:
    """A bundle in the layout of MONAI's model zoo: no medai section, weights as model.pt."""
    image = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 1,
        "channel_def": {"0": "image"},
    }
    pred = {"type": "image", "format": "segmentation", "channel_def": {"0": "background", "1": "spleen"}}
    metadata = {
        "version": "0.2.0",
        "task": "Decathlon spleen segmentation",
        "description": "A pre-trained model for volumetric (3D) segmentation of the spleen from CT image",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }
    write_json(folder / "configs" / "metadata.json", metadata)
    write_json(folder / "configs" / "inference.json", config)
    (folder / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "README.md").write_text("# Spleen\n", encoding="utf-8")
    return folder


def nnunet_network(seed: int) -> torch.nn.Module:
    """nnU-Net's own architecture, made by its own package, with random weights."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(seed)
    classes = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    network: torch.nn.Module = PlainConvUNet(
        input_channels=1, num_classes=2, deep_supervision=False, **{**PLAIN_CONV, **classes}
    ).eval()
    return network


def nnunet_folder(folder: Path, *, folds: int = 2, patch: tuple[int, int, int] = (16, 24, 16), **changes: Any) -> Path:
    """A results folder of nnU-Net v2 with a checkpoint for each fold and a small metadata.json."""
    properties = {"mean": 50.0, "std": 100.0, "percentile_00_5": -900.0, "percentile_99_5": 300.0}
    configuration = {
        "patch_size": list(patch),
        "spacing": [2.0, 3.0, 4.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": PLAIN_CONV,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }
    plans = {
        "dataset_name": "Dataset009_Spleen",
        "transpose_forward": [1, 0, 2],
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {"0": properties},
    }
    write_json(folder / "plans.json", plans)
    labels = {"background": 0, "spleen": 1}
    write_json(folder / "dataset.json", {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"})
    write_json(folder / "metadata.json", {"medai": {"segments": [{**SPLEEN, "name": "Spleen"}]}})
    for fold in range(folds):
        place = folder / f"fold_{fold}"
        place.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint(nnunet_network(fold)), place / "checkpoint_final.pth")
    return folder


def checkpoint(network: torch.nn.Module, **changes: Any) -> dict[str, Any]:
    """What nnU-Net's trainer saves."""
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": {"scale": 65536.0},
        "logging": {"mean_fg_dice": [np.float64(0.5)], "ema_fg_dice": [np.float32(0.4)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }


def disguised_torchscript(path: Path, trap: Path) -> Path:
    """A zip that has TorchScript's layout, and pickles that would make a file where its data should be."""
    attack = pickle.dumps(Trap(trap))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", attack)
        archive.writestr("net/constants.pkl", attack)
        archive.writestr("net/code/__torch__.py", "")
        archive.writestr("net/version", "3\n")
    return path


def ct_volume(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], seed: int = 1) -> Volume:
    """Noise in Hounsfield units, [slice, row, column] in LPS."""
    voxels = np.random.default_rng(seed).integers(-1000, 400, shape).astype(np.int16)
    geometry = Geometry(
        origin_mm=(10.0, -20.0, 5.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=spacing_mm, shape=shape
    )
    return Volume(voxels=voxels, geometry=geometry, modality="CT", unit="HU")
