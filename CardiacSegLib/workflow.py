"""The main job: a study comes in, label maps and ``function.json`` go out. Shared by command line, batch and Slicer."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from CardiacSegLib import __version__
from CardiacSegLib.anonymous import anonymous_name_in, anonymous_study, without_names
from CardiacSegLib.certainty import Certainty, as_stored, doubts_at_phases, expected_dice_json
from CardiacSegLib.dicom_seg import refuse_without_dicom, write_dicom_segs
from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.files import all_or_none, settle
from CardiacSegLib.function.body import body_surface_area, indexed
from CardiacSegLib.function.quality import Finding
from CardiacSegLib.function.volumes import json_number
from CardiacSegLib.orientation import ordered
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.acdc import whole_cycle_files
from CardiacSegLib.report.folder import FUNCTION_FILE, MASKS_KEY, mask_record
from CardiacSegLib.report.outputs import identity_of, merged, write_outputs
from CardiacSegLib.result_files import (
    PICTURE_FILE,
    aligned,
    aligned_cine,
    as_dicom,
    label_files,
    old_results,
    refuse_other_study,
)
from CardiacSegLib.study import CineStudy, Label, LabelMap, Patient
from CardiacSegLib.writers import write_cine, write_json, write_label_map

if TYPE_CHECKING:
    import numpy as np

    from CardiacSegLib.inference import Segmenter

#: Bytes of a study's name that its files can carry, beside frame number and ending.
LONGEST_NAME = 200

__all__ = ["FUNCTION_FILE", "Reading", "SegmentOptions", "label_files", "measure_labels", "segment_path"]

ProgressCallback = Callable[[int, int], None]
StageCallback = Callable[[str], None]


@dataclass(frozen=True)
class SegmentOptions:
    """What of a study is segmented.

    Attributes:
        whole_cycle: every frame, instead of ED and ES.
        ed, es: frame *numbers* (from 1) that replace what the study says; ``None`` leaves it.
        overwrite: replace results that are already there.
        picture: also write ``contours.png``.
        anonymous: ``study-001`` stands for the name of the input in files, figures and messages; or the name of the
            output folder where it is such a one, as in a batch.
        report: also write ``report.html``.
        identify: the report shows the study's name, and of DICOM the patient's name and number.
        csv: also write ``figures.csv``.
        dicom_seg: also write each label map as a DICOM Segmentation, which names the patient as its source does.
        patient: facts by hand in place of those that the study states; ``None`` in it leaves these.
        consistent: where all frames are segmented, replace what flickers by what lies between its neighbours.
        bsa_formula: ``"du_bois"`` or ``"mosteller"``.
        diagnosis: also say which groups of patients the heart is alike; research only.
        correct_breathing: also write the cine and its label maps with the slices moved onto the heart's axis.
    """

    whole_cycle: bool = False
    ed: int | None = None
    es: int | None = None
    overwrite: bool = False
    picture: bool = False
    anonymous: bool = False
    report: bool = False
    identify: bool = False
    csv: bool = False
    dicom_seg: bool = False
    patient: Patient = field(default_factory=Patient)
    consistent: bool = True
    bsa_formula: str = "du_bois"
    diagnosis: bool = False
    correct_breathing: bool = False


#: How a warning begins that says why.
NOT_INDEXED = "Figures are not indexed by body surface:"


class ResultsExist(CardiacSegError):
    """Results of this study are in the output folder already, and must not be replaced."""


@dataclass
class Reading:
    """A study, its label maps by frame index, and its figures as ``function.json`` holds them.

    ``aligned`` holds study and label maps with their slices moved onto the heart's axis, where that was asked for.
    """

    study: CineStudy
    labels: Mapping[int, LabelMap]
    function: dict[str, Any]
    files: list[Path] = field(default_factory=list)
    aligned: tuple[CineStudy, Mapping[int, LabelMap]] | None = None


def segment_path(
    path: Path,
    output: Path,
    segmenter: Segmenter | Callable[[], Segmenter],
    options: SegmentOptions | None = None,
    *,
    es_path: Path | None = None,
    on_progress: ProgressCallback | None = None,
    on_stage: StageCallback | None = None,
) -> Reading:
    """Read, segment, measure and write one study; ``function.json`` is written last.

    ``segmenter`` may be a function that makes one, called only once the study has been read and nothing is in the way.
    ``on_stage`` is told what begins, in words; ``on_progress`` counts the frames of the stage that segments.

    Raises:
        CardiacSegError: the study cannot be read, or results are in the way.
    """
    options = options or SegmentOptions()
    begin = on_stage or (lambda title: None)
    if options.anonymous and (options.identify or options.dicom_seg):
        raise CardiacSegError("An anonymous study cannot be identified: DICOM Segmentations name the patient too.")
    begin("Reading the study")
    study, pair = _read_named(path, es_path, options, output)
    if options.dicom_seg:
        refuse_without_dicom(study)
    settle(output)
    _refuse_old(output, study, pair, options)
    begin("Loading the network")
    loaded = segmenter() if callable(segmenter) else segmenter
    begin("Segmenting frames")
    reading = segment_study(study, loaded, options, on_progress)
    begin("Writing the results")
    old = _refuse_old(output, study, pair, options)  # again: another process may have been faster
    with all_or_none(output, old) as aside:
        write_reading(reading, aside, options, pair)
    reading.files[:] = [output / file.name for file in reading.files]
    return reading


def _read_named(
    path: Path, es_path: Path | None, options: SegmentOptions, output: Path
) -> tuple[CineStudy, tuple[Path, Path] | None]:
    """The study under the name that its results get, and the paths of a pair, by which its label maps are named."""
    paths = [p for p in (path, es_path) if p is not None]
    pair = None if es_path is None else (path, es_path)
    name = anonymous_name_in(output) if options.anonymous else None
    try:
        study = _read(path, es_path, options)
    except CardiacSegError as error:
        if name is None:
            raise
        raise type(error)(without_names(str(error), name, paths)) from None
    if name is None:
        return (study if pair else _with_short_name(study)), pair
    return anonymous_study(study, name, paths), None if pair is None else (Path(name), Path(name))


def _with_short_name(study: CineStudy) -> CineStudy:
    """Room for what is added to the name: no file system takes more than 255 bytes."""
    name = os.fsencode(study.name)
    if len(name) <= LONGEST_NAME:
        return study
    short = f"{name[: LONGEST_NAME - 9].decode(errors='ignore')}-{zlib.crc32(name):08x}"
    return replace(study, name=short).with_warnings("The study's name is too long for its results, and was shortened.")


def _refuse_old(output: Path, study: CineStudy, pair: tuple[Path, Path] | None, options: SegmentOptions) -> list[Path]:
    """Results that are to be replaced."""
    refuse_other_study(output, study, pair)
    old = old_results(output, study, pair)
    if old and not options.overwrite:
        raise ResultsExist(
            f"'{output}' already holds results of this study ({old[0].name}). Give another folder, or --overwrite to "
            "replace them."
        )
    return old


def segment_study(
    study: CineStudy, segmenter: Segmenter, options: SegmentOptions, on_progress: ProgressCallback | None = None
) -> Reading:
    """Segment and measure a study that is already read; ED and ES are found where they are not known or chosen."""
    study = _with_chosen_phases(study, options)
    known = study.ed is not None and study.es is not None
    if options.whole_cycle or not known:
        wanted: Sequence[int] = range(study.frames)
    else:
        wanted = [i for i in (study.ed, study.es) if i is not None]
    if on_progress:
        on_progress(0, len(wanted))
    # A study that no reader has turned comes as it is, and gets its labels so.
    turned = study if study.stored is not None else ordered(study, through=0)
    segmentation = segmenter.segment(turned, wanted, with_certainty=True, on_progress=on_progress)
    labels: Mapping[int, LabelMap] = segmentation.labels
    if study.stored is None:
        labels = {i: turned.as_stored(given) for i, given in labels.items()}
    notes = list(segmentation.warnings)
    found: list[Finding] = []
    if options.consistent:
        labels, found = _consistent(study, labels)
    gaps: list[Finding] = []
    if not known and study.frames > 1:
        from CardiacSegLib.function.phases import time_volume_curve
        from CardiacSegLib.function.quality import empty_frames

        volumes = time_volume_curve([labels[i] for i in range(study.frames)])
        study, note = _with_found_phases(study, volumes[Label.LV])
        notes += [note] if note else []
        if not options.whole_cycle:  # of a whole cycle it is said with its curves
            gaps = empty_frames({Label.LV: volumes[Label.LV]}, study.frame_numbers)
    phases = sorted({i for i in (study.ed, study.es) if i is not None})
    if phases and not options.whole_cycle:  # without a phase every frame is kept: somebody has to look
        labels = {i: labels[i] for i in phases}
        kept = {f"frame {study.frame_numbers[i]}" for i in phases}
        found = [finding for finding in found if finding.phase in kept] + gaps
    certain: Mapping[int, Mapping[Label, Certainty]] = segmentation.certainty
    if study.stored is None and turned.stored is not None:
        certain = {i: as_stored(of, turned.stored) for i, of in certain.items()}
    found += doubts_at_phases(study, certain)
    function = measure_labels(
        study,
        labels,
        model=segmenter.name,
        notes=notes,
        found=found,
        bsa_formula=options.bsa_formula,
        diagnosis=options.diagnosis,
        look_for_flicker=not options.consistent,
    )
    function["expected_dice"] = expected_dice_json(study, certain)
    reading = Reading(study, labels, function)
    if options.correct_breathing:
        _align(reading)
    return reading


def _consistent(study: CineStudy, labels: Mapping[int, LabelMap]) -> tuple[Mapping[int, LabelMap], list[Finding]]:
    """Label maps of a whole cycle without flicker, and what was changed."""
    from CardiacSegLib.function.consistency import make_consistent
    from CardiacSegLib.function.cycle import is_whole_cycle
    from CardiacSegLib.function.quality import disagreement_findings

    if not is_whole_cycle(study, labels):
        return labels, []
    repaired, disagreeing = make_consistent([labels[i] for i in range(study.frames)])
    return dict(enumerate(repaired)), disagreement_findings(disagreeing, study.frame_numbers, repaired=True)


def _align(reading: Reading) -> None:
    """Move the slices of study and label maps onto the heart's axis; ``alignment`` says by how much."""
    from CardiacSegLib.function.stack import align_slices, slice_shifts_mm

    study, labels = reading.study, reading.labels
    phases = [labels[i] for i in (study.ed, study.es) if i is not None and i in labels]
    shifts = slice_shifts_mm(phases or list(labels.values()))
    reading.aligned = align_slices(study, labels, shifts)
    reading.function["alignment"] = {"shifts_mm": [[json_number(y), json_number(x)] for y, x in shifts.tolist()]}


