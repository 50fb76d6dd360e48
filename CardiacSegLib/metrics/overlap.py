"""Overlap and surface distance of two masks, in 3D and in mm.

Masks are boolean ``(z, y, x)`` on one grid, ``spacing`` is ``(z, y, x)`` in mm. The definitions are MedPy's
(0.5, ``dc``, ``hd``, ``hd95``, ``assd``), which most published figures use:

- the *surface* of a mask is the mask without its erosion by the 6-neighbourhood; a voxel at the edge of the
  array is surface;
- every surface voxel of one mask has a distance to the nearest surface voxel of the other, and both
  directions count.

SimpleITK's ``HausdorffDistanceImageFilter`` measures from *all* voxels of one mask to the other *mask*: it
gives 0 for a voxel inside the other mask, so it is the smaller of the two where one mask lies inside the
other. Fed with the two surfaces it gives the Hausdorff distance of this module.

An absent structure: absent from both masks is agreement, Dice 1 and distances 0; absent from one of them is
Dice 0 and distances NaN, since no finite figure would be true. Means leave NaN out and say how many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.study import STRUCTURES, Label, LabelMap

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class StructureScore:
    """One structure of one frame, predicted against true: Dice (0 to 1), distances in mm, volumes in mL."""

    dice: float
    hausdorff_mm: float
    hausdorff95_mm: float
    mean_surface_mm: float
    pred_ml: float
    truth_ml: float


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient 2|A∩B| / (|A|+|B|) of two masks of equal shape; 1 where both are empty.

    Raises:
        StudyError: the shapes differ.
    """
    a, b = _masks(a, b)
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else 1.0


def surface_distances(a: np.ndarray, b: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm between the surfaces of two masks, in both directions.

    Args:
        a, b: masks ``(z, y, x)`` of equal shape.
        spacing: ``(z, y, x)`` in mm.

    Returns:
        For every surface voxel of ``a`` its distance to the surface of ``b``, and the other way round. Both
        arrays are ``[0.0]`` where both masks are empty, and ``[nan]`` where one is.

    Raises:
        StudyError: the shapes differ or are not 3D.
    """
    from scipy.ndimage import distance_transform_edt, find_objects

    a, b = _masks(a, b)
    if a.ndim != 3:
        raise StudyError(f"Distances are measured between volumes (z, y, x); these masks have shape {a.shape}.")
    if not (a.any() and b.any()):
        value = np.nan if a.any() or b.any() else 0.0
        return np.array([value]), np.array([value])
    # Nothing outside of the smallest box around both changes a distance between their surfaces.
    (box,) = find_objects((a | b).view(np.uint8))
    surface_a, surface_b = _surface(a[box]), _surface(b[box])
    to_b = distance_transform_edt(~surface_b, sampling=spacing)
    to_a = distance_transform_edt(~surface_a, sampling=spacing)
    return to_b[surface_a], to_a[surface_b]


def hausdorff_mm(a: np.ndarray, b: np.ndarray, spacing: Spacing) -> float:
    """Hausdorff distance in mm: the largest of :func:`surface_distances`, both directions."""
    return float(np.concatenate(surface_distances(a, b, spacing)).max())


def hausdorff95_mm(a: np.ndarray, b: np.ndarray, spacing: Spacing) -> float:
    """95 % Hausdorff distance in mm: the 95th percentile of :func:`surface_distances`, both directions pooled."""
    return float(np.percentile(np.concatenate(surface_distances(a, b, spacing)), 95))


def mean_surface_distance_mm(a: np.ndarray, b: np.ndarray, spacing: Spacing) -> float:
    """Average symmetric surface distance in mm: the mean of :func:`surface_distances`, both directions pooled.

    Each surface voxel counts once (MedPy 0.5; before, MedPy averaged the means of the two directions).
    """
    return float(np.concatenate(surface_distances(a, b, spacing)).mean())


def compare_labels(pred: LabelMap, truth: LabelMap) -> dict[Label, StructureScore]:
    """Score every structure of a predicted label map against the true one.

    Raises:
        StudyError: the two lie on different grids.
    """
    if not pred.geometry.matches(truth.geometry):
        raise StudyError(
            "The predicted and the true label map lie on different grids "
            f"({describe_grid(pred)} and {describe_grid(truth)}). Resample the prediction to the image's grid first."
        )
    spacing = truth.geometry.spacing
    scores = {}
    for label in STRUCTURES:
        a, b = pred.mask(label), truth.mask(label)
        distances = np.concatenate(surface_distances(a, b, spacing))
        scores[label] = StructureScore(
            dice=dice(a, b),
            hausdorff_mm=float(distances.max()),
            hausdorff95_mm=float(np.percentile(distances, 95)),
            mean_surface_mm=float(distances.mean()),
            pred_ml=pred.volume_ml(label),
            truth_ml=truth.volume_ml(label),
        )
    return scores


def describe_grid(labels: LabelMap) -> str:
    """Shape, spacing and origin of a label map, for messages."""
    grid = labels.geometry
    shape = " × ".join(map(str, grid.shape))
    spacing = " × ".join(f"{s:.2f}" for s in grid.spacing)
    origin = ", ".join(f"{o:.1f}" for o in grid.origin)
    return f"{shape} voxels of {spacing} mm (z, y, x) from ({origin})"


def _masks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape:
        raise StudyError(f"Two masks of different shapes cannot be compared: {a.shape} and {b.shape}.")
    return a, b


def _surface(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)
