"""Label maps of simple hearts whose volumes are known."""

from __future__ import annotations

import numpy as np

from CardiacSegLib.study import Geometry, Label, LabelMap

GEOMETRY = Geometry((5, 60, 60), (10.0, 5.0, 5.0))  # 0.25 mL a voxel
MAX_EDGE = 59
# Share of each slice in the volume: from the base to the apex, which is small.
_TAPER = np.array([0.26, 0.24, 0.22, 0.18, 0.10])


def heart(lv=100, rv=90, myo=100, taper=_TAPER):
    """A label map with so many mL of each structure: discs of LV in rings of myocardium, the RV beside them."""
    data = np.zeros(GEOMETRY.shape, np.uint8)
    y, x = np.mgrid[: GEOMETRY.shape[1], : GEOMETRY.shape[2]]
    from_lv = np.argsort(np.hypot(y - 30.2, x - 38.1), axis=None, kind="stable")
    from_rv = np.argsort(np.hypot(y - 30.2, x - 16.1), axis=None, kind="stable")
    counts = {}
    for label, ml in ((Label.LV, lv), (Label.RV, rv), (Label.MYO, myo)):
        ends = np.rint(np.cumsum([0, *taper]) * ml / GEOMETRY.voxel_ml).astype(int)
        counts[label] = np.diff(ends)
    for z, plane in enumerate(data):
        cavity, wall = counts[Label.LV][z], counts[Label.MYO][z]
        plane.reshape(-1)[from_rv[: counts[Label.RV][z]]] = Label.RV
        plane.reshape(-1)[from_lv[cavity : cavity + wall]] = Label.MYO
        plane.reshape(-1)[from_lv[:cavity]] = Label.LV
    return LabelMap(data, GEOMETRY)
