"""NIfTI and NRRD files: broken, hostile, strange, and strange but right."""

from __future__ import annotations

import gzip
import math
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CardiacSegLib.study import Geometry
from CardiacSegLib.writers import write_cine
from trust.cases import Case, named, phantom, plain, study

#: Offsets in a NIfTI-1 header.
DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, UNITS, QFORM, SFORM, SROW = (
    40,
    70,
    72,
    76,
    108,
    112,
    123,
    252,
    254,
    280,
)


#: Neither quaternion nor matrix: the spacing alone.
_NO_FORMS = (QFORM, "2h", (0, 0))


def nifti(folder: Path, **fields: tuple[int, str, tuple]) -> list[Path]:
    """The phantom as an uncompressed NIfTI with some header fields overwritten: ``name=(offset, format, values)``."""
    path = folder / "cine.nii"
    write_cine(path, study())
    content = bytearray(path.read_bytes())
    for offset, kind, values in fields.values():
        struct.pack_into("<" + kind, content, offset, *values)
    path.write_bytes(content)
    return [path]


def image(folder: Path, array: np.ndarray, spacing: tuple[float, ...] | None = None, name: str = "cine.nii.gz",
          vector: bool = False) -> list[Path]:  # fmt: skip
    """An array, last axis x, on the phantom's spacing or another one, (x, y, z, …)."""
    made = sitk.GetImageFromArray(array, isVector=vector)
    made.SetSpacing(spacing or (2.5, 2.5, 18.0, 1.0)[: made.GetDimension()])
    sitk.WriteImage(made, str(folder / name), useCompression=True)
    return [folder / name]


def as_type(kind: type, scale: float = 1.0, name: str = "cine.nii.gz"):
    """The phantom's grey values in another type."""
    return lambda folder: image(folder, (study().image * scale).astype(kind), name=name)


def raw(name: str, content: bytes):
    """A file of these bytes."""

    def make(folder: Path) -> list[Path]:
        (folder / name).write_bytes(content)
        return [folder / name]

    return make


def cut(name: str, share: float):
    """The first part of a file."""

    def make(folder: Path) -> list[Path]:
        path = plain(folder, name)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        return [path]

    return make


def with_values(change, name: str = "cine.nii.gz"):
    """The phantom with a change of its voxels, in float32."""

    def make(folder: Path) -> list[Path]:
        values = study().image.astype(np.float32)
        return image(folder, change(values), name=name)

    return make


def _one(value: float):
    def change(values: np.ndarray) -> np.ndarray:
        values[0, 2, 10, 10] = value
        return values

    return change


def _nrrd(header: str, data: bytes = b"", name: str = "cine.nrrd"):
    return raw(name, ("NRRD0005\n" + header + "\n\n").encode() + data)


_BLOCK = np.arange(8 * 8 * 5, dtype="<i2").tobytes()
_SIMPLE = "type: short\ndimension: 3\nsizes: 8 8 5\nendian: little\n"


def _bomb(folder: Path) -> list[Path]:
    """A few hundred kilobytes that unpack to 256 MiB behind a header that promises little."""
    (path,) = nifti(folder)
    packed = path.with_suffix(".nii.gz")
    with gzip.open(packed, "wb", compresslevel=1) as stream:
        stream.write(path.read_bytes())
        for _ in range(256):
            stream.write(bytes(2**20))
    path.unlink()
    return [packed]


def _large_plane(folder: Path) -> list[Path]:
    """One slice of 4096 × 4096: the phantom's middle slice, every pixel repeated."""
    plane = np.kron(study().image[0, 2], np.ones((42, 46), np.int16))[:4096, :4096]
    whole = np.zeros((1, 4096, 4096), np.int16)
    whole[0, : plane.shape[0], : plane.shape[1]] = plane
    return image(folder, whole, (2.5 / 46, 2.5 / 42, 10.0))


def _sheared(folder: Path) -> list[Path]:
    rows = np.array([[2.5, 1.2, 0, 0], [0, 2.2, 0, 0], [0, 0, 18.0, 0]], float)
    return nifti(folder, q=(QFORM, "h", (0,)), s=(SFORM, "h", (1,)), rows=(SROW, "12f", tuple(rows.ravel())))


def _swapped(folder: Path) -> list[Path]:
    import nibabel

    array = np.moveaxis(study().image, (0, 1, 2, 3), (3, 2, 1, 0))
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, _ras(study().geometry), header), folder / "cine.nii.gz")
    return [folder / "cine.nii.gz"]