def measure_labels(
    study: CineStudy,
    labels: Mapping[int, LabelMap],
    *,
    model: str | None,
    notes: Sequence[str] = (),
    found: Sequence[Finding] = (),
    bsa_formula: str = "du_bois",
    diagnosis: bool = False,
    look_for_flicker: bool = True,
) -> dict[str, Any]:
    """The content of ``function.json`` for label maps by frame index; one frame of unknown phase gives volumes only.

    ``function.schema.json`` describes it. Label maps of every frame add the curves and rates of the cycle.

    Args:
        study: with ED and ES.
        labels: by frame index (from 0).
        model: what made the label maps, ``None`` for another source.
        notes: sentences that join the warnings.
        found: findings of earlier steps, which join those of these label maps.
        bsa_formula: for the indexed figures.
        diagnosis: whether likeness to groups of patients is said, where ED and ES are known; research only.
        look_for_flicker: false for label maps that :func:`~CardiacSegLib.function.consistency.make_consistent` made.
    """
    from CardiacSegLib.function.consistency import disagreements
    from CardiacSegLib.function.cycle import cycle_json, measure_cycle
    from CardiacSegLib.function.quality import findings
    from CardiacSegLib.function.ranges import compare_with_ranges
    from CardiacSegLib.function.stack import around_hearts
    from CardiacSegLib.function.volumes import function_json, single_frame_function, ventricular_function
    from CardiacSegLib.function.wall import wall_figures, wall_json

    single, labels = study.is_single_frame, around_hearts(labels)
    ed, es = (None if index is None else labels.get(index) for index in (0 if single else study.ed, study.es))
    figures = single_frame_function(ed) if single and ed is not None else ventricular_function(ed, es)
    cycle = measure_cycle(study, labels)
    flicker = disagreements([labels[i] for i in range(study.frames)]) if cycle and look_for_flicker else []
    all_found = [*found, *findings(figures, ed, es, cycle, flicker)]
    body, doubts = _body(study, bsa_formula)
    doubts += _timing_doubts(study)
    wall = None if single else wall_figures(ed, es)
    function = function_json(
        figures,
        ed_frame=frame_number(study, study.ed),
        es_frame=frame_number(study, study.es),
        model=model,
        version=__version__,
        warnings=[
            *(*study.warnings, *notes, *doubts),
            *(finding.sentence for finding in all_found),
            *(() if wall is None else wall.warnings),
        ],
        heart_rate_bpm=study.patient.heart_rate_bpm,
    )
    function["patient"] = body
    if body["bsa_m2"] is not None:
        function["indexed"] = indexed(function, body["bsa_m2"])
    if cycle is not None:
        function["cycle"] = cycle_json(cycle)
    if wall is not None:
        function["wall"] = wall_json(wall)
    function["ranges"] = compare_with_ranges(function, study.patient)
    function["findings"] = [finding.to_json() for finding in all_found]
    if diagnosis:
        _add_diagnosis(function, ed, es)
    return function


