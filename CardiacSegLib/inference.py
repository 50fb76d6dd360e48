"""Study in, label maps and probabilities out."""

from __future__ import annotations

import copy
import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from CardiacSegLib.certainty import CALIBRATED_PRESET, Certainty, certainty
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.models import TrainedModel, find_models, grouped, load_model
from CardiacSegLib.networks.config import NetworkConfig
from CardiacSegLib.networks.packed import packed
from CardiacSegLib.networks.unet import ConvBlock, UNet
from CardiacSegLib.orientation import orientation_is_lost
from CardiacSegLib.pose import Turn, turn_to_usual
from CardiacSegLib.postprocessing import labels_from_probabilities
from CardiacSegLib.preprocessing import (
    NetworkGrid,
    PreprocessingConfig,
    in_frame,
    make_grid,
    normalise,
)
from CardiacSegLib.region import HeartFinder, Region, touches_edge
from CardiacSegLib.second_look import bears_it, look_again
from CardiacSegLib.study import STRUCTURES, CineStudy, Label, LabelMap

#: Pixels that go through a 2D network at once on a CPU: a whole stack's region, but not the whole field of many slices.
_CPU_PIXELS = 240_000


def choose_device(name: str = "auto") -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``mps`` (also ``cuda:1``) names.

    Raises:
        CardiacSegError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise CardiacSegError(f"There is no device '{name}'; choose auto, cpu, cuda or mps.")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise CardiacSegError(f"This machine has no device '{name}' that PyTorch can use. Choose 'auto' or 'cpu'.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise CardiacSegError("This machine has no Apple GPU that PyTorch can use. Choose 'auto' or 'cpu'.")
    return torch.device(name)


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX512-BF16 or AMX), where it is faster than float32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in checks)


