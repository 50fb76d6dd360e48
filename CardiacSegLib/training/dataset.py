"""A training set, prepared once, packed as 8-bit tensors, and kept on the device that trains."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from CardiacSegLib.errors import TrainingError
from CardiacSegLib.files import moved_into_place
from CardiacSegLib.pose import Turn, turn_to_usual
from CardiacSegLib.preprocessing import NetworkGrid, PreprocessingConfig, make_grid, prepare
from CardiacSegLib.readers.acdc import is_acdc_folder, read_acdc_folder, read_acdc_truth
from CardiacSegLib.study import Geometry, Label, LabelMap

_PACK_VERSION = 3


@dataclass(frozen=True)
class Case:
    """One patient of a training set: folder, name and diagnosis group."""

    folder: Path
    name: str
    group: str


@dataclass(frozen=True)
class Volume:
    """One packed frame: where its slices are, whose it is, and its native truth and geometry for validation."""

    case: str
    phase: str
    start: int
    stop: int
    truth: LabelMap
    grid: NetworkGrid


def find_cases(root: Path) -> list[Case]:
    """All patients below ``root`` that have ``Info.cfg``, frames and manual masks, by name.

    Raises:
        TrainingError: the folder is missing, or holds none.
    """
    from CardiacSegLib.readers.acdc import read_info

    if not root.is_dir():
        raise TrainingError(f"There is no folder '{root}'. Give the folder that holds the patients' folders.")
    cases = []
    for folder in sorted(p for p in root.iterdir() if is_acdc_folder(p)):
        if any(not p.name.startswith(".") for p in folder.glob("*_gt.nii*")):
            cases.append(Case(folder, folder.name, read_info(folder / "Info.cfg").group or "?"))
    if not cases:
        raise TrainingError(
            f"'{root}' holds no patient to train with. Each needs its own folder with Info.cfg, "
            "…_frameFF.nii.gz and …_frameFF_gt.nii.gz for ED and ES."
        )
    return cases


class PackedSet:
    """Prepared frames of many patients: ``images`` and ``labels`` are uint8 ``(slice, y, x)``, volume after volume."""

    def __init__(self, images: Tensor, labels: Tensor, volumes: Sequence[Volume]) -> None:
        self.images, self.labels, self.volumes = images, labels, list(volumes)
        starts = torch.zeros(len(images), dtype=torch.long)
        stops = torch.zeros(len(images), dtype=torch.long)
        centres = torch.zeros(len(images), 2)
        for v in self.volumes:
            starts[v.start : v.stop], stops[v.start : v.stop] = v.start, v.stop
            centres[v.start : v.stop] = _heart_centre(labels[v.start : v.stop])
        self.starts, self.stops, self.centres = starts, stops, centres

    def to(self, device: torch.device) -> PackedSet:
        """The same set on a device."""
        return PackedSet(self.images.to(device), self.labels.to(device), self.volumes)

    def only(self, cases: Sequence[str]) -> PackedSet:
        """The volumes of some patients."""
        wanted, kept, parts, at = set(cases), [], [], 0
        for v in self.volumes:
            if v.case in wanted:
                n = v.stop - v.start
                kept.append(Volume(v.case, v.phase, at, at + n, v.truth, v.grid))
                parts.append(slice(v.start, v.stop))
                at += n
        if not kept:
            raise TrainingError("A fold has no patients. Use fewer folds or more patients.")
        return PackedSet(torch.cat([self.images[p] for p in parts]), torch.cat([self.labels[p] for p in parts]), kept)

    def frequencies(self, classes: int) -> tuple[float, ...]:
        """Share of each class in all pixels."""
        counts = torch.bincount(self.labels.flatten(), minlength=classes).double()
        return tuple((counts / counts.sum()).tolist())

    def slice_batch(self, index: Tensor, in_slices: int) -> tuple[Tensor, Tensor]:
        """Slices with their neighbours, ``(batch, in_slices, y, x)``, and labels ``(batch, 1, y, x)``.

        Beyond the end of a stack its last slice is repeated.
        """
        offsets = torch.arange(in_slices) - in_slices // 2
        neighbours = index[:, None] + offsets[None]
        neighbours = torch.minimum(torch.maximum(neighbours, self.starts[index, None]), self.stops[index, None] - 1)
        return self.images[neighbours], self.labels[index, None]

    def volume_batch(self, index: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Whole volumes of equal depth, ``(batch, z, y, x)`` each."""
        chosen = [self.volumes[i] for i in index]
        return (
            torch.stack([self.images[v.start : v.stop] for v in chosen]),
            torch.stack([self.labels[v.start : v.stop] for v in chosen]),
        )


