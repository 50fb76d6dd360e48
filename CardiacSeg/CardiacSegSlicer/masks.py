"""The masks of a cine at one moment beside what the network gave: read from the scene once, for everything shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from CardiacSegLib.study import STRUCTURES, Label, LabelMap


class Masks(NamedTuple):
    """All masks of a cine as they were when they were read.

    Attributes:
        labels: by frame index (from 0).
        automatic: what the network gave, ``(z, y, x)`` in :class:`Label` numbers by frame index; frames whose copy is
            not in the scene are left out.
    """

    labels: Mapping[int, LabelMap]
    automatic: Mapping[int, np.ndarray]

    def corrected(self, index: int) -> set[Label] | None:
        """Structures of a frame whose voxels are no longer what the network gave; None where that is not known."""
        now, before = self.labels[index].data, self.automatic.get(index)
        if before is None:
            return None
        changed = now != before
        if not changed.any():
            return set()
        found = {*np.unique(now[changed]).tolist(), *np.unique(before[changed]).tolist()}
        return {structure for structure in STRUCTURES if structure in found}

    def correctedFrames(self) -> list[int]:
        """Frame numbers (from 1) whose masks are not what the network gave, or of which that is not known."""
        return [index + 1 for index in sorted(self.labels) if self.corrected(index) != set()]
