"""What every figure is, in words: the one place that reports, tables and the schema of ``function.json`` refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from CardiacSegLib.function.volumes import MYOCARDIUM_DENSITY_G_PER_ML


@dataclass(frozen=True)
class Definition:
    """Title, unit and definition of a figure."""

    title: str
    unit: str
    text: str


#: By the name of the key in ``function.json``.
DEFINITIONS: Mapping[str, Definition] = {
    "edv_ml": Definition("End-diastolic volume (EDV)", "mL", "Volume of the ventricle at end diastole."),
    "esv_ml": Definition("End-systolic volume (ESV)", "mL", "Volume of the ventricle at end systole."),
    "sv_ml": Definition("Stroke volume (SV)", "mL", "EDV − ESV."),
    "ef_percent": Definition("Ejection fraction (EF)", "%", "100 · SV / EDV."),
    "co_l_per_min": Definition("Cardiac output (CO)", "L/min", "SV · heart rate; left out where that is not stated."),
    "mass_g": Definition(
        "Mass of the left ventricle",
        "g",
        f"Volume of the myocardium at end diastole · {MYOCARDIUM_DENSITY_G_PER_ML:g} g/mL.",
    ),
    "ed_ml": Definition("Myocardial volume at end diastole", "mL", "Volume of the LV's myocardium at end diastole."),
    "es_ml": Definition("Myocardial volume at end systole", "mL", "Volume of the LV's myocardium at end systole."),
    "mass_ed_g": Definition("Myocardial mass at end diastole", "g", "The mass of the left ventricle."),
    "mass_es_g": Definition(
        "Myocardial mass at end systole", "g", "The same from end systole; a heart keeps its mass, so it is a check."
    ),
    "volume_ml": Definition("Volume", "mL", "Volume in a single frame of unknown phase."),
    "peak_ejection_rate_ml_per_s": Definition(
        "Peak ejection rate (PER)",
        "mL/s",
        "Steepest fall of the smoothed volume curve between the ED frame and the ES frame.",
    ),
    "peak_ejection_rate_edv_per_s": Definition("Peak ejection rate, normalised", "EDV/s", "PER / EDV."),
    "time_to_peak_ejection_ms": Definition(
        "Time to peak ejection", "ms", "From the ED frame to the moment of the peak ejection rate."
    ),
    "peak_filling_rate_ml_per_s": Definition(
        "Peak filling rate (PFR)",
        "mL/s",
        "Steepest rise of the smoothed volume curve between the ES frame and the next ED frame, in early or late "
        "filling.",
    ),
    "peak_filling_rate_edv_per_s": Definition("Peak filling rate, normalised", "EDV/s", "PFR / EDV."),
    "time_to_peak_filling_ms": Definition(
        "Time to peak filling", "ms", "From the ES frame to the moment of the peak filling rate."
    ),
    "cycle_length_ms": Definition(
        "Cycle length",
        "ms",
        "60000 / heart rate where it is stated and fits the frames' times, otherwise the time that the frames span.",
    ),
    "bsa_m2": Definition(
        "Body surface area (BSA)", "m²", "From height and weight, by the formula named; indexed figures are per m²."
    ),
}

#: What holds for all figures; each a sentence or two.
CONVENTIONS: tuple[str, ...] = (
    "Volumes are stacks of disks: the voxels of every slice are counted, with the distance of slices as their "
    "height. Nothing is interpolated at the base or beyond the last slice.",
    "Papillary muscles and trabeculae count to the cavity, as in ACDC, Sunnybrook and UK Biobank; reference ranges "
    "that count them to the mass do not apply.",
    "ED and ES, where the study does not name them, are the highest and the lowest of the smoothed curve of LV volume "
    "over the cycle; where it is flat, ED lies towards the end of the plateau, ES in its middle. Volumes and fractions "
    "are those counted in these frames.",
    "Both ventricles are measured in the same two frames, those of the LV.",
    "The smoothed curve is a periodic smoothing spline over all frames but failed ones; harmonics above the fifth "
    "fade. Rates from thick slices are too high (by a fifth to a third on a phantom with slices of 10 mm) where the "
    "valve plane passes a slice, which then leaves or joins the volume at once.",
)
