"""What follows a network: one piece per structure."""

from __future__ import annotations

import numpy as np

from CardiacSegLib.study import STRUCTURES, Label


def largest_components(labels: np.ndarray) -> np.ndarray:
    """Keep the largest connected piece of every structure of a label volume ``(z, y, x)``; the rest becomes background.

    Voxels that touch by a corner are connected (26-neighbourhood).

    Returns:
        uint8 array of the same shape.
    """
    from scipy import ndimage

    result = np.zeros(labels.shape, np.uint8)
    for label in STRUCTURES:
        mask = labels == int(label)
        box = _bounding_box(mask)
        if box is None:
            continue
        pieces, count = ndimage.label(mask[box], np.ones((3, 3, 3), bool))
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            kept = pieces == sizes.argmax()
        else:
            kept = pieces > 0
        result[box][kept] = int(label)
    return result


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    if not mask.any():
        return None
    spans = [
        np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)
    ]
    return tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans)


def labels_from_probabilities(probabilities: np.ndarray, largest_component: bool) -> np.ndarray:
    """The likeliest class of every voxel of ``(class, z, y, x)``, as uint8 ``(z, y, x)``."""
    labels = probabilities.argmax(axis=0).astype(np.uint8)
    assert probabilities.shape[0] == len(Label)
    return largest_components(labels) if largest_component else labels
