"""Patient folders, names of all kinds, and outputs that cannot be written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from CardiacSegLib.study import Geometry
from CardiacSegLib.writers import write_cine, write_training_case
from trust.cases import Case, not_permitted, phantom, plain, study

_INFO = b"ED: 1\nES: 2\nGroup: SECRETWORD\nHeight: 170.0\nNbFrame: 2\nWeight: 70.0\nName: HIDDENNAME\n"


def patient(folder: Path, info: bytes = _INFO, name: str = "patient001") -> Path:
    """The phantom as an ACDC patient folder with this Info.cfg."""
    made = write_training_case(folder, name, study().with_phases(0, 1), dict(enumerate(phantom().labels)))
    (made / "Info.cfg").write_bytes(info)
    return made


def info(content: bytes):
    """A patient folder with another Info.cfg."""
    return lambda folder: [patient(folder, content)]


def _without_frame(folder: Path) -> list[Path]:
    made = patient(folder)
    (made / "patient001_frame02.nii.gz").unlink()
    return [made]


def _frame_twice(folder: Path) -> list[Path]:
    made = patient(folder)
    write_cine(
        made / "other_frame02.nii.gz", replace(study(), image=study().image[1:], frame_numbers=(), times_ms=None)
    )
    return [made]


def _other_grid(folder: Path) -> list[Path]:
    made = patient(folder)
    grid = Geometry(study().geometry.shape, (18.0, 2.4, 2.5))
    frame = replace(study(), image=study().image[1:], frame_numbers=(), times_ms=None, geometry=grid)
    write_cine(made / "patient001_frame02.nii.gz", frame)
    return [made]


def _cine_as_frame(folder: Path) -> list[Path]:
    made = patient(folder)
    write_cine(made / "patient001_frame02.nii.gz", study())
    return [made]


def _loops(folder: Path) -> list[Path]:
    made = folder / "study"
    made.mkdir()
    (made / "a").symlink_to(made)
    (made / "b").symlink_to(made / "a")
    return [made]


def _two_images(folder: Path) -> list[Path]:
    plain(folder, "a.nii.gz")
    plain(folder, "b.nii.gz")
    return [folder]


def called(name: str):
    """The phantom under a name."""

    def make(folder: Path) -> list[Path]:
        path = folder / (name + ".nii.gz")
        plain(folder, "plain.nii.gz").rename(path)
        return [path]

    return make


def in_folder(name: str):
    """The phantom's patient folder under a name."""
    return lambda folder: [patient(folder, _INFO).rename(folder / name)]


def _bytes_name(folder: Path) -> list[Path]:
    path = Path(os.fsdecode(os.fsencode(str(folder)) + b"/caf\xe9.nii.gz"))
    plain(folder, "plain.nii.gz").rename(path)
    return [path]


def _bytes_folder(folder: Path) -> list[Path]:
    path = Path(os.fsdecode(os.fsencode(str(folder)) + b"/caf\xe9"))
    return [patient(folder).rename(path)]


def _deep(folder: Path) -> list[Path]:
    deep = folder
    for _ in range(12):
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    return [plain(deep)]


def _output_is_file(folder: Path) -> list[Path]:
    (folder.parent / "output").write_text("mine")
    return [plain(folder)]


def _protected_output(folder: Path) -> list[Path]:
    (folder.parent / "output").mkdir()
    return [plain(folder)]


def _not_writable(folder: Path) -> object:
    return not_permitted(folder.parent / "output")


_HTML = "<img src=x onerror=alert(1)>&amp;'\"<script>alert(1)<_script>"

CASES: list[Case] = [
    Case("a patient folder", lambda f: [patient(f)], same=True),
    Case("empty Info.cfg", info(b""), refused="does not say which frame is ED"),
    Case("Info.cfg without ES", info(b"ED: 1\nGroup: NOR\n"), refused="does not say which frame is ES"),
    Case("Info.cfg of words", info(b"ED: first\nES: SECRETWORD\n"), refused="does not say which frame is ED"),
    Case("ED of zero", info(b"ED: 0\nES: 2\n"), refused="does not say which frame is ED"),
    Case("ED negative", info(b"ED: -1\nES: 2\n"), refused="does not say which frame is ED"),
    Case("ED of many digits", info(b"ED: " + b"9" * 5000 + b"\nES: 2\n"), refused="does not say which frame is ED"),
    Case("ED beyond the cine", info(b"ED: 7\nES: 2\n"), refused="Frame 7 .*is missing"),
    Case("ED and ES the same", info(b"ED: 1\nES: 1\n"), warned="same frame"),
    Case("Info.cfg of bytes", info(bytes(range(256)) * 20), refused="does not say which frame is ED"),
    Case("Info.cfg in UTF-16", info(_INFO.decode().encode("utf-16")), refused="does not say which frame is ED"),
    Case("Info.cfg of an old Mac", info(_INFO.replace(b"\n", b"\r")), same=True),
    Case("Info.cfg with strange sizes", info(_INFO.replace(b"170.0", b"nan").replace(b"70.0", b"-1e999")), same=True),
    Case("Info.cfg of 64 MiB", info(b"x: y\n" * (64 * 2**20 // 5)), refused="Info.cfg.* large|does not say"),
    Case("a missing frame", _without_frame, refused="Frame 2 .*is missing"),
    Case("a frame twice", _frame_twice, refused="is there 2 times"),
    Case("frames on different grids", _other_grid, refused="different grids"),
    Case("a cine as a frame", _cine_as_frame, refused="holds 2 frames"),
    Case("a folder of links to itself", _loops, refused="no DICOM file"),
    Case("two images in a folder", _two_images, refused="holds 2 images"),
    Case("a name with spaces", called("my study  of today "), same=True),
    Case("a name with umlauts", called("Grüße aus Köln"), same=True),
    Case("a Chinese name", called("心脏磁共振"), same=True),
    Case("a name of 240 characters", called("n" * 240), same=True, warned="too long"),
    Case("a Chinese name of 80 characters", called("心" * 80), same=True, warned="too long"),
    Case("a name that is no Unicode", _bytes_name, same=True),
    Case("a folder whose name is no Unicode", _bytes_folder, same=True),
    Case("a name of HTML", called(_HTML), same=True),
    Case("a folder named as HTML", in_folder(_HTML), same=True),
    Case("a name of control characters", called("a\x1b[2J\nb\rc\td"), same=True),
    Case("a name like an option", called("--overwrite"), same=True),
    Case("a name of a pattern", called("[a-z]*{0}%s$(touch x)`touch y`"), same=True),
    Case("a name of dots", called("..a..b"), same=True),
    Case("a path of 2400 characters", _deep, same=True),
    Case("the output is a file", _output_is_file, refused="output must be a folder", library=False),
    Case("an output that may not be written", _protected_output, refused="cannot be|ermission", library=False,
         around=_not_writable),
]  # fmt: skip
