"""Folders of DICOM: damaged, mixed, incomplete, hostile."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pydicom

from CardiacSegLib.dicom_writer import write_cine_dicom
from trust.cases import Case, not_permitted, study

#: Changes a dataset of slice z at phase t; False removes the file.
Edit = Callable[[Any, int, int], Optional[bool]]

_written: list[Path] = []


def series(folder: Path, name: str = "dicom") -> Path:
    """The phantom as a series with a patient's name, number and date of birth in every file."""
    target = folder / name
    if not (_written and _written[0].is_dir()):
        write_cine_dicom(study(), target)
        for file in target.iterdir():
            data = pydicom.dcmread(file)
            data.PatientName, data.PatientID, data.PatientBirthDate = "HIDDENNAME^JANE", "MRN-77413", "19510203"
            data.SeriesDescription = data.StudyDescription = data.InstitutionName = "SECRETWORD"
            data.save_as(file)
        _written[:] = [target]
    else:
        shutil.copytree(_written[0], target)
    return target


def changed(edit: Edit, of: Callable[[int, int], bool] = lambda z, t: True) -> Callable[[Path], list[Path]]:
    """The series with some of its files changed."""

    def make(folder: Path) -> list[Path]:
        target = series(folder)
        for file, z, t in _files(target):
            if not of(z, t):
                continue
            data = pydicom.dcmread(file)
            if edit(data, z, t) is False:
                file.unlink()
            else:
                data.save_as(file)
        return [target]

    return make