def _timing_doubts(study: CineStudy) -> list[str]:
    from CardiacSegLib.function.cycle import heart_rate_doubt

    doubts = [doubt for doubt in (heart_rate_doubt(study),) if doubt]
    if study.ed is not None and study.ed == study.es and study.frames > 1:
        doubts.append(f"ED and ES are the same frame, {study.frame_numbers[study.ed]}: choose another for one of them.")
    return doubts


def _add_diagnosis(function: dict[str, Any], ed: LabelMap | None, es: LabelMap | None) -> None:
    from CardiacSegLib.function.diagnosis import diagnose, diagnosis_json
    from CardiacSegLib.function.diagnosis_features import diagnosis_features

    try:
        function["diagnosis"] = diagnosis_json(diagnose(diagnosis_features(ed, es)))
    except StudyError as error:
        function["warnings"].append(str(error))


def _body(study: CineStudy, formula: str) -> tuple[dict[str, Any], list[str]]:
    """The key ``patient`` of ``function.json``, and why body surface area is left out though the study states it."""
    patient, area, doubts = study.patient, None, []
    if patient.height_cm is not None and patient.weight_kg is not None:
        try:
            area = json_number(body_surface_area(patient.height_cm, patient.weight_kg, formula))
        except StudyError as error:
            doubts.append(f"{NOT_INDEXED} {error}")
    facts = {
        "sex": patient.sex,
        "age_years": json_number(patient.age_years),
        "height_cm": json_number(patient.height_cm),
        "weight_kg": json_number(patient.weight_kg),
        "heart_rate_bpm": json_number(patient.heart_rate_bpm),
        "bsa_m2": area,
        "bsa_formula": None if area is None else formula,
    }
    return facts, doubts


