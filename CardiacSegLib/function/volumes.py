"""Volumes, ejection fraction, output and mass from label maps.

Volumes are stacks of disks: voxels counted, nothing interpolated at the base. Papillary muscles count as
cavity where the label map says so (ACDC, Sunnybrook and the shipped models do). A structure that a label map
does not hold is *not known* (``None``, ``null`` in JSON), never 0 mL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from CardiacSegLib.study import STRUCTURES, Label, LabelMap

#: Density of myocardium, which turns its volume into mass.
MYOCARDIUM_DENSITY_G_PER_ML = 1.05


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

    def co_l_per_min(self, heart_rate_bpm: float | None) -> float | None:
        """Cardiac output in L/min: stroke volume times heart rate."""
        if self.sv_ml is None or not heart_rate_bpm:
            return None
        return self.sv_ml * heart_rate_bpm / 1000.0


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


def to_json(figures: FunctionFigures, heart_rate_bpm: float | None = None) -> dict[str, dict[str, float | None]]:
    """The keys ``lv``, ``rv`` and ``myo`` of ``function.json``: mL, %, g, L/min; ``None`` where not known.

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
            "co_l_per_min": lv.co_l_per_min(heart_rate_bpm),
        },
        "rv": {
            "edv_ml": rv.edv_ml,
            "esv_ml": rv.esv_ml,
            "sv_ml": rv.sv_ml,
            "ef_percent": rv.ef_percent,
            "co_l_per_min": rv.co_l_per_min(heart_rate_bpm),
        },
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
    heart_rate_bpm: float | None = None,
) -> dict[str, Any]:
    """What every ``function.json`` holds, ready for ``json.dumps(…, allow_nan=False)``; see ``function.schema.json``.

    Args:
        ed_frame, es_frame: frame *numbers* (from 1), ``None`` where not known.
        model, version: what made the label maps; ``None`` for label maps of another source.
        warnings: every doubt as a sentence; repeated ones are kept once.
        heart_rate_bpm: beats per minute, where known.
    """
    return {
        **to_json(figures, heart_rate_bpm),
        "ed_frame": None if ed_frame is None else int(ed_frame),
        "es_frame": None if es_frame is None else int(es_frame),
        "model": model,
        "version": version,
        "warnings": list(dict.fromkeys(warnings)),
    }