def _files(target: Path) -> list[tuple[Path, int, int]]:
    frames = study().frames
    return [(target / f"IM_{n + 1:04d}.dcm", n // frames, n % frames) for n in range(study().slices * frames)]


def set_to(**values: object) -> Callable[[Path], list[Path]]:
    """Every file with other values."""

    def edit(data: Any, z: int, t: int) -> None:
        for keyword, value in values.items():
            setattr(data, keyword, value)

    return changed(edit)


def without(*keywords: str) -> Callable[[Path], list[Path]]:
    """Every file without some elements."""

    def edit(data: Any, z: int, t: int) -> None:
        for keyword in keywords:
            if keyword in data:
                delattr(data, keyword)

    return changed(edit)


def first(z: int, t: int) -> bool:
    """The first file only."""
    return z == t == 0


def bytes_of_first(change: Callable[[bytes], bytes]) -> Callable[[Path], list[Path]]:
    """The series with the bytes of its first file changed."""

    def make(folder: Path) -> list[Path]:
        target = series(folder)
        file = target / "IM_0001.dcm"
        file.write_bytes(change(file.read_bytes()))
        return [target]

    return make


def _all_cut(folder: Path) -> list[Path]:
    target = series(folder)
    for file, _, _ in _files(target):
        file.write_bytes(file.read_bytes()[:-1000])
    return [target]


def _second_copy(folder: Path) -> list[Path]:
    target = series(folder)
    shutil.copy(target / "IM_0003.dcm", target / "again.dcm")
    return [target]


def _second_other(folder: Path) -> list[Path]:
    target = series(folder)
    data = pydicom.dcmread(target / "IM_0003.dcm")
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(target / "again.dcm")
    return [target]


def _two_patients(folder: Path) -> list[Path]:
    target = series(folder)
    for file in (target / "IM_0001.dcm", target / "IM_0002.dcm"):
        data = pydicom.dcmread(file)
        data.PatientID = "HIDDENNAME-2"
        data.save_as(file)
    return [target]


def _loops(folder: Path) -> list[Path]:
    target = series(folder)
    (target / "self").symlink_to(target)
    (target / "up").symlink_to(folder)
    return [target]


def _one_file(folder: Path) -> list[Path]:
    return [series(folder) / "IM_0001.dcm"]


def _nested(content: bytes) -> bytes:
    """A private sequence within a sequence, 5000 deep: readers that call themselves run out of stack."""
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = b"\x09\x00\x10\x10SQ\x00\x00\xff\xff\xff\xff"
    at = content.index(b"\x10\x00\x10\x00PN")
    return content[:at] + (sequence + item) * 5000 + content[at:]


def _deflated_bomb(content: bytes) -> bytes:
    """A deflated file that says to unpack to 300 MiB."""
    data = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    start = (
        content.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in content else content.index(b"\x08\x00\x08\x00CS")
    )
    meta = content[:start].replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.1.99")
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(content[start:])
    for _ in range(300):
        body += packer.compress(bytes(2**20))
    return meta + body + packer.flush()


def _tilted(data: Any, z: int, t: int) -> None:
    axes = np.array(data.ImageOrientationPatient, float)
    axes[:3] = axes[:3] + 0.3 * axes[3:]
    data.ImageOrientationPatient = [f"{v:.6f}" for v in axes / np.linalg.norm(axes[:3])]


def _turned(data: Any, z: int, t: int) -> None:
    axes = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(*axes)
    axes[0] = np.cos(0.06) * axes[0] + np.sin(0.06) * normal
    data.ImageOrientationPatient = [f"{v:.6f}" for v in axes.ravel()]


def _moved(data: Any, z: int, t: int) -> None:
    axes = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
    place = np.array(data.ImagePositionPatient, float) + 9 * axes[0]
    data.ImagePositionPatient = [f"{v:.4f}" for v in place]


def _hostile_texts(data: Any, z: int, t: int) -> None:
    data.PatientName = "HIDDENNAME<script>alert(1)</script>"
    data.PatientID = "../../MRN-77413"
    data.SeriesDescription = "SECRETWORD\x1b[2J"
    data.PatientSex, data.PatientAge = "<b>", "../.."


def _explicit_garbage(content: bytes) -> bytes:
    return content[:400] + os.urandom(0) + bytes(range(256)) * 8 + content[400:]


def _syntax(uid: bytes) -> Callable[[bytes], bytes]:
    """Another transfer syntax of the same length."""
    return lambda content: content.replace(b"1.2.840.10008.1.2.1\x00", uid + b"\x00", 1)


def _only_start(content: bytes) -> bytes:
    return content[:132]


def _length_beyond(content: bytes) -> bytes:
    """The pixel data says that it is four gigabytes long."""
    at = content.rindex(b"\xe0\x7f\x10\x00OW")
    return content[: at + 8] + struct.pack("<I", 0xFFFFFFFE) + content[at + 12 :]


def _trigger(values: Callable[[int, int], object]) -> Callable[[Path], list[Path]]:
    def edit(data: Any, z: int, t: int) -> None:
        data["TriggerTime"].value = values(z, t)

    return changed(edit)


def _unreadable_file(folder: Path) -> object:
    return not_permitted(folder / "dicom" / "IM_0001.dcm")


def _unreadable_folder(folder: Path) -> object:
    return not_permitted(folder / "dicom")


def _text_files(folder: Path) -> list[Path]:
    for n in range(3):
        (folder / f"notes{n}.txt").write_text("SECRETWORD")
    return [folder]


def _copied_header(folder: Path) -> list[Path]:
    """Files that start as DICOM does and go on as nothing."""
    for n in range(4):
        (folder / f"a{n}").write_bytes(bytes(128) + b"DICM" + os.urandom(0) + b"\xff" * 300)
    return [folder]


_MISSING = "Frames are missing|phases|missing"

CASES: list[Case] = [
    Case("a series", lambda f: [series(f)], same=True),
    Case("a series of hostile texts", changed(_hostile_texts), same=True),
    Case("an empty folder", lambda f: [f], refused="no DICOM file"),
    Case("a folder of text", _text_files, refused="no DICOM file"),
    Case("files that only start as DICOM", _copied_header, refused="no MR image|cannot be read"),
    Case("one DICOM file", _one_file, refused="one DICOM file"),
    Case("another modality", set_to(Modality="CT"), refused="another modality"),
    Case("two patients", _two_patients, refused="2 patients"),
    Case("two studies", changed(lambda d, z, t: setattr(d, "StudyInstanceUID", "1.2.9"), first), refused="2 studies"),
    Case("a missing instance", changed(lambda d, z, t: False, lambda z, t: (z, t) == (2, 1)), refused=_MISSING),
    Case("a missing slice", changed(lambda d, z, t: False, lambda z, t: z == 2), refused="missing between"),
    Case("a missing phase of all slices", changed(lambda d, z, t: False, lambda z, t: t == 1),
         refused="only one phase"),
    Case("an instance twice", _second_copy, same=True, warned="exact double"),
    Case("two images at one place and time", _second_other, refused="same place and time"),
    Case("no trigger times", without("TriggerTime"), same=True, warned="No usable trigger times"),
    Case("trigger times all zero", _trigger(lambda z, t: "0"), same=True, warned="No usable trigger times"),
    Case("trigger times of some slices", changed(lambda d, z, t: delattr(d, "TriggerTime"), lambda z, t: z == 1),
         same=True, warned="No usable trigger times"),
    Case("trigger times that go back", _trigger(lambda z, t: str(500 - 300 * t)), same=True),
    Case("negative trigger times", _trigger(lambda z, t: str(-400 + 300 * t)), same=True, warned="before the R wave"),
    Case("trigger times of another heart", _trigger(lambda z, t: str(300 * t * (1 + 3 * (z % 2)))), same=True,
         warned="cycle differs"),
    Case("no order at all", without("TriggerTime", "TemporalPositionIdentifier", "InstanceNumber"),
         refused="only one phase|cannot be put in order"),
    Case("a file cut off", bytes_of_first(lambda b: b[:-1000]), refused="cut off"),
    Case("all files cut off", _all_cut, refused="cut off"),
    Case("a file cut off in its header", bytes_of_first(lambda b: b[:600]), refused=_MISSING + "|only|Unequal"),
    Case("a file that ends after DICM", bytes_of_first(_only_start), refused=_MISSING),
    Case("an empty file among others", bytes_of_first(lambda b: b""), refused=_MISSING),
    Case("garbage in a header", bytes_of_first(_explicit_garbage), refused="damaged|" + _MISSING),
    Case("a sequence 5000 deep", bytes_of_first(_nested), refused="damaged|" + _MISSING),
    Case("pixels longer than the file", bytes_of_first(_length_beyond), same=True),
    Case("a deflated bomb", bytes_of_first(_deflated_bomb), refused="damaged|larger|deflated|" + _MISSING),
    Case("no pixels", without("PixelData"), refused="cut off|damaged"),
    Case("pixels of another size", set_to(Rows=50), refused="contradicts itself"),
    Case("huge rows and columns", set_to(Rows=65535, Columns=65535), refused="cut off"),
    Case("no rows", without("Rows"), refused="no image in it"),
    Case("rows of zero", set_to(Rows=0), refused="no image in it"),
    Case("multi-frame", set_to(NumberOfFrames=4), refused="multi-frame"),
    Case("colour", set_to(SamplesPerPixel=3, PhotometricInterpretation="RGB"), refused="colour"),
    Case("inverted grey values", set_to(PhotometricInterpretation="MONOCHROME1"), refused="inverted"),
    Case("zero pixel spacing", set_to(PixelSpacing=[0, 0]), refused="pixel spacing"),
    Case("negative pixel spacing", set_to(PixelSpacing=[-2, -2]), refused="pixel spacing"),
    Case("no positions", without("ImagePositionPatient"), refused="without a position"),
    Case("no orientation", without("ImageOrientationPatient"), refused="without a position"),
    Case("sheared axes in DICOM", changed(_tilted), refused="without a position"),
    Case("one slice tilted", changed(_turned, lambda z, t: z == 2), refused="do not fit together"),
    Case("one slice moved aside", changed(_moved, lambda z, t: z == 2), refused="shifted sideways"),
    Case("all slices at one place", changed(lambda d, z, t: setattr(d, "ImagePositionPatient", [0, 0, 0])),
         refused="same place|phases|missing|order"),
    Case("another matrix in some files", changed(lambda d, z, t: setattr(d, "Columns", 44), lambda z, t: z == 1),
         refused="fit together|missing|size|matrix"),
    Case("rescale slope of zero", set_to(RescaleSlope=0), same=True),
    Case("rescale slope beyond numbers", set_to(RescaleSlope="1E300"), refused="not finite"),
    Case("a compressed syntax without compression", bytes_of_first(_syntax(b"1.2.840.10008.1.2.5")),
         same=True),
    Case("an unknown transfer syntax", bytes_of_first(_syntax(b"1.2.840.10008.1.2.7")),
         refused="compressed|damaged|decoded"),
    Case("links that loop in a series", _loops, same=True),
    Case("a file that may not be read", lambda f: [series(f)], refused=_MISSING, around=_unreadable_file),
    Case("a folder that may not be read", lambda f: [series(f)], refused="cannot be read|Permission|permission",
         around=_unreadable_folder),
]  # fmt: skip