def supports_mixed_precision(device: torch.device) -> bool:
    """Whether training in bfloat16 is faster than in float32 on a device, and as safe."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_has_bf16()


def memory_format(config: NetworkConfig) -> torch.memory_format:
    """Channels-last: what convolutions in reduced precision are fast in."""
    return torch.channels_last if config.dims == 2 else torch.channels_last_3d


def compiled_for(network: UNet, device: torch.device, reduced_precision: bool = True) -> UNet:
    """A copy of a network for inference on a device: batch norms folded into convolutions, channels last, and in
    bfloat16 (CPU) or half precision (CUDA) where the device is faster for it; on a CPU its convolutions packed.

    It can be run and nothing else: packed weights are neither copied nor saved."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, ConvBlock):
            for i in range(0, len(module), 3):
                conv, norm = cast(Any, module[i]), cast(Any, module[i + 1])
                module[i], module[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    kind = torch.float32
    if reduced_precision and device.type == "cuda":
        kind = torch.float16
    elif reduced_precision and device.type == "cpu" and cpu_has_bf16():
        kind = torch.bfloat16
    network = placed(network.to(dtype=kind), device)
    if device.type == "cpu":
        _pack(network)
    return network


def _pack(network: UNet) -> None:
    for block in network.modules():
        if isinstance(block, ConvBlock):
            for i in range(0, len(block), 3):
                together = packed(cast(Any, block[i]))
                if together is None:
                    return
                block[i], block[i + 2] = together, nn.Identity()


def placed(network: UNet, device: torch.device) -> UNet:
    """The network on a device, its weights laid out for :func:`memory_format`."""
    return network.to(device=device, memory_format=memory_format(network.config))  # type: ignore[call-overload]


def network_inputs(volume: Tensor, config: NetworkConfig) -> Tensor:
    """A prepared volume ``(z, y, x)`` as a batch: each slice with its neighbours in 2D, the whole stack in 3D.

    Beyond the end of the stack its last slice is repeated. A single slice gets an empty one beside it in 3D, as in the
    padded volumes of the training: oneDNN's bfloat16 convolutions of one slice read memory that nobody has written.
    """
    if config.dims == 3:
        return (volume if len(volume) > 1 else torch.cat([volume, torch.zeros_like(volume)]))[None, None]
    depth = len(volume)
    offsets = torch.arange(config.in_slices, device=volume.device) - config.in_slices // 2
    index = (torch.arange(depth, device=volume.device)[:, None] + offsets).clamp(0, depth - 1)
    return volume[index]


@torch.inference_mode()
def predict_volume(
    network: UNet,
    volume: Tensor,
    device: torch.device,
    mixed_precision: bool = False,
    batch: int | None = None,
    slices: Sequence[int] | None = None,
) -> Tensor:
    """Class probabilities ``(class, z, y, x)`` in float32, on ``device``, of a prepared volume ``(z, y, x)``.

    ``batch`` slices go through a 2D network at once; by default as many as the device's caches (CPU) or memory like.
    ``slices`` are the ones that a 2D network predicts, all if left out. ``mixed_precision`` runs a float32 network in
    bfloat16 where that is safe; a network from :func:`compiled_for` needs no such help.
    """
    config = network.config
    inputs = network_inputs(volume.to(device), config)
    if slices is not None:
        inputs = inputs[list(slices)]
    parts = []
    if batch is None:
        batch = max(2, _CPU_PIXELS // inputs[0, 0].numel()) if device.type == "cpu" else 64
    for part in inputs.split(batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
            logits = network(part.contiguous(memory_format=memory_format(config)))
        parts.append(torch.softmax(logits.float(), dim=1))
    return parts[0][0][:, : len(volume)] if config.dims == 3 else torch.cat(parts).transpose(0, 1)


@torch.inference_mode()
def predict_with_flips(network: UNet, volume: Tensor, device: torch.device) -> Tensor:
    """The mean of the probabilities over the four in-plane mirrorings of a volume, mirrored back."""
    total = None
    for axes in ((), (-1,), (-2,), (-2, -1)):
        flipped = predict_volume(network, volume.flip(axes) if axes else volume, device)
        flipped = flipped.flip(axes) if axes else flipped
        total = flipped if total is None else total + flipped
    assert total is not None
    return total / 4.0


@dataclass
class Segmentation:
    """What came of a study: label maps (and probabilities, if asked for) by frame index, and every doubt as a sentence.

    ``probabilities[i]`` is ``(class, z, y, x)`` float32 on the study's own grid; ``certainty[i]`` says how sure the
    network is of each structure of frame ``i``, where that was asked for.
    """

    labels: dict[int, LabelMap] = field(default_factory=dict)
    probabilities: dict[int, np.ndarray] = field(default_factory=dict)
    certainty: dict[int, dict[Label, Certainty]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    model: str = ""
    device: str = ""


@dataclass(frozen=True)
class _Read:
    """Of one frame: mean probabilities ``(class, z, y, x)`` in a window of its grid (outside is background), and by
    structure how alike its two looks are (:func:`CardiacSegLib.second_look.likeness`); nothing where there was one."""

    probabilities: np.ndarray
    window: tuple[slice, ...]
    likeness: dict[Label, float]


@dataclass(frozen=True)
class _Drawn:
    """Of one frame as it was turned for reading: labels ``(z, y, x)`` in the window of what was read."""

    labels: np.ndarray
    read: _Read


class Segmenter:
    """Segments studies with one model or the average of several; loaded once, used often.

    Args:
        models: name (of a model or an ensemble), path or loaded model, or a list of them; the probabilities of all
            networks are averaged.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        flips: average over mirrored inputs too (four times slower).
        reduced_precision: bfloat16 or half precision where the device is faster for it.
        largest_component: keep one piece per structure; ``None`` follows the first model's preset.
        region: read only the region of the heart, which a very small network finds first, or the whole field; ``None``
            follows each model's preset.
        second_look: read what was drawn once more, turned and enlarged (:mod:`CardiacSegLib.second_look`), where the
            networks learnt such images.

    Raises:
        ModelError: a model cannot be read.
        CardiacSegError: there is no such device.
    """

    def __init__(
        self,
        models: str | Path | TrainedModel | Sequence[str | Path | TrainedModel] = "fast",
        device: str = "auto",
        *,
        flips: bool = False,
        reduced_precision: bool = True,
        largest_component: bool | None = None,
        region: bool | None = None,
        second_look: bool = True,
    ) -> None:
        chosen = [models] if isinstance(models, (str, Path, TrainedModel)) else list(models)
        if not chosen:
            raise CardiacSegError("Segmenting needs at least one model.")
        self.models: list[TrainedModel] = []
        for one in chosen:
            self.models += [one] if isinstance(one, TrainedModel) else map(load_model, find_models(one))
        if region is not None:
            self.models = [replace(m, preset=m.preset.prepared_with(region=region)) for m in self.models]
        self.device = choose_device(device)
        self.flips, self.reduced_precision, self.second_look = flips, reduced_precision, second_look
        #: The models' names, joined by ``+``; of a whole ensemble its own.
        self.name = "+".join(grouped(self.models))
        first = self.models[0].preset.largest_component
        self.largest_component = first if largest_component is None else largest_component
        self._notes: list[str] = []
        self._finder: HeartFinder | None = None
        try:
            self._networks = self._compile(self.device)
        except RuntimeError as error:
            self._fall_back(error)

    def __getstate__(self) -> dict[str, Any]:
        """Without the networks, which are made again: packed weights cannot be copied."""
        return {**self.__dict__, "_networks": [], "_finder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._networks = self._compile(self.device)

    def _compile(self, device: torch.device) -> list[UNet]:
        if any(model.preset.preprocessing.region for model in self.models):
            self._finder = HeartFinder(device)
        return [compiled_for(model.build(), device, self.reduced_precision) for model in self.models]

    @property
    def tells_certainty(self) -> bool:
        """Whether the Dice to be expected can be told: from two looks, and by networks of one preset alone."""
        return all(m.preset.recipe == CALIBRATED_PRESET for m in self.models) and self._looks_again(self.models)

    def _looks_again(self, models: Sequence[TrainedModel]) -> bool:
        return self.second_look and all(bears_it(model.preset) for model in models)

    def segment(
        self,
        study: CineStudy,
        frames: Sequence[int] | None = None,
        *,
        keep_probabilities: bool = False,
        with_certainty: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Segmentation:
        """Segment frames by *index* (all of them if left out).

        Args:
            study: the cine.
            frames: indexes into its first axis.
            keep_probabilities: also return the probabilities on the study's grid (memory!).
            with_certainty: also say how sure the network is, if that can be told.
            on_progress: called with frames done and frames in all.
            should_stop: asked before every frame; true ends with what is done so far.
        """
        wanted = list(range(study.frames)) if frames is None else list(dict.fromkeys(frames))
        with_certainty = with_certainty and self.tells_certainty
        result = Segmentation(model=self.name)
        turn, first = Turn(), None
        for done, index in enumerate(wanted):
            if should_stop and should_stop():
                break
            if done == 0 and self._turns:
                turn, first = self._turn(study)
            drawn = first if index == 0 and first else self._draw(study, index, turn)
            read, turned = drawn.read, turn.shape(study.geometry.shape)
            labels = np.zeros(turned, np.uint8)
            labels[read.window] = drawn.labels
            if with_certainty:
                sure = certainty(read.probabilities, drawn.labels, read.likeness)
                result.certainty[index] = {
                    s: replace(one, doubtful_slice=turn.slice_back(one.doubtful_slice, turned[0]))
                    for s, one in sure.items()
                }
            result.labels[index] = LabelMap(turn.back(labels), study.geometry)
            if keep_probabilities:
                result.probabilities[index] = turn.back(in_frame(read.probabilities, read.window, turned))
            if on_progress:
                on_progress(done + 1, len(wanted))
        # Only now: a full GPU may have changed both on the way.
        result.device, result.warnings = self.device.type, list(self._notes)
        return result

    @property
    def _turns(self) -> bool:
        return all(model.preset.preprocessing.upright for model in self.models)

    def _turn(self, study: CineStudy) -> tuple[Turn, _Drawn | None]:
        """How a study is turned for reading, by its first frame, so that all its frames are read alike; and what was
        drawn in that one, if it lay as was supposed."""
        supposed = Turn(reversed=not orientation_is_lost(study.geometry))  # in the library's order the base comes last
        drawn = self._draw(study, 0, supposed)
        turn = turn_to_usual(supposed.back(drawn.labels), study.spacing)
        return turn, drawn if turn == supposed else None

    def _draw(self, study: CineStudy, index: int, turn: Turn) -> _Drawn:
        read = self._read(turn.there(study.frame(index)), turn.spacing(study.spacing))
        return _Drawn(labels_from_probabilities(read.probabilities, self.largest_component), read)

    def _read(self, frame: np.ndarray, spacing: tuple[float, float, float]) -> _Read:
        """The mean over all models, of a frame ``(z, y, x)``."""
        numbers: dict[PreprocessingConfig, list[int]] = {}
        for number, model in enumerate(self.models):
            numbers.setdefault(model.preset.preprocessing.of_reading, []).append(number)
        reads = [self._read_alike(frame, spacing, config, chosen) for config, chosen in numbers.items()]
        if len(reads) == 1:
            return reads[0]
        shares = [len(chosen) / len(self.models) for chosen in numbers.values()]
        whole = np.zeros((len(reads[0].probabilities), *frame.shape), np.float32)
        for read, share in zip(reads, shares):
            whole += in_frame(read.probabilities, read.window, frame.shape) * np.float32(share)

        each = [read.likeness for read in reads]
        alike = {s: sum(share * one[s] for share, one in zip(shares, each)) for s in STRUCTURES if all(each)}
        return _Read(whole, (slice(None),) * 3, alike)

    def _read_alike(
        self,
        frame: np.ndarray,
        spacing: tuple[float, float, float],
        config: PreprocessingConfig,
        numbers: Sequence[int],
    ) -> _Read:
        """As :meth:`_read`, of models that share their preprocessing: in the heart's region, if any."""
        values = normalise(frame, config)
        grid = make_grid((frame.shape[0], frame.shape[1], frame.shape[2]), spacing, config)
        region = self._find_heart(values, spacing, grid) if config.region else None
        if region is not None:
            part = grid.part(*region)
            volume = torch.from_numpy(part.greys_to_network(values))
            mean, labels = self._mean(volume, numbers)
            if labels.any() and not touches_edge(labels, region, grid):
                mean, alike = self._look_again(mean, labels, volume, numbers, config.pixel_mm)
                return _Read(part.probabilities_in_window(mean), part.window, alike)
        volume = torch.from_numpy(grid.greys_to_network(values))
        mean, labels = self._mean(volume, numbers)
        mean, alike = self._look_again(mean, labels, volume, numbers, config.pixel_mm)
        return _Read(grid.probabilities_to_native(mean), (slice(None),) * 3, alike)

    def _find_heart(self, values: np.ndarray, spacing: tuple[float, float, float], grid: NetworkGrid) -> Region | None:
        assert self._finder is not None
        try:
            return self._finder.find(values, spacing, grid)
        except RuntimeError as error:
            self._fall_back(error)
        return self._finder.find(values, spacing, grid)

    def _mean(self, volume: Tensor, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean probabilities ``(class, z, y, x)`` of some models for a prepared volume, and the labels they give."""
        read = predict_with_flips if self.flips else predict_volume
        mean = self._mean_by(read, volume, numbers)
        return mean, labels_from_probabilities(mean, self.largest_component)

    def _look_again(
        self, mean: np.ndarray, labels: np.ndarray, volume: Tensor, numbers: Sequence[int], pixel_mm: float
    ) -> tuple[np.ndarray, dict[Label, float]]:
        """The mean of a first look's probabilities and a second one's, around its labels, and how alike they are."""
        if not labels.any() or not self._looks_again([self.models[number] for number in numbers]):
            return mean, {}
        return look_again(mean, labels, volume, lambda shown: self._mean_by(predict_volume, shown, numbers), pixel_mm)

    def _mean_by(self, read: Callable[..., Tensor], volume: Tensor, numbers: Sequence[int]) -> np.ndarray:
        total = sum(self._predict(read, number, volume).cpu().numpy() for number in numbers)
        return cast(np.ndarray, total) / np.float32(len(numbers))

    def _predict(self, read: Callable[..., Tensor], number: int, volume: Tensor) -> Tensor:
        try:
            return read(self._networks[number], volume, self.device)
        except RuntimeError as error:
            self._fall_back(error)
        return read(self._networks[number], volume, self.device)

    def _fall_back(self, error: RuntimeError) -> None:
        """To the CPU, if the error is a full GPU; any other is raised again."""
        if self.device.type == "cpu" or not _is_out_of_memory(error):
            raise error
        sentence = "The GPU ran out of memory; the rest was segmented on the CPU, which is slower."
        python_warnings.warn(sentence, stacklevel=3)
        self._notes.append(sentence)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.device = torch.device("cpu")
        self._networks = self._compile(self.device)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """PyTorch's own error, and those of CUDA's libraries and MPS, which have no type of their own."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "alloc_failed" in text