def frame_number(study: CineStudy, index: int | None) -> int | None:
    """Number in the cine; two files of a pair do not say theirs."""
    return None if index is None or study.kind == "pair" else study.frame_numbers[index]


def _read(path: Path, es_path: Path | None, options: SegmentOptions) -> CineStudy:
    """The study; of an ACDC folder the whole cine also where a chosen frame is neither its ED nor its ES."""
    study = read_study(path, es_path, whole_cycle=options.whole_cycle)
    chosen = {n for n in (options.ed, options.es) if n is not None}
    if study.kind == "acdc" and not chosen <= set(study.frame_numbers) and whole_cycle_files(path):
        study = read_study(path, whole_cycle=True)
    study = replace(study, patient=merged(study.patient, options.patient))
    return _with_chosen_phases(study, options)  # here already: a wrong frame is told before torch is loaded


def _with_chosen_phases(study: CineStudy, options: SegmentOptions) -> CineStudy:
    if options.ed is None and options.es is None:
        return study
    if study.frames == 1:
        raise StudyError(f"'{study.name}' is a single frame: ED and ES cannot be chosen in it.")
    ed = study.ed if options.ed is None else study.index_of(options.ed)
    es = study.es if options.es is None else study.index_of(options.es)
    return study.with_phases(ed, es)


