"""One order of axes for every stack, however its file stores them, and the exact way back to the file's own.

A network sees arrays, and is not indifferent to how they are turned. So every reader brings its stack into the order
in which scanners show a short axis: *z* through the stack, towards the base of a usual heart; *y* along the in-plane
axis that is nearest to the feet; *x* to the left of the patient and his back, so that the three are right-handed. The
order depends on where the voxels lie, never on how they are stored. A file that has lost its orientation (all axes
those of the patient) stays as it is where they are DICOM's, as in ACDC; where they are others, such as NIfTI's own, it
is turned as its header says, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from CardiacSegLib.study import CineStudy, Geometry, LabelMap

#: LPS direction from apex to base of a usual heart.
_TO_BASE = np.array([-0.65, 0.66, 0.38])

#: Down, and in a transverse plane, where nothing points down, to the back.
_TO_FEET = np.array([0.0, 0.2, -1.0])

# Two in-plane axes are equally near to the feet where their cosines differ by less.
_TIE = 1e-3

#: Slices this many times farther apart than pixels tell which axis is theirs.
_CLEAR_SPACING = 1.5
_CLEAR_COUNT = 0.75

_ORDINAL = ("third", "second", "first")


@dataclass(frozen=True)
class StoredGrid:
    """How a file stores a stack whose array was put into the library's order.

    Attributes:
        geometry: the grid as stored.
        axes: for each of the library's array axes (z, y, x) the array axis (0 to 2) of the file.
        flips: for each of them, whether the file runs the other way.
    """

    geometry: Geometry
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def from_stored(self, array: np.ndarray) -> np.ndarray:
        """The file's array ``(…, 3 axes as stored)`` as ``(…, z, y, x)``; contiguous, of the same dtype."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.ascontiguousarray(np.flip(turned, self._flipped(lead)))

    def to_stored(self, array: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`from_stored`."""
        lead = array.ndim - 3
        back = (lead + self.axes.index(axis) for axis in range(3))
        return np.ascontiguousarray(np.flip(array, self._flipped(lead)).transpose(*range(lead), *back))

    def labels_to_stored(self, labels: LabelMap) -> LabelMap:
        """A label map on the library's grid as the file would store it."""
        return LabelMap(self.to_stored(labels.data), self.geometry)

    def slice_to_stored(self, index: int) -> int:
        """Index (from 0) of a slice of the library's order along the file's own axis."""
        return self.geometry.shape[self.axes[0]] - 1 - index if self.flips[0] else index

    def _flipped(self, lead: int) -> tuple[int, ...]:
        return tuple(lead + k for k, flip in enumerate(self.flips) if flip)

    @property
    def turned(self) -> Geometry:
        """The same voxels' grid in the library's order."""
        stored = self.geometry
        if self.axes == (0, 1, 2) and not any(self.flips):
            return stored
        direction, corner = np.asarray(stored.direction, float), np.zeros(3)
        columns = []
        for axis, flip in zip(self.axes, self.flips):
            column = direction[:, 2 - axis]
            columns.append(-column if flip else column)
            corner[axis] = stored.shape[axis] - 1 if flip else 0
        turned = np.stack(columns[::-1], axis=1) + 0.0  # no −0.0
        z, y, x = self.axes
        return Geometry(
            shape=(stored.shape[z], stored.shape[y], stored.shape[x]),
            spacing=(stored.spacing[z], stored.spacing[y], stored.spacing[x]),
            origin=tuple(float(v) + 0.0 for v in stored.to_lps(corner)),  # type: ignore[arg-type]
            direction=tuple(tuple(float(v) for v in row) for row in turned),  # type: ignore[misc]
        )


def slice_axis(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[int, str | None]:
    """Which array axis runs through the stack, and a sentence where that is a guess.

    It is the axis with a single voxel; else the one whose spacing (mm) is 1.5 times the next or more; else, as a
    guess, the one with the fewest voxels by a quarter; else, as a guess, the file's third axis.

    Args:
        shape, spacing: in the array's order; axis 0 is the file's third.
    """
    flat = [axis for axis in range(3) if shape[axis] == 1]
    if len(flat) == 1:
        return flat[0], None
    by_spacing = sorted(range(3), key=lambda axis: -spacing[axis])
    if spacing[by_spacing[0]] >= _CLEAR_SPACING * spacing[by_spacing[1]]:
        return by_spacing[0], None
    by_count = sorted(range(3), key=lambda axis: shape[axis])
    if shape[by_count[0]] <= _CLEAR_COUNT * shape[by_count[1]]:
        axis, why = by_count[0], "it has the fewest voxels"
    else:
        axis, why = 0, "no other stands out"
    return axis, (
        f"The spacing does not tell along which axis the slices lie; the {_ORDINAL[axis]} was taken, because {why}. "
        "If that is wrong, so are the contours."
    )


def orientation_is_lost(geometry: Geometry) -> bool:
    """Whether the axes are the patient's own: no short-axis stack lies so, its file has lost where it lay."""
    return bool(np.allclose(np.abs(np.asarray(geometry.direction, float)), np.eye(3), atol=1e-3))


def ordered(study: CineStudy, through: int | None = None) -> CineStudy:
    """A study as its input stores it, in the library's order of axes; ``through`` as for :func:`stored_grid`."""
    grid, said = stored_grid(study.geometry, through)
    turned = replace(study, image=grid.from_stored(study.image), geometry=grid.turned, stored=grid)
    return turned.with_warnings(*said)


def in_file_order(study: CineStudy) -> CineStudy:
    """A study that was read, its axes again as the file has them, if the file's third axis runs through the stack."""
    stored = study.stored
    if stored is None or stored.axes[0] != 0:
        return study
    return replace(study, image=stored.to_stored(study.image), geometry=stored.geometry, stored=None)


def stored_grid(geometry: Geometry, through: int | None = None) -> tuple[StoredGrid, tuple[str, ...]]:
    """The way from a stored grid to the library's order of axes, and what is to be said of it.

    Args:
        geometry: of the array as stored.
        through: the array axis that runs through the stack, where it is known; else see :func:`slice_axis`.
    """
    guess = None
    if through is None:
        through, guess = slice_axis(geometry.shape, geometry.spacing)
    direction = np.asarray(geometry.direction, float)
    normal = direction[:, 2 - through]
    flip_z = bool(normal @ _TO_BASE < 0)
    z = -normal if flip_z else normal
    feet = _TO_FEET - (_TO_FEET @ z) * z
    feet /= np.linalg.norm(feet)
    across = np.cross(feet, z)
    planar = [axis for axis in range(3) if axis != through]
    candidates = [
        (sign * direction[:, 2 - axis], axis, other, sign)
        for axis, other in (planar, planar[::-1])
        for sign in (1.0, -1.0)
    ]
    nearest = max(float(y @ feet) for y, *_ in candidates)
    near = [c for c in candidates if float(c[0] @ feet) > nearest - _TIE]
    y, axis_y, axis_x, sign = max(near, key=lambda c: float(c[0] @ across))
    flip_x = bool(np.cross(y, z) @ direction[:, 2 - axis_x] < 0)
    said = [guess] if guess else []
    if orientation_is_lost(geometry) and (sign < 0 or flip_x):
        said.append(
            "The file has lost the orientation of its slices, and its header turns or mirrors them in the plane; they "
            "were read so. If they are then shown upside down or mirrored, give the file the axes of its scanner."
        )
    if through != 0:
        said.append(
            f"The file stores its slices along its {_ORDINAL[through]} axis; they were put into the order of a stack."
        )
    return StoredGrid(geometry, (through, axis_y, axis_x), (flip_z, sign < 0, flip_x)), tuple(said)