def _ras(geometry: Geometry) -> np.ndarray:
    """Voxel index (x, y, z) to RAS, as nibabel has it."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(geometry.direction) * geometry.spacing_xyz
    matrix[:3, 3] = geometry.origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def _second_version(folder: Path) -> list[Path]:
    import nibabel

    array = np.moveaxis(study().image, (0, 1, 2, 3), (3, 2, 1, 0))
    nibabel.save(nibabel.Nifti2Image(array, np.diag([2.5, 2.5, 18.0, 1.0])), folder / "cine.nii")
    return [folder / "cine.nii"]


def _label_map(folder: Path) -> list[Path]:
    return image(folder, np.stack([labels.data for labels in phantom().labels]))


def _pair(folder: Path, second: np.ndarray, spacing: tuple[float, ...] = (2.5, 2.5, 18.0)) -> list[Path]:
    return image(folder, study().image[0], name="ed.nii.gz") + image(folder, second, spacing, name="es.nii.gz")


def _noise(folder: Path) -> list[Path]:
    return image(folder, np.random.default_rng(0).integers(0, 255, study().image.shape).astype(np.uint8))


def _reversed_axes(folder: Path) -> list[Path]:
    """Negative steps in the header's rows, as radiological files have them."""
    rows = np.array([[-2.5, 0, 0, 90], [0, -2.5, 0, 90], [0, 0, 18.0, 0]], float)
    return nifti(folder, q=(QFORM, "h", (0,)), s=(SFORM, "h", (1,)), rows=(SROW, "12f", tuple(rows.ravel())))


def _slices_as_frames(folder: Path) -> list[Path]:
    """The slices of one frame along the fourth axis."""
    return image(folder, study().image[0][:, np.newaxis])


def _oblique(folder: Path) -> list[Path]:
    turn = math.radians(30)
    axes = ((math.cos(turn), -math.sin(turn), 0.0), (math.sin(turn), math.cos(turn), 0.0), (0.0, 0.0, 1.0))
    grid = Geometry(study().geometry.shape, study().spacing, (5.0, -7.0, 3.0), axes)
    write_cine(folder / "cine.nrrd", replace(study(), geometry=grid))
    return [folder / "cine.nrrd"]


def _special_file(folder: Path) -> list[Path]:
    os.mkfifo(folder / "cine.nii")
    return [folder / "cine.nii"]


def _dangling(folder: Path) -> list[Path]:
    (folder / "cine.nii.gz").symlink_to(folder / "nowhere.nii.gz")
    return [folder / "cine.nii.gz"]


def _looping(folder: Path) -> list[Path]:
    (folder / "cine.nii.gz").symlink_to(folder / "cine.nii.gz")
    return [folder / "cine.nii.gz"]


