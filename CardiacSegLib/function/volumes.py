"""Volumes, ejection fraction and mass from label maps, and the doubts about them.

Volumes are stacks of disks: voxels counted, nothing interpolated at the base. Papillary muscles count as
cavity where the label map says so (ACDC, Sunnybrook and the shipped models do). A structure that a label map
does not hold is *not known* (``None``, ``null`` in JSON), never 0 mL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from CardiacSegLib.study import STRUCTURES, Label, LabelMap

#: Density of myocardium, which turns its volume into mass.
MYOCARDIUM_DENSITY_G_PER_ML = 1.05

# Beyond what is seen in patients of any kind; in the manual masks of ACDC at ED: LV 49-374, RV 47-295 mL, 34-272 g.
EDV_PLAUSIBLE_ML = (30.0, 500.0)
MASS_PLAUSIBLE_G = (20.0, 400.0)

# Limits of the doubts, set on the manual masks of the 100 ACDC patients: each is crossed by 3 of them at most.
EF_PLAUSIBLE_PERCENT = (5.0, 85.0)
STROKE_VOLUME_RATIO = 3.0  # sick and regurgitant hearts reach 2; twice is crossed by 11 of 100
MASS_RATIO_ES_TO_ED = (0.8, 1.45)  # median 1.15 in manual masks: the base is cut by other slices at ES

_NAMES = {Label.LV: "left ventricle", Label.RV: "right ventricle", Label.MYO: "myocardium"}


@dataclass(frozen=True)
class VentricleFigures:
    """One cavity: volumes in mL at ED and ES, or ``volume_ml`` of a frame of unknown phase; ``None``: not known."""

    edv_ml: float | None = None
    esv_ml: float | None = None
    volume_ml: float | None = None

    @property
    def sv_ml(self) -> float | None:
        """Stroke volume EDV − ESV in mL."""
        if self.edv_ml is None or self.esv_ml is None:
            return None
        return self.edv_ml - self.esv_ml

    @property
    def ef_percent(self) -> float | None:
        """Ejection fraction 100 · SV / EDV in %."""
        if self.sv_ml is None or not self.edv_ml:
            return None
        return 100.0 * self.sv_ml / self.edv_ml


@dataclass(frozen=True)
class MyocardiumFigures:
    """Left-ventricular myocardium: volumes in mL at ED and ES, or of a frame of unknown phase."""

    ed_ml: float | None = None
    es_ml: float | None = None
    volume_ml: float | None = None

    @property
    def mass_ed_g(self) -> float | None:
        """Mass in g at ED: what "LV mass" means."""
        return _mass(self.ed_ml)

    @property
    def mass_es_g(self) -> float | None:
        """Mass in g at ES."""
        return _mass(self.es_ml)


@dataclass(frozen=True)
class FunctionFigures:
    """Ventricular function of one study; ``single_frame`` where one frame of unknown phase was measured."""

    lv: VentricleFigures = field(default_factory=VentricleFigures)
    rv: VentricleFigures = field(default_factory=VentricleFigures)
    myo: MyocardiumFigures = field(default_factory=MyocardiumFigures)
    single_frame: bool = False


def ventricular_function(ed: LabelMap | None, es: LabelMap | None) -> FunctionFigures:
    """Figures from the label maps at ED and ES; ``None`` for a phase that is not known."""
    return function_from_volumes(_volumes(ed), _volumes(es))


def function_from_volumes(ed_ml: Mapping[Label, float], es_ml: Mapping[Label, float]) -> FunctionFigures:
    """Figures from volumes in mL at ED and ES; a structure that is not there, or has 0 mL, is not known."""
    ed, es = ({label: _known(volumes.get(label)) for label in STRUCTURES} for volumes in (ed_ml, es_ml))
    return FunctionFigures(
        lv=VentricleFigures(ed[Label.LV], es[Label.LV]),
        rv=VentricleFigures(ed[Label.RV], es[Label.RV]),
        myo=MyocardiumFigures(ed[Label.MYO], es[Label.MYO]),
    )


def single_frame_function(labels: LabelMap) -> FunctionFigures:
    """Figures of one frame of unknown phase: the three volumes, and nothing that needs ED or ES."""
    return FunctionFigures(
        lv=VentricleFigures(volume_ml=_known(labels.volume_ml(Label.LV))),
        rv=VentricleFigures(volume_ml=_known(labels.volume_ml(Label.RV))),
        myo=MyocardiumFigures(volume_ml=_known(labels.volume_ml(Label.MYO))),
        single_frame=True,
    )


def _volumes(labels: LabelMap | None) -> dict[Label, float]:
    return {} if labels is None else {label: labels.volume_ml(label) for label in STRUCTURES}


def _known(volume_ml: float | None) -> float | None:
    # 0 mL is never a finding: no heart is without the structure, so it was not found, or never labelled.
    return volume_ml or None


def _mass(volume_ml: float | None) -> float | None:
    return None if volume_ml is None else volume_ml * MYOCARDIUM_DENSITY_G_PER_ML


def json_number(value: float | None, digits: int = 3) -> float | None:
    """A number as strict JSON can hold it: rounded, and ``None`` for NaN and infinity."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits) + 0.0  # no −0.0