def _with_found_phases(study: CineStudy, volumes: np.ndarray) -> tuple[CineStudy, str | None]:
    """ED and ES from the smoothed curve of LV volume, where the user or the study did not name them."""
    from CardiacSegLib.function.cycle import frame_phases
    from CardiacSegLib.function.phases import find_phases

    if not (volumes > 0).any():
        return study, "ED and ES could not be found: the left ventricle was not found in any frame."
    try:
        ed, es = find_phases(volumes, frame_phases(study))
    except StudyError as error:
        return study, str(error)
    return study.with_phases(ed if study.ed is None else study.ed, es if study.es is None else study.es), None


def write_reading(
    reading: Reading, output: Path, options: SegmentOptions, pair: tuple[Path, Path] | None = None
) -> None:
    """Write the label maps (ACDC's numbers, the input's grid), what else is asked for, and ``function.json`` last."""
    names = label_files(reading.study, list(reading.labels), pair)
    for index, name in names.items():
        write_label_map(output / name, reading.study.as_stored(reading.labels[index]))
        reading.files.append(output / name)
    if options.dicom_seg:
        files = {index: output / as_dicom(name) for index, name in names.items()}
        written, said = write_dicom_segs(reading.study, reading.labels, files, reading.function["model"])
        reading.files += written
        reading.function["warnings"] += said
    reading.function[MASKS_KEY] = mask_record(reading.study, reading.labels, names)
    if reading.aligned is not None:
        study, labels = reading.aligned
        write_cine(output / aligned_cine(study), study)
        reading.files.append(output / aligned_cine(study))
        for index, name in names.items():
            write_label_map(output / aligned(name), labels[index])
            reading.files.append(output / aligned(name))
    if options.picture and any(labels.data.any() for labels in reading.labels.values()):
        reading.files.append(write_picture(reading, output / PICTURE_FILE))
    reading.files += write_outputs(
        output,
        reading.study,
        reading.labels,
        reading.function,
        corrected={},
        identity=identity_of(reading.study) if options.identify else None,
        report=options.report,
        csv=options.csv,
    )
    write_json(output / FUNCTION_FILE, reading.function)
    reading.files.append(output / FUNCTION_FILE)


def write_picture(reading: Reading, path: Path) -> Path:
    """Contours over every slice, at ED and ES (or in the frames that were segmented)."""
    from CardiacSegLib.report.pictures import study_picture

    study = reading.study
    phases = [i for i in (study.ed, study.es) if i is not None and i in reading.labels]
    shown = {i: reading.labels[i] for i in (phases or sorted(reading.labels)[:2])}
    study_picture(study, shown, path)
    return path
