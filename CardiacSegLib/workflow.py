"""The main job: a study comes in, label maps and ``function.json`` go out. Shared by command line, batch and Slicer."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from CardiacSegLib import __version__
from CardiacSegLib.anonymous import anonymous_name_in, anonymous_study, without_names
from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.files import all_or_none, settle
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.acdc import whole_cycle_files
from CardiacSegLib.readers.images import stem_of
from CardiacSegLib.study import CineStudy, Label, LabelMap
from CardiacSegLib.writers import write_json, write_label_map

if TYPE_CHECKING:
    from CardiacSegLib.inference import Segmenter

FUNCTION_FILE, PICTURE_FILE = "function.json", "contours.png"
#: Bytes of a study's name that its files can carry, beside frame number and ending.
LONGEST_NAME = 200
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
    """

    whole_cycle: bool = False
    ed: int | None = None
    es: int | None = None
    overwrite: bool = False
    picture: bool = False
    anonymous: bool = False


class ResultsExist(CardiacSegError):
    """Results of this study are in the output folder already, and must not be replaced."""


@dataclass
class Reading:
    """A study, its label maps by frame index, and its figures as ``function.json`` holds them."""

    study: CineStudy
    labels: Mapping[int, LabelMap]
    function: dict[str, Any]
    files: list[Path] = field(default_factory=list)


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
    begin("Reading the study")
    study, pair = _read_named(path, es_path, options, output)
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
    old = _old_results(output, study, pair)
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
    segmentation = segmenter.segment(study, wanted, on_progress=on_progress)
    notes = list(segmentation.warnings)
    if not known and study.frames > 1:
        study, note = _with_found_phases(study, segmentation.labels)
        notes += [note] if note else []
    labels = segmentation.labels
    phases = sorted({i for i in (study.ed, study.es) if i is not None})
    if phases and not options.whole_cycle:  # without a phase every frame is kept: somebody has to look
        labels = {i: labels[i] for i in phases}
    function = measure_labels(study, labels, model=segmenter.name, notes=notes)
    return Reading(study, labels, function)


def measure_labels(
    study: CineStudy, labels: Mapping[int, LabelMap], *, model: str | None, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """The content of ``function.json`` for label maps by frame index; one frame of unknown phase gives volumes only."""
    from CardiacSegLib.function.volumes import (
        function_json,
        plausibility_warnings,
        single_frame_function,
        ventricular_function,
    )

    single = study.frames == 1 and study.ed is None and study.es is None
    ed, es = (None if index is None else labels.get(index) for index in (0 if single else study.ed, study.es))
    figures = single_frame_function(ed) if single and ed is not None else ventricular_function(ed, es)
    return function_json(
        figures,
        ed_frame=_frame_number(study, study.ed),
        es_frame=_frame_number(study, study.es),
        model=model,
        version=__version__,
        warnings=[*study.warnings, *notes, *plausibility_warnings(figures, ed, es)],
    )


def _frame_number(study: CineStudy, index: int | None) -> int | None:
    """Number in the cine; two files of a pair do not say theirs."""
    return None if index is None or study.kind == "pair" else study.frame_numbers[index]


def _read(path: Path, es_path: Path | None, options: SegmentOptions) -> CineStudy:
    """The study; of an ACDC folder the whole cine also where a chosen frame is neither its ED nor its ES."""
    study = read_study(path, es_path, whole_cycle=options.whole_cycle)
    chosen = {n for n in (options.ed, options.es) if n is not None}
    if study.kind == "acdc" and not chosen <= set(study.frame_numbers) and whole_cycle_files(path):
        study = read_study(path, whole_cycle=True)
    return _with_chosen_phases(study, options)  # here already: a wrong frame is told before torch is loaded


def _with_chosen_phases(study: CineStudy, options: SegmentOptions) -> CineStudy:
    if options.ed is None and options.es is None:
        return study
    if study.frames == 1:
        raise StudyError(f"'{study.name}' is a single frame: ED and ES cannot be chosen in it.")
    ed = study.ed if options.ed is None else study.index_of(options.ed)
    es = study.es if options.es is None else study.index_of(options.es)
    return study.with_phases(ed, es)


def _with_found_phases(study: CineStudy, labels: Mapping[int, LabelMap]) -> tuple[CineStudy, str | None]:
    """ED and ES as the largest and smallest LV volume, where the user or the study did not name them."""
    from CardiacSegLib.function.phases import find_phases, time_volume_curve

    volumes = time_volume_curve([labels[i] for i in range(study.frames)])[Label.LV]
    if not (volumes > 0).any():
        return study, "ED and ES could not be found: the left ventricle was not found in any frame."
    try:
        ed, es = find_phases(volumes)
    except StudyError as error:
        return study, str(error)
    return study.with_phases(ed if study.ed is None else study.ed, es if study.es is None else study.es), None


def label_files(study: CineStudy, frames: Sequence[int], pair: tuple[Path, Path] | None = None) -> dict[int, str]:
    """Names of the label maps by frame index: ``<stem>_seg``, or ``<stem>_frameFF_seg`` of several frames."""
    if pair is not None:
        stems = [stem_of(p) for p in pair]
        if stems[0] == stems[1]:
            stems = [f"{stems[0]}_ED", f"{stems[1]}_ES"]
        return {i: f"{stems[i]}_seg.nii.gz" for i in frames}
    if study.frames == 1 and study.kind != "acdc":
        return {i: f"{study.name}_seg.nii.gz" for i in frames}
    return {i: f"{study.name}_frame{study.frame_numbers[i]:02d}_seg.nii.gz" for i in frames}


def write_reading(
    reading: Reading, output: Path, options: SegmentOptions, pair: tuple[Path, Path] | None = None
) -> None:
    """Write the label maps (ACDC's numbers), the picture if asked for, and ``function.json`` last."""
    for index, name in label_files(reading.study, list(reading.labels), pair).items():
        write_label_map(output / name, reading.labels[index])
        reading.files.append(output / name)
    if options.picture and any(labels.data.any() for labels in reading.labels.values()):
        reading.files.append(write_picture(reading, output / PICTURE_FILE))
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


def _old_results(output: Path, study: CineStudy, pair: tuple[Path, Path] | None) -> list[Path]:
    """Files in the output folder that an earlier reading of this study left: ``function.json`` first."""
    if output.exists() and not output.is_dir():
        raise CardiacSegError(f"'{output}' is a file; the output must be a folder.")
    if not output.is_dir():
        return []
    ours = {FUNCTION_FILE, PICTURE_FILE, f"{study.name}_seg.nii.gz"}
    ours.update(label_files(study, range(study.frames), pair).values())
    numbered = re.compile(rf"{re.escape(study.name)}_frame[0-9]+_seg\.nii\.gz")
    found = [p for p in output.iterdir() if p.is_file() and (p.name in ours or numbered.fullmatch(p.name))]
    return sorted(found, key=lambda p: (p.name != FUNCTION_FILE, p.name))
