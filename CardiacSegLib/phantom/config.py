"""What a phantom is to be."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from CardiacSegLib.errors import StudyError


@dataclass(frozen=True)
class PhantomConfig:
    """What the phantom is to be.

    Attributes:
        frames: phases of one RR interval.
        slices: slices of the stack; the basal one lies above the valve plane, in the atria.
        size: pixels ``(y, x)``.
        spacing: mm ``(z, y, x)``, z the distance of slices (thickness and gap).
        edv_ml, ef: LV end-diastolic volume in mL and ejection fraction (0 to 1).
        rv_edv_ml, rv_ef: the same of the RV.
        wall_mm: thickness of the LV wall at its widest, at ED.
        shortening_mm: way of the valve plane towards the apex in systole. By default one slice distance, so that
            slices are wholly inside or outside the ventricle at both ED and ES.
        ed_index: index (from 0) of the end-diastolic frame: the cine's trigger comes that many frames early.
        heart_rate_bpm: beats per minute.
        noise: SD of the noise in each of the two channels, as a share of blood's signal (Rician magnitude).
        bias: strength of the coil's shading (natural logarithm, about ± this over the field).
        breathing_mm: SD of the shift of heart and organs from slice to slice, in plane.
        rv_angle_deg: direction in the image from LV to RV, from the x axis towards the y axis (180 is left,
            90 down); 150 is the middle of ACDC.
        heart_axis: LPS direction of the long axis, base to apex; the stack's normal is its opposite.
        seed: of everything random.
    """

    frames: int = 20
    slices: int = 11
    size: tuple[int, int] = (240, 208)
    spacing: tuple[float, float, float] = (10.0, 1.5, 1.5)
    edv_ml: float = 140.0
    ef: float = 0.60
    rv_edv_ml: float = 150.0
    rv_ef: float = 0.55
    wall_mm: float = 8.0
    shortening_mm: float = 10.0
    ed_index: int = 3
    heart_rate_bpm: float = 65.0
    noise: float = 0.025
    bias: float = 0.3
    breathing_mm: float = 1.5
    rv_angle_deg: float = 150.0
    heart_axis: tuple[float, float, float] = (0.65, -0.66, -0.38)
    seed: int = 0

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not np.all(np.isfinite(getattr(self, entry.name))):
                raise StudyError(f"The phantom's {entry.name} must be a number, not {getattr(self, entry.name)}.")
        for name, low, high in (
            ("frames", 2, 200), ("slices", 3, 200), ("edv_ml", 20, 500), ("ef", 0.02, 0.85), ("rv_edv_ml", 20, 500),
            ("rv_ef", 0.02, 0.85), ("wall_mm", 3, 25), ("shortening_mm", 0, 20), ("ed_index", 0, self.frames - 1),
            ("heart_rate_bpm", 20, 240), ("noise", 0, 1), ("bias", 0, 1), ("breathing_mm", 0, 20), ("seed", 0, 2**63),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise StudyError(f"The phantom's {name} must lie in {low} to {high}, not be {getattr(self, name)}.")
        axis = np.asarray(self.heart_axis, float)
        if np.hypot(axis[0], axis[1]) < 0.1 * np.linalg.norm(axis) or not axis.any():
            raise StudyError("The phantom's heart_axis must not run from head to foot; a usual heart lies obliquely.")
