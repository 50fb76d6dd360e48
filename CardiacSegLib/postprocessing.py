"""What follows a network: one heart, and in it one piece per structure."""

from __future__ import annotations

import numpy as np

from CardiacSegLib.study import STRUCTURES


def largest_components(labels: np.ndarray) -> np.ndarray:
    """Keep the largest piece of a label volume ``(z, y, x)``, and in it the largest piece of every structure.

    The heart comes first: where the RV is small, a false RV far away (the stomach, say) can be the larger one.
    Voxels that touch by a corner are connected (26-neighbourhood).

    Returns:
        uint8 array of the same shape; what is not kept is background.
    """
    heart = _largest_piece(labels > 0)
    result = np.zeros(labels.shape, np.uint8)
    for label in STRUCTURES:
        result[_largest_piece(heart & (labels == int(label)))] = int(label)
    return result


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask, as a mask."""
    from scipy import ndimage

    kept = np.zeros(mask.shape, bool)
    (box,) = ndimage.find_objects(mask.view(np.uint8)) or (None,)
    if box is None:
        return kept
    pieces, count = ndimage.label(mask[box], np.ones((3, 3, 3), bool))
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        kept[box] = pieces == sizes.argmax()
    else:
        kept[box] = mask[box]
    return kept


def labels_from_probabilities(probabilities: np.ndarray, largest_component: bool) -> np.ndarray:
    """The likeliest class of every voxel of ``(class, z, y, x)``, as uint8 ``(z, y, x)``."""
    labels = probabilities.argmax(axis=0).astype(np.uint8)
    return largest_components(labels) if largest_component else labels
