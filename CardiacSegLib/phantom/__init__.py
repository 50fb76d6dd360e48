"""A beating-heart phantom: a short-axis cine of known volumes that looks like balanced SSFP cine MR.

The heart is drawn in polar coordinates about the long axis of the LV, at a height ``h`` (mm) above the epicardial
apex: the cavity and the epicardium are truncated ellipsoids cut by the valve plane, the RV is a crescent on the
septum. Their volumes are integrals in closed form, so each frame is drawn *from* its volumes. The myocardium keeps
its volume over the cycle. Papillary muscles and trabeculae are part of the cavities, as ACDC counts: its contours run
where compact muscle begins, some 2 mm outside the edge of bright blood, and more in systole when trabeculae crowd.

The array shows the heart as ACDC's arrays do (RV on the left and below, liver at the bottom). With a right-handed
``direction`` this makes slice 0 the apex, as in every real series sorted along row × column; ACDC's files, whose
orientation is lost, run from base to apex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.phantom.config import PhantomConfig
from CardiacSegLib.phantom.drawing import draw
from CardiacSegLib.phantom.heart import cardiac_cycle, fit_heart, slice_heights
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap, Patient

__all__ = ["Phantom", "PhantomConfig", "make_phantom"]


@dataclass(frozen=True)
class Phantom:
    """A cine and all that is true of it.

    Attributes:
        study: the cine, int16, kind ``"phantom"``; its ``ed`` and ``es`` are left open, so that finding them can be
            tried; ``study.with_phases(phantom.ed, phantom.es)`` states them.
        labels: truth per frame, on the study's grid: what fills most of each voxel.
        volumes_ml: volume per frame in mL of LV, RV and MYO: of the bodies themselves, not of counted voxels.
        ed, es: indexes (from 0) of end diastole and end systole.
        shifts_mm: ``(z, 2)`` as (y, x): how far breathing moved the heart in the plane of each slice.
    """

    study: CineStudy
    labels: tuple[LabelMap, ...]
    volumes_ml: dict[Label, np.ndarray]
    ed: int
    es: int
    shifts_mm: np.ndarray


def make_phantom(config: PhantomConfig | None = None) -> Phantom:
    """Draw a phantom; the same configuration gives the same arrays (to one grey value between versions of numpy).

    Raises:
        StudyError: the heart does not fit into the field of view.
    """
    config = config or PhantomConfig()
    geometry = _geometry(config)
    ed, es, fill = cardiac_cycle(config)
    heart = fit_heart(config, fill)
    field_mm = min(n * s for n, s in zip(config.size, config.spacing[1:]))
    needed_mm = 2.2 * max(map(abs, heart.reach())) + 4 * config.breathing_mm
    if field_mm < needed_mm:
        raise StudyError(
            f"The phantom's field of view ({field_mm:.0f} mm) is too small for this heart, which needs "
            f"{needed_mm:.0f} mm: choose more or larger pixels, or smaller ventricles."
        )
    image, truth, shifts = draw(heart, np.random.default_rng(config.seed))
    beat_ms = 60000.0 / config.heart_rate_bpm
    study = CineStudy(
        image=image,
        geometry=geometry,
        name="phantom",
        times_ms=tuple(float(t) for t in np.arange(config.frames) * beat_ms / config.frames),
        patient=Patient(height_cm=175.0, weight_kg=75.0, age_years=45.0, heart_rate_bpm=config.heart_rate_bpm),
        kind="phantom",
    )
    if slice_heights(heart)[0] > config.spacing[0] / 2:
        study = study.with_warnings("The phantom's stack ends above the apex: true volumes are of the whole heart.")
    volumes = {Label.LV: heart.lv_ml, Label.RV: heart.rv_ml, Label.MYO: np.full(config.frames, heart.myo_ml)}
    return Phantom(study, tuple(LabelMap(frame, geometry) for frame in truth), volumes, ed, es, shifts)


def _geometry(config: PhantomConfig) -> Geometry:
    """Oblique right-handed grid: z against the heart's axis, y as far towards the feet as it can."""
    z = -np.asarray(config.heart_axis, float) / np.linalg.norm(config.heart_axis)
    y = np.array([0.0, 0.0, -1.0]) + z[2] * z
    y /= np.linalg.norm(y)
    direction = np.column_stack([np.cross(y, z), y, z])
    shape = (config.slices, *config.size)
    middle = direction @ ((np.asarray(shape[::-1]) - 1) / 2 * np.asarray(config.spacing[::-1]))
    return Geometry(
        shape=shape,
        spacing=tuple(float(s) for s in config.spacing),  # type: ignore[arg-type]
        origin=tuple(float(v) for v in np.array([40.0, -30.0, 0.0]) - middle),  # type: ignore[arg-type]
        direction=tuple(tuple(float(v) for v in row) for row in direction),  # type: ignore[misc]
    )