CASES: list[Case] = [
    Case("a 4D NIfTI", lambda folder: [plain(folder)], same=True),
    Case("a 4D NRRD", lambda folder: [plain(folder, "cine.nrrd")], same=True),
    Case("an oblique NRRD", _oblique, same=True),
    Case("empty NIfTI", raw("cine.nii.gz", b""), refused="empty"),
    Case("empty NRRD", raw("cine.nrrd", b""), refused="empty"),
    Case("cut off NIfTI", cut("cine.nii", 0.6), refused="cut off"),
    Case("cut off packed NIfTI", cut("cine.nii.gz", 0.6), refused="cut off"),
    Case("cut off NRRD", cut("cine.nrrd", 0.6), refused="cut off"),
    Case("a header alone", cut("cine.nii", 0.002), refused="cannot be read|cut off"),
    Case("text called NIfTI", raw("cine.nii", b"These are the results.\n" * 50), refused="cannot be read"),
    Case("text called NRRD", raw("cine.nrrd", b"These are the results.\n" * 50), refused="cannot be read"),
    Case("text in a packed NIfTI", raw("cine.nii.gz", gzip.compress(b"x" * 900)), refused="cannot be read|cut off"),
    Case("a file packed twice", lambda f: raw("cine.nii.gz", gzip.compress(plain(f, "a.nii.gz").read_bytes()))(f),
         refused="cannot be read"),
    Case("zeros called NIfTI", raw("cine.nii", bytes(2000)), refused="cannot be read"),
    Case("a picture called NIfTI", raw("cine.nii", b"\x89PNG\r\n\x1a\n" + bytes(600)), refused="cannot be read"),
    Case("a missing file", lambda folder: [folder / "absent.nii.gz"], refused="no file or folder"),
    Case("NaN", with_values(_one(np.nan)), refused="not finite"),
    Case("infinity", with_values(_one(np.inf)), refused="not finite"),
    Case("NaN in a NRRD", with_values(_one(np.nan), "cine.nrrd"), refused="not finite"),
    Case("a voxel of 1e30", with_values(_one(1e30)), same=True),
    Case("constant", with_values(np.zeros_like), warned="constant"),
    Case("inverted contrast", with_values(lambda v: v.max() - v), warned="(?i)invert|not found|could not be found"),
    Case("noise", _noise, warned="not found|could not be found|plausible|missing"),
    Case("a label map", _label_map, warned="label map"),
    Case("negative values", with_values(lambda v: v - 5000), same=True),
    Case("float64", as_type(np.float64, 1e-6), same=True),
    Case("64-bit integers", as_type(np.int64, 1000.0), same=True),
    Case("unsigned 8-bit", with_values(lambda v: (v / v.max() * 255).astype(np.uint8)), same=True),
    Case("complex", lambda f: image(f, study().image.astype(np.complex64)), refused="complex|grey value|real numbers"),
    Case("one slice", lambda f: image(f, study().image[:, 2:3]), warned="only one slice"),
    Case("200 slices", lambda f: image(f, np.repeat(study().image[:1], 40, axis=1), (2.5, 2.5, 8.0, 1.0)),
         warned="stack is 1600 mm long", quick=True),
    Case("1 x 1 pixel", lambda f: image(f, study().image[:, :, 40:41, 40:41]), warned="could not be found",
         quick=True),
    Case("4096 x 4096 pixels", _large_plane, warned="only one slice", quick=True),
    Case("two dimensions", lambda f: image(f, study().image[0, 2]), refused="2 dimensions|dimension"),
    Case("five dimensions", lambda f: nifti(f, dim=(DIM, "8h", (5, 88, 96, 5, 1, 2, 1, 1))),
         refused="dimension|values per voxel"),
    Case("vectors of a fifth dimension with a slope",  # overflows a buffer in ITK
         lambda f: nifti(f, d=(DIM, "8h", (5, 8, 5, 2, 1, 8, 1, 1)), s=(SLOPE, "f", (1.0078,))),
         refused="5 dimensions"),
    Case("bits that are not those of the type", lambda f: nifti(f, b=(BITPIX, "h", (8,))),
         refused="type of the voxels"),
    Case("nine dimensions", lambda f: nifti(f, dim=(DIM, "h", (9,))), refused="damaged NIfTI header"),
    Case("slices stored as frames", _slices_as_frames, warned="one slice"),
    Case("RGB", lambda f: image(f, np.stack([study().image[0].astype(np.uint8)] * 3, -1), vector=True),
         refused="values per voxel|5 dimensions"),
    Case("RGB in a NRRD", lambda f: image(f, np.stack([study().image[0].astype(np.uint8)] * 3, -1),
                                          name="cine.nrrd", vector=True), refused="values per voxel|5 dimensions"),
    Case("negative spacing", lambda f: nifti(f, pixdim=(PIXDIM + 4, "3f", (-2.5, -2.5, -18.0))),
         refused="negative voxel spacing"),
    Case("zero spacing", lambda f: nifti(f, pixdim=(PIXDIM + 4, "3f", (0.0, 0.0, 0.0)), q=_NO_FORMS),
         warned="spacing|smaller than"),
    Case("spacing that is no number", lambda f: nifti(f, p=(PIXDIM + 4, "f", (np.nan,)), q=_NO_FORMS),
         refused="spacing that is no number"),
    Case("spacing of a metre", lambda f: nifti(f, pixdim=(PIXDIM + 4, "2f", (1000.0, 1000.0)), q=_NO_FORMS),
         refused="wrong", library=False),
    Case("spacing of a micrometre", lambda f: nifti(f, p=(PIXDIM + 4, "3f", (1e-3, 1e-3, 1e-3)), q=_NO_FORMS),
         warned="spacing"),
    Case("metres as unit", lambda f: nifti(f, pixdim=(PIXDIM + 4, "3f", (0.0025, 0.0025, 0.018)), q=_NO_FORMS,
                                           units=(UNITS, "b", (1,))), same=True),
    Case("sheared axes", _sheared, refused="right angles|cannot be read|orthonormal"),
    Case("reversed axes", _reversed_axes, same=True),
    Case("rows of zeros", lambda f: nifti(f, q=(QFORM, "h", (0,)), s=(SFORM, "h", (1,)), r=(SROW, "12f", (0.0,) * 12)),
         refused="orthonormal|right angles"),
    Case("rows of NaN", lambda f: nifti(f, q=(QFORM, "h", (0,)), s=(SFORM, "h", (1,)), r=(SROW, "12f", (np.nan,) * 12)),
         refused="axes that are no numbers"),
    Case("a turn that is no number", lambda f: nifti(f, q=(QFORM + 4, "f", (np.nan,))),
         refused="axes that are no numbers"),
    Case("a matrix of huge numbers", lambda f: nifti(f, s=(SFORM, "h", (1,)), r=(SROW, "12f", (3e38,) * 12)),
         refused="axes that are no numbers"),
    Case("slope of zero", lambda f: nifti(f, slope=(SLOPE, "2f", (0.0, 0.0))), same=True),
    Case("slope that is no number", lambda f: nifti(f, slope=(SLOPE, "2f", (np.nan, 0.0))), same=True),
    Case("huge size in the header", lambda f: nifti(f, dim=(DIM, "8h", (4, 32000, 32000, 500, 30, 1, 1, 1))),
         refused="GiB"),
    Case("size of zero", lambda f: nifti(f, dim=(DIM, "8h", (4, 0, 96, 5, 2, 1, 1, 1))), refused="damaged"),
    Case("negative size", lambda f: nifti(f, dim=(DIM, "8h", (4, -88, 96, 5, 2, 1, 1, 1))), refused="damaged"),
    Case("unknown type", lambda f: nifti(f, kind=(DATATYPE, "h", (999,))), refused="type of the voxels"),
    Case("voxels before the file", lambda f: nifti(f, offset=(VOX_OFFSET, "f", (-5000.0,))), refused="damaged"),
    Case("voxels behind the file", lambda f: nifti(f, offset=(VOX_OFFSET, "f", (1e9,))), refused="cut off"),
    Case("a packed bomb", _bomb, refused="larger than its header says"),
    Case("other byte order", _swapped, same=True),
    Case("NIfTI-2", _second_version, refused="version 2 of NIfTI"),
    Case("NRRD of another file's voxels", _nrrd("type: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
                                                "data file: /etc/passwd"), refused="another file"),
    Case("NRRD of a list of files", _nrrd("type: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
                                          "datafile: LIST\n/etc/passwd"), refused="another file"),
    Case("NRRD of huge size", _nrrd("type: short\ndimension: 3\nsizes: 90000 90000 90000\nencoding: raw"),
         refused="GiB"),
    Case("NRRD of unknown encoding", _nrrd(_SIMPLE + "encoding: zstd", _BLOCK), refused="cannot be read"),
    Case("NRRD of unknown type", _nrrd("type: quaternion\ndimension: 3\nsizes: 8 8 5\nencoding: raw", _BLOCK),
         refused="cannot be read"),
    Case("NRRD without spacing", _nrrd(_SIMPLE + "encoding: raw", _BLOCK), warned="spacing|smaller|slice distance"),
    Case("NRRD with axes of zero", _nrrd(_SIMPLE + "encoding: raw\nspace: left-posterior-superior\n"
                                         "space directions: (0,0,0) (0,0,0) (0,0,0)", _BLOCK),
         refused="cannot be read|right angles|spacing"),
    Case("NRRD with one axis twice", _nrrd(_SIMPLE + "encoding: raw\nspace: left-posterior-superior\n"
                                           "space directions: (2,0,0) (2,0,0) (0,0,9)", _BLOCK),
         refused="cannot be read|right angles"),
    Case("NRRD with a secret in its header", _nrrd(_SIMPLE + "encoding: raw\nspace directions: SECRETWORD", _BLOCK),
         refused="cannot be read"),
    Case("a pair on different grids", lambda f: _pair(f, study().image[1], (2.4, 2.5, 18.0)),
         refused="different grids"),
    Case("a pair of different sizes", lambda f: _pair(f, study().image[1][:, :50]), refused="different grids"),
    Case("a pair with a cine", lambda f: [*image(f, study().image[0], name="ed.nii.gz"), plain(f)],
         refused="one frame"),
    Case("three files", lambda f: [plain(f), plain(f, "b.nii.gz"), plain(f, "c.nii.gz")], refused="one study",
         library=False),
    Case("a frame that is not there", lambda f: [plain(f)], refused="no frame 9", options=("--ed", "9"), library=False),
    Case("a special file", _special_file, refused="empty|no kind"),
    Case("a link to nowhere", _dangling, refused="no file or folder"),
    Case("a link to itself", _looping, refused="no file or folder|symbolic links"),
]  # fmt: skip
__all__ = ["CASES", "named"]
