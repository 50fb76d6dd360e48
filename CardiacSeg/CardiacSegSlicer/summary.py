"""What is understood of a chosen cine, in one plain line, and in words what is wrong with it."""

from __future__ import annotations

from typing import NamedTuple

from slicer.i18n import tr as _

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.images import grid_doubts
from CardiacSegLib.study import Geometry, Patient
from CardiacSegSlicer.assembly import acrossHeart
from CardiacSegSlicer.loading import readerWarnings
from CardiacSegSlicer.patient import patientFacts
from CardiacSegSlicer.sequences import chosenFrames, gridOfFrames

_FAR_SLICES_MM = 15.0
_ADULT_YEARS = 18


class InputSummary(NamedTuple):
    """What is chosen: ``spacing`` is (z, y, x) in mm, heart rate in beats/min; ``problems`` are sentences.

    ``usable`` is False where nothing can be segmented before the last of the problems is solved.
    """

    frames: int
    slices: int
    spacing: tuple | None
    heartRate: float | None
    patient: Patient
    text: str
    problems: tuple
    usable: bool


def describe(cine, esVolume=None) -> InputSummary:
    """Describe what is chosen, without reading a voxel; never raises for what a user can choose.

    Args:
        cine: the proxy of a sequence, a volume at end diastole, or None.
        esVolume: the volume at end systole, or None.
    """
    try:
        frames = chosenFrames(cine, esVolume)
        geometry = gridOfFrames(frames)
    except StudyError as error:
        return InputSummary(0, 0, None, None, Patient(), "", (str(error),), False)
    patient = patientFacts(cine)
    slices = geometry.shape[0]
    doubts = [*_doubts(geometry), *readerWarnings(cine)]
    if slices == 1:
        doubts.append(_("This is a single slice, no stack. Load all slices, then use Assemble short-axis stack."))
    return InputSummary(
        len(frames),
        slices,
        geometry.spacing,
        patient.heart_rate_bpm,
        patient,
        _line(geometry, None if esVolume is not None else len(frames), patient),
        tuple(dict.fromkeys(doubts)),
        slices > 1,
    )


def _doubts(geometry: Geometry) -> list:
    """What is unusual about a short-axis stack; a single slice is none and is not judged."""
    if geometry.shape[0] == 1:
        return []
    said = grid_doubts(geometry)
    if not acrossHeart(geometry):
        said.append(
            _("The slices run along a usual heart rather than across it: check that this is the short-axis cine.")
        )
    if geometry.spacing[0] > _FAR_SLICES_MM:
        said.append(
            _("The slices lie {mm} mm apart: what is between them is not seen. Check that none is missing.").format(
                mm=_short(geometry.spacing[0])
            )
        )
    return said


def _line(geometry: Geometry, frames: int | None, patient: Patient) -> str:
    """The line, such as ``10 slices of 256 × 216, 30 frames, …``; ``frames`` is None for an ED and an ES volume."""
    (slices, rows, columns), (between, y, x) = geometry.shape, geometry.spacing
    size = {"slices": slices, "columns": columns, "rows": rows}
    parts = [
        _("1 slice of {columns} × {rows}").format(**size)
        if slices == 1
        else _("{slices} slices of {columns} × {rows}").format(**size),
        _("end diastole and end systole") if frames is None else _("{frames} frames").format(frames=frames),
        _("{x} × {y} mm").format(x=_short(x), y=_short(y)),
    ]
    if slices > 1:
        parts.append(_("{mm} mm between slices").format(mm=_short(between)))
    return ", ".join([*parts, *_patientParts(patient)])


def _patientParts(patient: Patient) -> list:
    parts = []
    if patient.heart_rate_bpm is not None:
        parts.append(_("{rate} beats/min").format(rate=round(patient.heart_rate_bpm)))
    child = patient.age_years is not None and patient.age_years < _ADULT_YEARS
    sex = {"M": _("boy") if child else _("man"), "F": _("girl") if child else _("woman")}.get(patient.sex or "")
    if sex:
        parts.append(sex)
    if patient.age_years is not None:
        months = round(patient.age_years * 12)
        parts.append(
            _("{months} months").format(months=months)
            if months < 24
            else _("{years} years").format(years=int(patient.age_years))
        )
    if patient.height_cm is not None:
        parts.append(_("{height} cm").format(height=round(patient.height_cm)))
    if patient.weight_kg is not None:
        parts.append(_("{weight} kg").format(weight=_short(patient.weight_kg, 1)))
    return parts


def _short(value: float, digits: int = 2) -> str:
    return f"{round(value, digits):g}"
