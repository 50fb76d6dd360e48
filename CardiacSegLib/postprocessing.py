"""What follows a network: one heart, and in it one piece per structure."""

from __future__ import annotations

import numpy as np

from CardiacSegLib.study import STRUCTURES, Label


def largest_components(labels: np.ndarray) -> np.ndarray:
    """Keep the largest piece of a label volume ``(z, y, x)``, and in it the largest piece of every structure.

    The heart comes first: where the RV is small, a false RV far away (the stomach, say) can be the larger one.
    Voxels that touch by a corner are connected (26-neighbourhood).

    Returns:
        uint8 array of the same shape; what is not kept is background.
    """
    from scipy import ndimage

    result = np.zeros(labels.shape, np.uint8)
    (box,) = ndimage.find_objects((labels > 0).view(np.uint8)) or (None,)
    if box is None:
        return result
    inner, kept = labels[box], result[box]
    heart = largest_piece(inner > 0)
    for label in STRUCTURES:
        kept[largest_piece(heart & (inner == int(label)))] = int(label)
    return result


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask of any number of axes, as a mask; what touches by a corner is connected."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax()


def without_holes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Label volume ``(z, y, x)`` whose sections have no holes: neither those of the RV, nor of the LV with its wall.

    A hole in the RV becomes RV; of one in the LV each voxel becomes cavity or wall, whichever is likelier. What is
    enclosed belongs to the ventricle, also where another structure's piece lay and was dropped.

    Args:
        labels: uint8; changed in place and returned.
        probabilities: ``(class, z, y, x)``.
    """
    cavity = probabilities[int(Label.LV)] >= probabilities[int(Label.MYO)]
    for z in _sections_with_holes(labels):
        section = labels[z]
        section[_holes(section, Label.RV)] = int(Label.RV)
        holes = _holes(section, Label.LV, Label.MYO)
        section[holes] = np.where(cavity[z][holes], int(Label.LV), int(Label.MYO))
    return labels


def _sections_with_holes(labels: np.ndarray) -> np.ndarray:
    """Indexes of the sections whose background is in more than one piece: few are, and one look finds them all."""
    from scipy import ndimage

    (box,) = ndimage.find_objects((labels > 0).view(np.uint8)) or (None,)
    if box is None:
        return np.array([], int)
    outside = np.pad(labels[box] == 0, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    pieces, _count = ndimage.label(outside, in_plane)
    around = pieces[:, :1, :1]
    return np.flatnonzero((outside & (pieces != around)).any(axis=(1, 2))) + box[0].start


def _holes(section: np.ndarray, *structures: Label) -> np.ndarray:
    """Background of a section ``(y, x)`` that structures enclose together, as a mask."""
    from scipy.ndimage import binary_fill_holes

    return binary_fill_holes(np.isin(section, structures)) & (section == 0)


def labels_from_probabilities(probabilities: np.ndarray, largest_component: bool) -> np.ndarray:
    """The likeliest class of every voxel of ``(class, z, y, x)``, as uint8 ``(z, y, x)``.

    ``largest_component``: the largest piece of each structure, and no holes in a section.
    """
    labels = _likeliest(probabilities)
    return without_holes(largest_components(labels), probabilities) if largest_component else labels


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    """``argmax`` over the first axis, the first of equals: five times as fast for so few classes."""
    labels, highest = np.zeros(probabilities.shape[1:], np.uint8), probabilities[0].copy()
    for number, one in enumerate(probabilities[1:], 1):
        labels[one > highest] = number
        np.maximum(highest, one, out=highest)
    return labels
