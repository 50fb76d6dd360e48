"""The main job on a phantom whose volumes are known: written, read back, segmented, measured, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.study import Label

EF_TOLERANCE_POINTS = 5.0


def run_demo(output: Path, model: str = "fast", device: str = "auto", say: Callable[[str], None] = print) -> str:
    """Write a phantom as 4D NIfTI and as DICOM below ``output``, segment both, and compare with the truth.

    The two must give the same figures: they are the same image.

    Returns:
        The table of measured and true figures.

    Raises:
        CardiacSegError: the model is missing, or the folder cannot be written.
    """
    from CardiacSegLib.dicom_writer import write_cine_dicom
    from CardiacSegLib.models import find_models
    from CardiacSegLib.phantom import make_phantom
    from CardiacSegLib.workflow import SegmentOptions, segment_path
    from CardiacSegLib.writers import write_cine

    find_models(model)
    phantom = make_phantom()
    study = phantom.study
    nifti, dicom = output / "phantom.nii.gz", output / "phantom_dicom"
    say(f"Writing a beating-heart phantom ({study.frames} frames of {study.slices} slices) to {output}")
    write_cine(nifti, study)
    _remove_old(dicom)
    write_cine_dicom(study, dicom)

    from CardiacSegLib.inference import Segmenter

    segmenter = Segmenter(model, device)
    options = SegmentOptions(whole_cycle=True, overwrite=True, picture=True)
    say(f"Segmenting all frames of the NIfTI with model '{segmenter.name}' on {segmenter.device}")
    from_nifti = segment_path(nifti, output / "from_nifti", segmenter, options)
    say("Segmenting ED and ES of the DICOM folder")
    ed, es = from_nifti.function["ed_frame"], from_nifti.function["es_frame"]
    chosen = SegmentOptions(ed=ed, es=es, overwrite=True)
    from_dicom = segment_path(dicom, output / "from_dicom", segmenter, chosen)
    truth = _true_figures(phantom)
    lines = [_table(truth, from_nifti.function, from_dicom.function)]
    lines.append(f"ED is frame {ed} (true {phantom.ed + 1}), ES is frame {es} (true {phantom.es + 1}).")
    lines += [f"Warning: {warning}" for warning in from_nifti.function["warnings"]]
    lines.append(f"Contours over all slices: {output / 'from_nifti' / 'contours.png'}. {DISCLAIMER}")
    return "\n".join(lines)


def _remove_old(folder: Path) -> None:
    """Only what an earlier demo wrote: nothing of anyone else's is ever deleted."""
    if not folder.is_dir():
        return
    if any(p.is_dir() or not (p.name.startswith("IM_") and p.suffix == ".dcm") for p in folder.iterdir()):
        raise CardiacSegError(f"'{folder}' holds files that no demo wrote. Give another --output.")
    for path in folder.iterdir():
        path.unlink()


def _true_figures(phantom: Any) -> dict[str, float]:
    from CardiacSegLib.function.volumes import function_from_volumes

    ed, es = ({label: float(v[i]) for label, v in phantom.volumes_ml.items()} for i in (phantom.ed, phantom.es))
    figures = function_from_volumes(ed, es)
    assert set(ed) >= {Label.LV, Label.RV, Label.MYO}
    return {
        "LV EDV mL": figures.lv.edv_ml or 0.0,
        "LV ESV mL": figures.lv.esv_ml or 0.0,
        "LV EF %": figures.lv.ef_percent or 0.0,
        "RV EDV mL": figures.rv.edv_ml or 0.0,
        "RV ESV mL": figures.rv.esv_ml or 0.0,
        "RV EF %": figures.rv.ef_percent or 0.0,
        "LV mass g": figures.myo.mass_ed_g or 0.0,
    }


def _table(truth: dict[str, float], *functions: dict[str, Any]) -> str:
    """Rows of figures; columns: true, from the NIfTI, from the DICOM."""
    rows = [f"{'':<10} {'true':>8} {'NIfTI':>8} {'DICOM':>8}"]
    keys = {"EDV": "edv_ml", "ESV": "esv_ml", "EF": "ef_percent", "mass": "mass_g"}
    for name, true in truth.items():
        side, what = name.split()[:2]
        values = [f[side.lower()][keys[what]] for f in functions]
        rows.append(
            " ".join([f"{name:<10}", f"{true:8.1f}", *(f"{v:8.1f}" if v is not None else "       —" for v in values)])
        )
    return "\n".join(rows)
