"""Readers, the model loader and Info.cfg under random bytes: a CardiacSegError or something sound, nothing else.

``python -m trust.fuzzing TARGET SECONDS`` fuzzes one target, guided by coverage where atheris is installed, else by
random changes of valid files. It prints how many inputs it tried, and ends with 1 and the input where it found a fault.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from CardiacSegLib.errors import CardiacSegError

_NUMBERS = (
    b"\x00",
    b"\xff",
    b"\x7f\xff",
    b"\x00\x00\x80\x7f",
    b"\xff\xff\xff\xff",
    b"\x00\x00\xc0\x7f",
    b"-1",
    b"9" * 30,
)


@dataclass(frozen=True)
class Target:
    """What is fuzzed: valid inputs to begin with, and what reads one."""

    seeds: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], None]


def _sound(path: Path) -> None:
    from CardiacSegLib.readers import read_study

    study = read_study(path)
    assert np.isfinite(study.image).all() and all(np.isfinite(study.spacing)), study.spacing


def _image(suffix: str) -> Target:
    def seeds(folder: Path) -> list[bytes]:
        import SimpleITK as sitk

        made = []
        for kind, shape in ((np.int16, (2, 5, 8, 8)), (np.float32, (5, 8, 8)), (np.uint8, (5, 8, 8))):
            image = sitk.GetImageFromArray(np.arange(np.prod(shape)).reshape(shape).astype(kind), isVector=False)
            image.SetSpacing((1.5, 1.5, 8.0, 0.05)[: len(shape)])
            sitk.WriteImage(
                image, str(folder / ("seed" + suffix)), useCompression=suffix == ".nrrd" and kind is np.uint8
            )
            made.append((folder / ("seed" + suffix)).read_bytes())
        return made

    def read(content: bytes, folder: Path) -> None:
        path = folder / ("fuzzed" + suffix)
        path.write_bytes(content)
        _sound(path)

    return Target(seeds, read)


def _dicom_seeds(folder: Path) -> list[bytes]:
    from trust.cases_dicom import series

    return [(series(folder, "seeds") / "IM_0001.dcm").read_bytes()]


@functools.lru_cache(maxsize=1)
def _series(folder: Path) -> Path:
    from trust.cases_dicom import series

    return series(folder, "fuzzed")


def _read_dicom(content: bytes, folder: Path) -> None:
    target = _series(folder)
    (target / "IM_0001.dcm").write_bytes(content)
    _sound(target)


def _read_info(content: bytes, folder: Path) -> None:
    from CardiacSegLib.readers.acdc import read_info

    (folder / "Info.cfg").write_bytes(content)
    info = read_info(folder / "Info.cfg")
    assert info.ed >= 1 and info.es >= 1
    assert all(v is None or 0 < v < float("inf") for v in (info.height_cm, info.weight_kg))


def _model_seeds(folder: Path) -> list[bytes]:
    from trust.cases import quick_model

    return [quick_model(folder).read_bytes()]


def _read_model(content: bytes, folder: Path) -> None:
    import torch

    from CardiacSegLib.models import load_model

    path = folder / "fuzzed.pt"
    path.write_bytes(content)
    network = load_model(path).build()
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters())


TARGETS: dict[str, Target] = {
    "nifti": _image(".nii"),
    "nifti-packed": _image(".nii.gz"),
    "nrrd": _image(".nrrd"),
    "dicom": Target(_dicom_seeds, _read_dicom),
    "info": Target(lambda _: [b"ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"], _read_info),
    "model": Target(_model_seeds, _read_model),
}


def one(target: Target, content: bytes, folder: Path) -> bool:
    """Read one input; whether it was read. Raises whatever no reader may raise."""
    try:
        target.read(content, folder)
    except CardiacSegError as error:
        text = str(error)
        assert text and len(text) < 2000 and "HIDDENNAME" not in text and "SECRETWORD" not in text, text
        return False
    return True


def changed(content: bytes, generator: random.Random, others: list[bytes]) -> bytes:
    """A valid input with a few changes: bits, numbers, pieces left out, doubled or taken from another one."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        # mostly where the header is
        at = generator.randrange(max(1, min(len(data), generator.choice((400, 2000, len(data) or 1)))))
        kind = generator.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << generator.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = generator.randrange(256)
        elif kind == 2:
            number = generator.choice(_NUMBERS)
            data[at : at + len(number)] = number
        elif kind == 3:
            del data[at : at + generator.choice((1, 2, 8, 100, 10_000))]
        elif kind == 4:
            data[at:at] = data[at : at + generator.choice((1, 4, 64, 1000))]
        elif kind == 5:
            data[at:at] = bytes(generator.randrange(256) for _ in range(generator.choice((1, 3, 8))))
        else:
            other = generator.choice(others)
            data[at : at + 32] = other[at : at + 32]
    return bytes(data)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def random_changes(name: str, seconds: float, seed: int = 0, most: int | None = None) -> int:
    """Fuzz by random changes for a time, or ``most`` inputs; returns the inputs tried."""
    generator, target, tried, end = random.Random(f"{name} {seed}"), TARGETS[name], 0, time.monotonic() + seconds
    with _folder() as place:
        folder = Path(place)
        seeds = target.seeds(folder)
        while time.monotonic() < end and (most is None or tried < most):
            content = changed(generator.choice(seeds), generator, seeds)
            (folder / "last").write_bytes(content)
            try:
                one(target, content, folder)
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"cardiacseg-fuzz-{name}"
                kept.write_bytes(content)
                print(f"{name}: a fault at input {tried + 1}, kept as {kept}", file=sys.stderr)
                raise
            tried += 1
    return tried


def guided(name: str, seconds: int) -> None:
    """Fuzz with atheris; ends the process."""
    import atheris

    target = TARGETS[name]
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    for number, content in enumerate(target.seeds(place)):
        (place / "corpus").mkdir(exist_ok=True)
        (place / "corpus" / str(number)).write_bytes(content)
    # after the seeds: what made them need not be watched
    for module in [m for m in sys.modules if m.startswith(("CardiacSegLib.readers", "CardiacSegLib.models"))]:
        del sys.modules[module]
    with atheris.instrument_imports(include=["CardiacSegLib"]):
        import CardiacSegLib.models
        import CardiacSegLib.readers
        import CardiacSegLib.readers.acdc
        import CardiacSegLib.readers.dicom
        import CardiacSegLib.readers.images  # noqa: F401

    def test(content: bytes) -> None:
        one(target, content, place)

    options = [
        f"-max_total_time={seconds}",
        "-print_final_stats=1",
        "-rss_limit_mb=6000",
        "-timeout=60",
        "-max_len=20000",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={place}/found-", str(place / "corpus")], test)
    atheris.Fuzz()


def fuzz(name: str, seconds: float) -> tuple[int, str]:
    """Fuzz a target in a process of its own; inputs tried and how: ``guided`` or ``random``.

    Raises:
        AssertionError: a fault was found; the message says how to see it again.
    """
    how = "guided" if importlib.util.find_spec("atheris") else "random"
    command = [sys.executable, "-m", "trust.fuzzing", name, str(int(seconds)), "--how", how]
    here = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    numbers = re.findall(r"(?:number_of_executed_units:|inputs tried:)\s*(\d+)", done.stdout + done.stderr)
    assert done.returncode == 0 and numbers, f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}"
    return int(numbers[-1]), how


def main() -> int:
    """The command line of one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("seconds", type=int)
    parser.add_argument("--how", choices=("guided", "random"), default="random")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    if args.how == "guided":
        guided(args.target, args.seconds)
    print(f"inputs tried: {random_changes(args.target, args.seconds, args.seed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