def _heart_centre(labels: Tensor) -> Tensor:
    """Centre (y, x) in pixels of all structures of a volume; of the field where there is none."""
    height, width = labels.shape[-2:]
    found = labels.nonzero()
    if len(found) == 0:
        return torch.tensor([(height - 1) / 2.0, (width - 1) / 2.0])
    low, high = found[:, 1:].min(0).values, found[:, 1:].max(0).values
    return (low + high).float() / 2.0


def pack(
    cases: Sequence[Case],
    config: PreprocessingConfig,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PackedSet:
    """Prepare ED and ES of all cases; kept in the folder ``cache`` (one file per case and configuration) if given."""
    images, labels, volumes, at = [], [], [], 0
    for number, case in enumerate(cases):
        for phase, image, label, truth in _packed_case(case, config, cache):
            n = len(image)
            grid = make_grid(truth.geometry.shape, truth.geometry.spacing, config, training=True)
            volumes.append(Volume(case.name, phase, at, at + n, truth, grid))
            images.append(image)
            labels.append(label)
            at += n
        if progress:
            progress(number + 1, len(cases))
    return PackedSet(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)), volumes)


def _packed_case(
    case: Case, config: PreprocessingConfig, cache: Path | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray, LabelMap]]:
    path = None
    if cache is not None:
        stamps = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(case.folder.iterdir())]
        packed_by = {**asdict(config), "region": False}  # training reads the whole field
        del packed_by["read_pixel_mm"]
        key = json.dumps([_PACK_VERSION, str(case.folder.resolve()), stamps, packed_by])
        path = cache / f"{case.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        with contextlib.suppress(Exception):  # a damaged file breaks in many ways; it is made again
            if path.is_file():
                yield from list(_read_pack(path))
                return
    entries = list(_prepare_case(case, config))
    if path is not None:
        _write_pack(path, entries)
    yield from entries


def _prepare_case(case: Case, config: PreprocessingConfig) -> Iterator[tuple[str, np.ndarray, np.ndarray, LabelMap]]:
    """By phase: what a network reads, its labels, and the manual mask on the patient's grid; where the preset reads
    hearts upright, all turned so by the manual mask at ED."""
    study = read_acdc_folder(case.folder)
    truths = read_acdc_truth(case.folder)
    turn = Turn()
    if config.upright:
        assert study.ed is not None
        turn = turn_to_usual(truths[study.frame_numbers[study.ed]].data, study.spacing)
    for phase, index in (("ED", study.ed), ("ES", study.es)):
        assert index is not None  # an ACDC folder always names both
        truth = truths[study.frame_numbers[index]]
        if not truth.geometry.matches(study.geometry):
            raise TrainingError(f"Image and mask of '{case.folder}' ({phase}) lie on different grids.")
        if turn != Turn():
            spacing = turn.spacing(study.spacing)
            truth = LabelMap(turn.there(truth.data), Geometry(turn.shape(study.geometry.shape), spacing))
        prepared = prepare(turn.there(study.frame(index)), truth.geometry.spacing, config, training=True)
        label = prepared.grid.labels_to_network(truth.data, len(Label))
        lost = prepared.grid.outside(truth.data > 0)
        if lost > 0.1:
            raise TrainingError(
                f"The training field of {config.train_size} pixels cuts away {lost:.0%} of the heart "
                f"of '{case.name}' ({phase})."
            )
        yield phase, np.round(prepared.volume * 255.0).astype(np.uint8), label, truth


def _write_pack(path: Path, entries: Sequence[tuple[str, np.ndarray, np.ndarray, LabelMap]]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for phase, image, label, truth in entries:
        g = truth.geometry
        arrays[f"{phase}_image"], arrays[f"{phase}_label"], arrays[f"{phase}_truth"] = image, label, truth.data
        arrays[f"{phase}_geometry"] = np.concatenate([g.spacing, g.origin, np.ravel(g.direction)]).astype(np.float64)
    moved_into_place(path, lambda aside: np.savez_compressed(aside, **arrays))  # type: ignore[arg-type]


def _read_pack(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, LabelMap]]:
    with np.load(path, allow_pickle=False) as arrays:
        for phase in ("ED", "ES"):
            numbers = arrays[f"{phase}_geometry"].tolist()
            data = arrays[f"{phase}_truth"]
            rows = tuple(tuple(numbers[6 + 3 * i : 9 + 3 * i]) for i in range(3))
            geometry = Geometry(data.shape, tuple(numbers[:3]), tuple(numbers[3:6]), rows)  # type: ignore[arg-type]
            yield phase, arrays[f"{phase}_image"], arrays[f"{phase}_label"], LabelMap(data, geometry)
