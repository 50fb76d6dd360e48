"""The same phase through other people's inference, beside the model ``fast``: speed alone, with weights as they come.

    make bench-peers

nnU-Net: its 2D network for ACDC (6 stages, 32 to 512 features, 20.6 M parameters) and predictor, a patch of 256 × 224 a
slice, without and with mirroring. MONAI: the network of its ventricle bundle, 16 to 256 features, sliding window of
256², alone on a prepared stack in batches of 4; and file to file by the steps of the bundle's inference. The paper's 2D
network: eager float32, network alone. Each also in a process whose malloc is tuned.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable

import torch
from plain_loop import TUNED
from studies import usual_study
from tables import Table, interleaved, seconds

from CardiacSegLib.preprocessing import PreprocessingConfig, prepare
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.acdc import frame_file, read_info
from CardiacSegLib.writers import write_text

REPEATS = 5


def nnunet(mirroring: bool) -> Callable[[torch.Tensor], object]:
    """nnU-Net's predictor around its 2D network for ACDC."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    network = PlainConvUNet(
        1, 6, (32, 64, 128, 256, 512, 512), torch.nn.Conv2d, 3, (1, 2, 2, 2, 2, 2), 2, 4, 2,
        conv_bias=True, norm_op=torch.nn.InstanceNorm2d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    ).eval()  # fmt: skip
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.network, predictor.allowed_mirroring_axes = network, (0, 1) if mirroring else None
    predictor.configuration_manager = type("Configuration", (), {"patch_size": (256, 224)})()
    predictor.label_manager = type("Labels", (), {"num_segmentation_heads": 4})()
    return lambda volume: predictor.predict_sliding_window_return_logits(volume[None])


def _monai_network() -> torch.nn.Module:
    from monai.networks.nets import UNet

    return UNet(2, 1, 4, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2).eval()


def monai() -> Callable[[torch.Tensor], object]:
    """MONAI's sliding window around the network of its ventricle bundle."""
    from monai.inferers import sliding_window_inference

    network = _monai_network()

    @torch.inference_mode()
    def run(volume: torch.Tensor) -> object:
        return sliding_window_inference(volume[:, None], (256, 256), 4, network)

    return run


def monai_files(source: Path, output: Path) -> Callable[[], object]:
    """The steps of the bundle's inference, for one file: load, scale greys, read slice by slice, likeliest class, save.

    ``source`` is a NIfTI file of one frame.
    """
    from monai.inferers import SliceInferer
    from monai.transforms import (
        Activationsd,
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        Invertd,
        LoadImaged,
        SaveImaged,
        ScaleIntensityd,
    )

    network, infer = _monai_network(), SliceInferer(spatial_dim=2, roi_size=(256, 256))
    before = Compose(
        [LoadImaged("image"), EnsureChannelFirstd("image"), ScaleIntensityd("image"), EnsureTyped("image")]
    )
    after = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
            SaveImaged("pred", output_dir=output, print_log=False),
        ]
    )

    @torch.inference_mode()
    def run() -> object:
        case = before({"image": str(source)})
        case["pred"] = infer(case["image"][None], network)[0]
        return after(case)

    return run


def paper() -> Callable[[torch.Tensor], object]:
    """The paper's 2D network, eager, float32."""
    from CardiacSegLib.inference import network_inputs
    from CardiacSegLib.networks.unet import build_network
    from CardiacSegLib.training.presets import get_preset

    network = build_network(get_preset("paper-2d").network).eval()

    @torch.inference_mode()
    def run(volume: torch.Tensor) -> object:
        return network(network_inputs(volume, network.config))

    return run


_OURS, _MONAI_FILES = "CardiacSeg, file to file", "MONAI bundle, file to file"

PEERS: dict[str, Callable[[], Callable[[torch.Tensor], object]]] = {
    "nnU-Net 2D, no mirroring": lambda: nnunet(False),
    "nnU-Net 2D, mirroring": lambda: nnunet(True),
    "MONAI bundle's network": monai,
    "the paper's 2D network, alone": paper,
}


def measure(folder: Path, name: str) -> list[float]:
    """Seconds of a phase in this process, after one that warms up."""
    study = read_study(folder)
    frame = study.frame(study.ed or 0)
    if name == _OURS:
        return _ours(folder)
    if name == _MONAI_FILES:
        return _monai_files(frame_file(folder, read_info(folder / "Info.cfg").ed))
    volume = torch.from_numpy(prepare(frame, study.spacing, PreprocessingConfig()).volume)
    width = 224 if name.startswith("nnU-Net") else 256  # one patch a slice
    volume = volume[:, :256, :width].contiguous()
    run = PEERS[name]()
    run(volume)
    return [seconds(lambda: run(volume)) for _ in range(REPEATS)]


def _monai_files(source: Path) -> list[float]:
    with tempfile.TemporaryDirectory() as scratch:
        return interleaved({"": monai_files(source, Path(scratch))}, 2 * REPEATS, True)[""]


def _ours(folder: Path) -> list[float]:
    from CardiacSegLib.inference import Segmenter
    from CardiacSegLib.workflow import SegmentOptions, segment_path

    with tempfile.TemporaryDirectory() as scratch:
        segmenter, options = Segmenter("fast", "cpu"), SegmentOptions(overwrite=True)
        taken = interleaved({"": lambda: segment_path(folder, Path(scratch), segmenter, options)}, 2 * REPEATS, True)
        return [both / 2 for both in taken[""]]


def main() -> int:
    """Every peer in turn, each in processes of its own, then the table."""
    parser = argparse.ArgumentParser(description="Speed beside other people's inference (CPU).")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    parser.add_argument("--page", metavar="FILE", type=Path, help="also write the table as Markdown here")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(Path(args.one[0]), args.one[1])))
        return 0
    acdc = Path(os.environ["CARDIACSEG_ACDC"]) if os.environ.get("CARDIACSEG_ACDC") else None
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        source = usual_study(acdc, Path(scratch), quick=False)
        own = _child(source.folder, _OURS, {})
        rows.append((_OURS, min(own), sorted(own)[len(own) // 2], max(own), None))
        for name in (*PEERS, _MONAI_FILES):
            for words, environment in (("", {}), (", malloc tuned", TUNED)):
                taken = _child(source.folder, name, environment)
                median = sorted(taken)[len(taken) // 2]
                rows.append((name + words, min(taken), median, max(taken), median / rows[0][2]))
    note = (
        f"One phase of {source.words} (10 slices of 256²), CPU, {torch.get_num_threads()} threads, float32 for peers."
    )
    columns = ("", "min", "median", "max", "CardiacSeg is faster by")
    table = Table("A phase beside other people's inference, seconds", columns, rows, (3, 3, 3, 1), note)
    print(table.text())
    if args.page is not None:
        write_text(args.page, f"# Peers\n\nWritten by `make bench-peers`. {_versions()}\n\n{table.markdown()}")
    return 0


def _versions() -> str:
    names = ("torch", "nnunetv2", "monai")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names) + "."


def _child(folder: Path, name: str, environment: dict[str, str]) -> list[float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(folder), name],
        env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"peers: '{name}' failed: {done.stderr.strip()[-800:]}")
    return [float(value) for value in json.loads(done.stdout.strip().splitlines()[-1])]


if __name__ == "__main__":
    sys.exit(main())
