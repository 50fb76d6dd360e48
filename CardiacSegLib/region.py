"""Where in a field of view the heart lies: a coarse pass of a very small network, so that the large one reads less.

The finder is generous: whatever it takes for heart in any slice counts, with a margin around it. Where it finds
nothing, or the heart that is segmented afterwards comes near the region's edge, the whole field is read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from CardiacSegLib.errors import ModelError
from CardiacSegLib.models import find_finder, load_model
from CardiacSegLib.preprocessing import POOLING_MULTIPLE, NetworkGrid, make_grid

if TYPE_CHECKING:
    from CardiacSegLib.models import TrainedModel

#: Rows and columns of a region on a network's grid.
Region = tuple[slice, slice]

MARGIN_MM = 30.0
#: From this probability on a pixel of the coarse grid may be heart.
HEART_PROBABILITY = 0.3
#: Fewer pixels than this, over all slices, are no heart. A child's in a thin stack has hundreds.
FEWEST_PIXELS = 30
#: A field no larger than this is read whole: a region saves little there, and where an image was cut close to the heart
#: the finder misses the surroundings that it knows a heart by.
SMALL_FIELD_MM2 = 240.0**2
#: So is one of which the region is more than this share.
LARGEST_SHARE = 0.5
#: Of the slices every second is looked at, and the last: a heart is the widest in the middle of a stack.
STRIDE = 2
#: A segmented heart that comes this near to the edge may go on beyond it.
EDGE_PIXELS = 3


class HeartFinder:
    """Finds the region of the heart in frames.

    Args:
        model: the finder's own; ``None`` for the one that came with the library.
        device: where it runs.

    Raises:
        ModelError: the model cannot be read, or is none of a 2D network.
    """

    def __init__(self, device: torch.device, model: TrainedModel | None = None) -> None:
        from CardiacSegLib.inference import compiled_for

        model = model or load_model(find_finder())
        if model.preset.network.dims != 2:
            raise ModelError(f"'{model.name}' is not a 2D network: it cannot find the heart.")
        self.preprocessing, self.device = model.preset.preprocessing, device
        self.network = compiled_for(model.build(), device)

    def find(self, values: np.ndarray, spacing: tuple[float, float, float], grid: NetworkGrid) -> Region | None:
        """The part of ``grid`` that holds the heart, ``None`` for all of it.

        Args:
            values: grey values of the frame ``(z, y, x)`` in [0, 1].
            spacing: of the frame, ``(z, y, x)`` in mm.
            grid: the grid of the network that will read the frame.
        """
        from CardiacSegLib.inference import predict_volume

        if math.prod(axis.out_size * axis.out_step for axis in grid.axes[1:]) <= SMALL_FIELD_MM2:
            return None
        shape = (values.shape[0], values.shape[1], values.shape[2])
        coarse = make_grid(shape, spacing, self.preprocessing)
        volume = coarse.greys_to_network(values)
        found = predict_volume(self.network, torch.from_numpy(volume), self.device, slices=_looked_at(len(volume)))
        heart = (1.0 - found[0] > HEART_PROBABILITY).cpu().numpy()
        if np.count_nonzero(heart) < FEWEST_PIXELS:
            return None
        rows, columns = np.flatnonzero(heart.any(axis=(0, 2))), np.flatnonzero(heart.any(axis=(0, 1)))
        region = _on_grid(rows, coarse, grid, axis=1), _on_grid(columns, coarse, grid, axis=2)
        share = math.prod(part.stop - part.start for part in region) / math.prod(grid.shape[1:])
        return region if share <= LARGEST_SHARE else None


def _looked_at(depth: int) -> list[int]:
    return sorted({*range(0, depth, STRIDE), depth - 1})


def _on_grid(found: np.ndarray, coarse: NetworkGrid, grid: NetworkGrid, axis: int) -> slice:
    """The samples of a grid's axis around those found on the coarse one: both have their middle in common."""
    (coarse_size, coarse_step), (size, step) = ((g.axes[axis].out_size, g.axes[axis].out_step) for g in (coarse, grid))
    low, high = ((edge - coarse_size / 2.0) * coarse_step / step + size / 2.0 for edge in (found[0], found[-1] + 1))
    margin = MARGIN_MM / step
    wanted = POOLING_MULTIPLE * math.ceil((high - low + 2 * margin) / POOLING_MULTIPLE)
    start = round((low + high - wanted) / 2.0)
    start = max(0, min(start, size - wanted))
    return slice(start, min(start + wanted, size))


def touches_edge(labels: np.ndarray, region: Region, grid: NetworkGrid) -> bool:
    """Whether anything in the labels ``(z, y, x)`` of a region comes near an edge beyond which the field goes on."""
    band = EDGE_PIXELS
    for axis, part in zip((1, 2), region):
        lines = np.asarray(labels.any(axis=tuple(a for a in range(3) if a != axis)))
        if (part.start > 0 and lines[:band].any()) or (part.stop < grid.shape[axis] and lines[-band:].any()):
            return True
    return False