def to_json(figures: FunctionFigures) -> dict[str, dict[str, float | None]]:
    """The keys ``lv``, ``rv`` and ``myo`` of ``function.json``: mL, %, g; ``None`` where not known.

    ``volume_ml`` is there only for a single frame.
    """
    lv, rv, myo = figures.lv, figures.rv, figures.myo
    result: dict[str, dict[str, float | None]] = {
        "lv": {
            "edv_ml": lv.edv_ml,
            "esv_ml": lv.esv_ml,
            "sv_ml": lv.sv_ml,
            "ef_percent": lv.ef_percent,
            "mass_g": myo.mass_ed_g,
        },
        "rv": {"edv_ml": rv.edv_ml, "esv_ml": rv.esv_ml, "sv_ml": rv.sv_ml, "ef_percent": rv.ef_percent},
        "myo": {"ed_ml": myo.ed_ml, "es_ml": myo.es_ml, "mass_ed_g": myo.mass_ed_g, "mass_es_g": myo.mass_es_g},
    }
    if figures.single_frame:
        for key, part in (("lv", lv), ("rv", rv), ("myo", myo)):
            result[key]["volume_ml"] = part.volume_ml  # type: ignore[attr-defined]
    return {key: {name: json_number(value) for name, value in part.items()} for key, part in result.items()}


def function_json(
    figures: FunctionFigures,
    *,
    ed_frame: int | None = None,
    es_frame: int | None = None,
    model: str | None = None,
    version: str | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole content of ``function.json``, ready for ``json.dumps(…, allow_nan=False)``.

    Args:
        ed_frame, es_frame: frame *numbers* (from 1), ``None`` where not known.
        model, version: what made the label maps; ``None`` for label maps of another source.
        warnings: every doubt as a sentence; repeated ones are kept once.
    """
    return {
        **to_json(figures),
        "ed_frame": None if ed_frame is None else int(ed_frame),
        "es_frame": None if es_frame is None else int(es_frame),
        "model": model,
        "version": version,
        "warnings": list(dict.fromkeys(warnings)),
    }


def plausibility_warnings(figures: FunctionFigures, ed: LabelMap | None, es: LabelMap | None) -> list[str]:
    """Every doubt about the figures and the label maps they come from, as sentences; empty if none.

    For a single frame of unknown phase pass its label map as ``ed`` and ``None`` as ``es``.
    """
    warnings = []
    for phase, labels in (("ED", ed), ("ES", es)):
        if labels is not None:
            warnings += _label_warnings(labels, "in this frame" if figures.single_frame else f"at {phase}")
    return warnings + _figure_warnings(figures)


def _label_warnings(labels: LabelMap, where: str) -> list[str]:
    warnings = []
    for label in STRUCTURES:
        mask, name = labels.mask(label), _NAMES[label]
        slices = np.flatnonzero(mask.any(axis=(1, 2)))
        if not slices.size:
            warnings.append(f"The {name} was not found {where}.")
            continue
        if label is Label.LV:
            gaps = sorted(set(range(int(slices[0]), int(slices[-1]))) - set(slices.tolist()))
            if gaps:
                which = ("slice " if len(gaps) == 1 else "slices ") + ", ".join(str(z + 1) for z in gaps)
                warnings.append(f"The {name} is missing {where} in {which}, between slices that show it.")
        # The stack's two ends do not count: every heart is cut off at the base by one of them.
        if mask[:, [0, -1], :].any() or mask[:, :, [0, -1]].any():
            warnings.append(f"The {name} touches the image edge {where}: part of it may be cut off.")
    return warnings


def _figure_warnings(figures: FunctionFigures) -> list[str]:
    warnings = []
    for label, part in ((Label.LV, figures.lv), (Label.RV, figures.rv)):
        if part.edv_ml is not None and not EDV_PLAUSIBLE_ML[0] <= part.edv_ml <= EDV_PLAUSIBLE_ML[1]:
            warnings.append(
                f"An end-diastolic volume of {part.edv_ml:.0f} mL of the {_NAMES[label]} is hardly plausible: is the "
                "voxel spacing right?"
            )
        if part.sv_ml is None or part.ef_percent is None:
            continue
        if part.sv_ml < 0:
            warnings.append(
                f"The {_NAMES[label]} is larger at ES ({part.esv_ml:.0f} mL) than at ED ({part.edv_ml:.0f} mL): "
                "are the two frames exchanged?"
            )
        elif not EF_PLAUSIBLE_PERCENT[0] <= part.ef_percent <= EF_PLAUSIBLE_PERCENT[1]:
            warnings.append(
                f"The ejection fraction of the {_NAMES[label]}, {part.ef_percent:.0f} %, is hardly plausible."
            )
    for label, volume in ((Label.LV, figures.lv.volume_ml), (Label.RV, figures.rv.volume_ml)):
        if volume is not None and volume > EDV_PLAUSIBLE_ML[1]:
            warnings.append(f"A volume of {volume:.0f} mL of the {_NAMES[label]} is hardly plausible.")
    lv, rv = figures.lv.sv_ml, figures.rv.sv_ml
    if lv is not None and rv is not None and min(lv, rv) >= 0 and max(lv, rv) > STROKE_VOLUME_RATIO * min(lv, rv):
        warnings.append(
            f"The stroke volumes of the left ({lv:.0f} mL) and right ventricle ({rv:.0f} mL) "
            f"differ more than {STROKE_VOLUME_RATIO:.0f}-fold."
        )
    ed, es = figures.myo.mass_ed_g, figures.myo.mass_es_g
    if ed is not None and not MASS_PLAUSIBLE_G[0] <= ed <= MASS_PLAUSIBLE_G[1]:
        warnings.append(f"A myocardial mass of {ed:.0f} g is hardly plausible: is the voxel spacing right?")
    if ed and es and not MASS_RATIO_ES_TO_ED[0] <= es / ed <= MASS_RATIO_ES_TO_ED[1]:
        warnings.append(
            f"The myocardial mass changes from {ed:.0f} g at ED to {es:.0f} g at ES, though a heart keeps its mass."
        )
    return warnings
