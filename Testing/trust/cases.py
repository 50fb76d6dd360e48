"""What a case of the corpus is, and the phantom that all cases are made from."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from CardiacSegLib.phantom import Phantom, PhantomConfig, make_phantom
from CardiacSegLib.study import CineStudy
from CardiacSegLib.writers import write_cine

#: In every DICOM header and Info.cfg of the corpus; none of it may come out again.
SECRETS = ("HIDDENNAME", "MRN-77413", "19510203", "SECRETWORD")

Make = Callable[[Path], "Sequence[Path]"]


@dataclass(frozen=True)
class Case:
    """One input and how it must end.

    Attributes:
        name: what it is.
        make: writes it below a folder; returns what the command line is given.
        refused: pattern of the message; empty where it is read.
        warned: pattern of a warning in ``function.json``.
        same: the figures are those of the plain phantom, within 2 %.
        quick: with a small network that knows nothing, where only what the reader says counts.
        options: more options of the command line.
        library: whether the library alone refuses it too.
        around: a context in which it is read.
    """

    name: str
    make: Make = field(repr=False)
    refused: str = ""
    warned: str = ""
    same: bool = False
    quick: bool = False
    options: tuple[str, ...] = ()
    library: bool = True
    around: Callable[[Path], object] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (self.refused or self.warned or self.same):
            raise ValueError(f"'{self.name}' does not say how it ends.")


def named(name: str, **ends: object) -> Callable[[Make], Case]:
    """Makes a case of the function below it."""
    return lambda make: Case(name, make, **ends)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1)
def phantom() -> Phantom:
    """Two frames, ED and ES, of a heart in few large voxels."""
    whole = make_phantom(PhantomConfig(frames=6, slices=5, size=(96, 88), spacing=(18.0, 2.5, 2.5)))
    chosen = (whole.ed, whole.es)
    times = tuple(whole.study.times_ms[i] for i in sorted(chosen))
    image = whole.study.image[sorted(chosen)]
    study = replace(whole.study, image=image, frame_numbers=(), times_ms=times)
    return replace(whole, study=study, labels=tuple(whole.labels[i] for i in sorted(chosen)), ed=0, es=1)


def study() -> CineStudy:
    """The phantom's cine."""
    return phantom().study


def plain(folder: Path, name: str = "cine.nii.gz") -> Path:
    """The phantom as a 4D file."""
    write_cine(folder / name, study())
    return folder / name


def quick_model(folder: Path) -> Path:
    """A model file of a small network with random weights."""
    import torch

    from CardiacSegLib.models import TrainedModel, save_model
    from CardiacSegLib.networks.config import NetworkConfig
    from CardiacSegLib.networks.unet import build_network
    from CardiacSegLib.preprocessing import PreprocessingConfig
    from CardiacSegLib.training.config import Preset

    path = folder / "quick.pt"
    if not path.exists():
        torch.manual_seed(0)
        network = NetworkConfig(features=(4, 8), dropout=())
        preset = Preset("quick", "Knows nothing.", network, PreprocessingConfig(pixel_mm=4.0, min_size=32))
        save_model(path, TrainedModel("quick", preset, build_network(network).state_dict()))
    return path


@contextmanager
def not_permitted(path: Path) -> Iterator[None]:
    """A path that cannot be read, also where the tests run as root."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with as_nobody():
            yield
    finally:
        path.chmod(mode)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may do everything; so be somebody else for a while."""
    if os.name != "posix" or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
