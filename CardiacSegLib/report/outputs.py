"""What is written of a reading for people and tables: ``report.html`` and ``figures.csv``, at once or later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from CardiacSegLib.report.figure_tables import write_figures_csv
from CardiacSegLib.report.folder import MASKS_KEY, Results, read_results, with_images
from CardiacSegLib.report.measures import Corrected, figure_rows, inside
from CardiacSegLib.report.reading import write_reading_report
from CardiacSegLib.study import CineStudy, LabelMap, Patient

REPORT_FILE, FIGURES_FILE = "report.html", "figures.csv"


def report_folder(
    folder: Path,
    output: Path | None = None,
    *,
    images: Sequence[Path] = (),
    patient: Patient | None = None,
    bsa_formula: str | None = None,
    diagnosis: bool = False,
    identify: bool = False,
) -> tuple[list[Path], list[str]]:
    """Write ``report.html`` and ``figures.csv`` of a folder of results, from what lies in it.

    Where label maps were corrected since ``function.json`` was written, the figures are measured anew; that file stays
    as it is. A report and a table that are there already are replaced.

    Args:
        folder: of ``cardiacseg segment``.
        output: folder to write to, ``folder`` if left out.
        images: the study that was segmented (an ED and an ES file are two), for pictures of the contours; without it
            the contours are drawn alone.
        patient: facts by hand in place of those that the results hold; ``None`` in it leaves these.
        bsa_formula: for figures per m², in place of that of before.
        diagnosis: whether likeness to groups of patients is said, also where it was not before; research only.
        identify: whether the study's name, and of DICOM images the patient's name and number, are shown.

    Returns:
        The files, and what is to be said of them in sentences.

    Raises:
        StudyError: the folder holds no results, or the images are not those of the results.
        CardiacSegError: a file cannot be written.
    """
    results = read_results(folder)
    study, labels, said = _study_of(results, images)
    known = results.patient if results.patient != Patient() else study.patient
    study = replace(study, patient=merged(known, patient))
    wanted = diagnosis and "diagnosis" not in results.function
    anew = wanted or bsa_formula is not None or study.patient != results.patient
    function = current_function(results, study, labels, anew=anew, bsa_formula=bsa_formula, diagnosis=diagnosis)
    if images and said:  # a doubt about the pictures, to stand beside them
        function = {**function, "warnings": [*function["warnings"], *said]}
    if results.corrected:
        said.append("Label maps were corrected since they were made: their figures were measured anew.")
    files = write_outputs(
        output or folder,
        study,
        labels,
        function,
        corrected=results.corrected,
        identity=identity_of(study, folder.resolve().name) if identify else None,
        images=bool(images),
    )
    return files, said


def _study_of(results: Results, images: Sequence[Path]) -> tuple[CineStudy, dict[int, LabelMap], list[str]]:
    if images:
        study, labels = with_images(results, images)
        return study, labels, [w for w in study.warnings if w.startswith("The images given")]
    labels = {index: mask.labels for index, mask in enumerate(results.masks)}
    return results.study(), labels, ["Contours are drawn without images: give the study with --images to see both."]


def merged(known: Patient, given: Patient | None) -> Patient:
    """The facts that are known, with those given by hand in their place."""
    return known if given is None else replace(known, **{k: v for k, v in vars(given).items() if v is not None})


def current_function(
    results: Results,
    study: CineStudy,
    labels: Mapping[int, LabelMap],
    *,
    anew: bool = False,
    bsa_formula: str | None = None,
    diagnosis: bool = False,
) -> dict[str, Any]:
    """The content of ``function.json`` for the label maps as they are now; as it was written if nothing changed.

    Warnings of before stay: where a label map was corrected, those that this may have made untrue are said to be of
    before.

    Args:
        results: a folder.
        study: of its label maps, with the facts of the patient.
        labels: by frame index of the study.
        anew: measure also where no label map changed, since other facts did.
        bsa_formula, diagnosis: as of :func:`CardiacSegLib.workflow.measure_labels`, by default as before.
    """
    from CardiacSegLib.workflow import NOT_INDEXED, measure_labels

    before, corrected = results.function, results.corrected
    if corrected == {} and not anew:
        return before
    written = [str(w) for w in before.get("warnings") or ()]
    now = measure_labels(
        replace(study, warnings=tuple(w for w in written if w in results.doubts)),
        labels,
        model=before.get("model"),
        bsa_formula=bsa_formula or inside(before, "patient").get("bsa_formula") or "du_bois",
        diagnosis=diagnosis or "diagnosis" in before,
    )
    old = [w for w in written if w not in now["warnings"] and not w.startswith(NOT_INDEXED)]
    now["warnings"] += [f"Before the correction: {w}" for w in old] if corrected else old
    found = before.get("findings")
    if not corrected and isinstance(found, list):  # what the network doubted, or what was repaired, is not found again
        now["findings"] += [f for f in found if f not in now["findings"]]
    kept = ("expected_dice",) if corrected else ("expected_dice", "alignment")
    now.update({key: before[key] for key in kept if key in before})
    return {**now, "version": before.get("version"), MASKS_KEY: before.get(MASKS_KEY)}


def write_outputs(
    output: Path,
    study: CineStudy,
    labels: Mapping[int, LabelMap],
    function: Mapping[str, Any],
    *,
    corrected: Corrected | None = None,
    identity: Mapping[str, str] | None = None,
    images: bool = True,
    report: bool = True,
    csv: bool = True,
) -> list[Path]:
    """Write the report and the table of figures of a reading to a folder; returns the files."""
    files = []
    if report:
        path = output / REPORT_FILE
        write_reading_report(path, study, labels, function, corrected=corrected, identity=identity, images=images)
        files.append(path)
    if csv:
        files.append(write_figures_csv(output / FIGURES_FILE, figure_rows(function, corrected=corrected)))
    return files


def identity_of(study: CineStudy, name: str | None = None) -> dict[str, str]:
    """What names the patient and the study, for a report that was asked to show it.

    Args:
        study: of DICOM images, whose first file is asked for the patient; of others only the name is known.
        name: in place of the study's own.
    """
    from CardiacSegLib.readers.dicom_identity import dicom_identity

    return {**dicom_identity(study), "Study": name or study.name}
