"""A training run and a cross-validation in a folder: resumable, any fold alone, and what came of them.

A run folder holds::

    run.json            preset, folds, device, time: what report.tables reads
    splits.json         the validation patients of every fold; of a run begun with another, its models' check sums
    evaluation.json     figures over the validation patients of all folds that are done
    fold0/              last.pt, model.pt, log.jsonl, training.svg, predictions/, fold.json (written last)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

import torch

from CardiacSegLib import __version__
from CardiacSegLib.errors import ModelError, TrainingError
from CardiacSegLib.inference import Segmenter, choose_device, supports_mixed_precision
from CardiacSegLib.metrics.evaluation import Evaluation, evaluate_pairs
from CardiacSegLib.models import find_model, load_model
from CardiacSegLib.networks.unet import build_network
from CardiacSegLib.readers.acdc import is_acdc_folder, read_acdc_folder, read_acdc_truth
from CardiacSegLib.readers.images import read_label_map
from CardiacSegLib.report.plots import read_log, training_picture
from CardiacSegLib.study import CineStudy, LabelMap
from CardiacSegLib.training import distributed
from CardiacSegLib.training.config import Preset
from CardiacSegLib.training.dataset import Case, PackedSet, find_cases, pack
from CardiacSegLib.training.splits import five_folds, split_by_name
from CardiacSegLib.training.trainer import LOG, MODEL, OTHER_VERSION, SPLIT, Progress, RunOptions, Trainer, begin_with
from CardiacSegLib.workflow import label_files
from CardiacSegLib.writers import write_json, write_label_map


@dataclass
class TrainSettings:
    """How a run is carried out: device by name, seed, precision, callbacks, and a folder for the prepared set."""

    device: str = "auto"
    seed: int = 0
    mixed_precision: bool | None = None
    deterministic: bool = False
    cache: Path | None = None
    on_pack: Callable[[int, int], None] | None = None
    on_progress: Callable[[str, Progress], None] | None = None
    #: Told what a user should know of a run that goes on nevertheless.
    on_warning: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] | None = None
    card: str = ""
    #: A model to begin with, by name or file; of a cross-validation the folder of another with the same folds.
    start_from: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def train(root: Path, output: Path, preset: Preset, validation: Sequence[str] | None, settings: TrainSettings) -> Path:
    """Train one network on the patients below ``root``; goes on where an earlier run in ``output`` was stopped.

    Args:
        root: folder of ACDC-like patient folders with manual masks.
        output: gets ``model.pt``, ``last.pt``, ``log.jsonl``, ``training.svg`` and ``split.json``.
        preset: the recipe.
        validation: names of the patients that validate; empty trains on all, ``None`` takes one in five of each group.
        settings: device, seed and so on.

    Returns:
        The model file.

    Raises:
        TrainingError: the data or the settings do not allow it, or the model to begin with was trained on patients that
            are to validate.
    """
    cases = find_cases(root)
    if validation is None:
        validation = five_folds(cases, min(5, len(cases)))[0] if len(cases) > 1 else []
    training_names, validation_names = split_by_name(cases, validation)
    _say_left_out(root, cases, settings.on_warning)
    with _Together(settings.device) as device:
        seen = None
        if settings.start_from is not None:
            seen = _trained_on(settings.start_from, validation_names, settings.on_warning)
            _fits(settings.start_from, preset)
        packed = pack(cases, preset.preprocessing, settings.cache or output / "prepared", settings.on_pack)
        _train_one(packed, training_names, validation_names, output, preset, settings, device, "training", seen)
    return output / MODEL


def cross_validate(
    root: Path,
    output: Path,
    preset: Preset,
    settings: TrainSettings,
    *,
    folds: int = 5,
    only: Sequence[int] | None = None,
) -> Evaluation | None:
    """Cross-validate a recipe over the patients below ``root``; finished folds are kept, a broken-off one goes on.

    Args:
        only: the folds to train now, from 0; the evaluation covers all that are done.

    Returns:
        The evaluation over all finished folds; ``None`` where none is finished (stopped early).

    Raises:
        TrainingError: the data or the settings do not allow it, or ``output`` holds another cross-validation.
    """
    wanted = list(range(folds)) if only is None else sorted(set(only))
    if [k for k in wanted if not 0 <= k < folds]:
        raise TrainingError(f"Folds count from 0 to {folds - 1}; asked for {wanted}.")
    cases = find_cases(root)
    splits = five_folds(cases, folds)
    start: dict[str, str] = {}
    if settings.start_from is not None:
        _same_folds(settings.start_from, splits)
        ahead = [k for k in wanted if not _is_done(output, k)]
        start = _start_models(settings.start_from, ahead, folds)
        for k in ahead:
            _fits(_fold_model(settings.start_from, k), preset)
    _say_left_out(root, cases, settings.on_warning)
    now = {"folds": splits, "preset": preset.to_dict(), "seed": settings.seed, "masks": _digest_of_masks(cases)}
    recorded = _same_run(output, now, start)
    with _Together(settings.device) as device:
        packed = pack(cases, preset.preprocessing, settings.cache or output / "prepared", settings.on_pack)
        if distributed.rank() == 0:
            write_json(output / "splits.json", recorded)
        for fold in wanted:
            folder = output / f"fold{fold}"
            if _is_done(output, fold):
                own_cases = [c for c in cases if c.name in splits[fold]]
                if distributed.rank() == 0 and not _are_predicted(own_cases, folder):
                    _predict(own_cases, folder, device)
                continue
            training_names, validation_names = split_by_name(cases, splits[fold])
            own = settings
            if settings.start_from is not None:
                own = replace(settings, start_from=_fold_model(settings.start_from, fold))
            title, seen = f"fold {fold}", training_names  # by the networks of the same fold
            done = _train_one(packed, training_names, validation_names, folder, preset, own, device, title, seen)
            if not done:
                break
            if distributed.rank() == 0:
                _predict([c for c in cases if c.name in validation_names], folder, device)
                epochs = read_log(folder / LOG)
                write_json(folder / "fold.json", {"seconds": round(sum(float(e["seconds"]) for e in epochs), 1)})
            distributed.barrier()
        return _summarise(cases, output, preset, folds, device) if distributed.rank() == 0 else None


def _digest_of_masks(cases: Sequence[Case]) -> str:
    """What tells that the manual masks are still those that a cross-validation began with."""
    digest = hashlib.sha256()
    for case in cases:
        for path in sorted(case.folder.glob("*_gt.nii*")):
            digest.update(f"{case.name}/{path.name}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _seconds(output: Path, fold: int) -> float | None:
    """What a fold took, by the file that is written last; ``None`` where that is not there or cannot be read."""
    try:
        return float(json.loads((output / f"fold{fold}" / "fold.json").read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_done(output: Path, fold: int) -> bool:
    return _seconds(output, fold) is not None


def _say_left_out(root: Path, cases: Sequence[Case], warn: Callable[[str], None] | None) -> None:
    """Name folders beside the patients that hold frames and are nevertheless none to train with."""
    known, left_out = {case.folder for case in cases}, []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and p not in known):
        if any(not file.name.startswith(".") for file in folder.glob("*_frame*.nii*")):
            left_out.append(f"{folder.name} ({'no manual masks' if is_acdc_folder(folder) else 'no Info.cfg'})")
    if left_out and warn and distributed.rank() == 0:
        named = ", ".join(left_out[:5]) + (" and others" if len(left_out) > 5 else "")
        warn(f"{len(left_out)} of {len(left_out) + len(cases)} folders in '{root}' are left out: {named}.")


def _fold_model(run: Path, fold: int) -> Path:
    return run / f"fold{fold}" / MODEL


class _Together:
    """The device, and under ``torchrun`` the group of processes, for the time of a run."""

    def __init__(self, device: str) -> None:
        self.device = choose_device(device)

    def __enter__(self) -> torch.device:
        return distributed.start(self.device)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        lost = error
        if error is None:
            try:
                distributed.barrier()  # gloo may abort a process that leaves while others still hear from it
            except RuntimeError as broken:
                if not distributed.lost_peer(broken):
                    raise
                lost = broken
        if distributed.lost_peer(lost):  # the group is broken: leaving it in order may wait for ever
            raise TrainingError(
                f"Another of the {distributed.world_size()} processes of this training ended. All epochs that were "
                "finished are kept: start the same command again to go on."
            ) from lost
        distributed.stop()


def _train_one(
    packed: PackedSet,
    training_names: Sequence[str],
    validation_names: Sequence[str],
    folder: Path,
    preset: Preset,
    settings: TrainSettings,
    device: torch.device,
    title: str,
    seen: Sequence[str] | None,
) -> bool:
    """Train in a folder; false if it was stopped before the last epoch.

    ``seen``: the patients that the model to begin with was trained on, as far as that is known.
    """
    callback = settings.on_progress if distributed.rank() == 0 else None
    mixed = supports_mixed_precision(device) if settings.mixed_precision is None else settings.mixed_precision
    options = RunOptions(
        device=device,
        seed=settings.seed,
        mixed_precision=mixed,
        deterministic=settings.deterministic,
        on_progress=None if callback is None else lambda p: callback(title, p),
        should_stop=settings.should_stop,
        facts={
            **settings.facts,
            "training_patients": len(training_names),
            "validation_patients": len(validation_names),
        },
        split={"training": list(training_names), "validation": list(validation_names)},
        card=settings.card,
        start_from=None if settings.start_from is None else load_model(settings.start_from),
        start_training=None if seen is None else list(seen),
    )
    folder.mkdir(parents=True, exist_ok=True)
    training = packed.only(training_names).to(device)
    validation = packed.only(validation_names) if validation_names else None
    trainer = Trainer(preset, training, validation, folder, options)
    trainer.run()
    if trainer.epoch >= preset.training.epochs:
        _refuse_missing(folder, MODEL, LOG)
    if distributed.rank() == 0:
        training_picture(folder / LOG, folder / "training.svg")
    return trainer.epoch >= preset.training.epochs


def _predict(cases: Sequence[Case], folder: Path, device: torch.device) -> None:
    """Label maps of the validation patients, as the command line would write them."""
    _refuse_missing(folder, MODEL)
    segmenter = Segmenter(folder / MODEL, str(device))
    for case in cases:
        study = _named(case)
        result = segmenter.segment(study)
        for index, name in label_files(study, list(result.labels)).items():
            write_label_map(folder / "predictions" / name, study.as_stored(result.labels[index]))


def _refuse_missing(folder: Path, *names: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise TrainingError(
                f"The training in '{folder}' has ended, but its {name} is gone. Put it back, or delete that folder to "
                "train again."
            )


def _are_predicted(cases: Sequence[Case], folder: Path) -> bool:
    studies = map(_named, cases)
    names = [name for study in studies for name in label_files(study, range(study.frames)).values()]
    return all((folder / "predictions" / name).is_file() for name in names)


def _named(case: Case) -> CineStudy:
    """A patient's study by the name of the folder: files may be called alike in all of them."""
    return replace(read_acdc_folder(case.folder), name=case.name)


def _summarise(
    cases: Sequence[Case], output: Path, preset: Preset, folds: int, device: torch.device
) -> Evaluation | None:
    took = {k: seconds for k in range(folds) if (seconds := _seconds(output, k)) is not None}
    if not took:
        return None
    done = list(took)
    evaluation = evaluate_pairs(_pairs(cases, output, done))
    write_json(output / "evaluation.json", evaluation.to_json())
    facts = {
        "preset": preset.name,
        "folds_done": done,
        "folds": folds,
        "epochs": preset.training.epochs,
        "dims": preset.network.dims,
        "loss": preset.loss.kind,
        "version": __version__,
        "seconds": round(sum(took.values()), 1),
        "device": device.type,
    }
    write_json(output / "run.json", facts)
    return evaluation


def _pairs(cases: Sequence[Case], output: Path, folds: Sequence[int]) -> list[tuple[str, str, LabelMap, LabelMap]]:
    splits = json.loads((output / "splits.json").read_text(encoding="utf-8"))["folds"]
    by_name, pairs = {c.name: c for c in cases}, []
    for k in folds:
        for name in splits[k]:
            study = _named(by_name[name])
            truths = read_acdc_truth(by_name[name].folder)
            for index, file in label_files(study, range(study.frames)).items():
                truth = truths[study.frame_numbers[index]]
                phase = "ED" if index == study.ed else "ES"
                pairs.append((name, phase, read_label_map(output / f"fold{k}" / "predictions" / file), truth))
    return pairs


def _same_folds(other: Path, splits: list[list[str]]) -> None:
    """Refuse to begin with networks that have seen the patients they would be validated on."""
    try:
        before = json.loads((other / "splits.json").read_text(encoding="utf-8"))["folds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"'{other}' is not the folder of a cross-validation: it has no splits.json.") from error
    if before != splits:
        raise TrainingError(
            f"The cross-validation in '{other}' has other folds: its networks have seen patients that they would be "
            "validated on. Begin with one of the same patients and number of folds."
        )


def _fits(start: Path, preset: Preset) -> None:
    """Refuse a model to begin with whose weights the preset's network has no place for, before anything is prepared."""
    begin_with(build_network(preset.network), load_model(start))


def _start_models(other: Path, wanted: Sequence[int], folds: int) -> dict[str, str]:
    """Check sums of the networks to begin with, by fold: of all that the other run has, at least of the wanted ones."""
    for fold in wanted:
        if not _fold_model(other, fold).is_file():
            raise TrainingError(
                f"'{_fold_model(other, fold)}' is missing: fold {fold} has no network to begin with. Finish that "
                "cross-validation first, or train only the folds that it has (--fold)."
            )
    files = {str(fold): _fold_model(other, fold) for fold in range(folds)}
    try:
        return {k: hashlib.sha256(file.read_bytes()).hexdigest() for k, file in files.items() if file.is_file()}
    except OSError as error:
        raise TrainingError(f"A network to begin with in '{other}' cannot be read: {error.strerror}.") from error


def _same_run(output: Path, now: dict[str, Any], start: dict[str, str]) -> dict[str, Any]:
    """What ``splits.json`` is to hold; refuse where it holds other settings."""
    path = output / "splits.json"
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            sums = dict(before.get("start", start))  # older versions did not record it
            same_preset = (
                Preset.from_dict(before.get("preset")).of_training == Preset.from_dict(now["preset"]).of_training
            )
        except ModelError as error:
            raise TrainingError(OTHER_VERSION.format(path=path)) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise TrainingError(f"'{path}' is damaged. Delete it, or give another output folder.") from error
        now = json.loads(json.dumps(now))
        before.setdefault("masks", now["masks"])  # older versions did not record them
        changed = [key for key in now if key != "preset" and before.get(key) != now[key]]
        changed += [] if same_preset else ["preset"]
        # The other run may have got more folds meanwhile: those of both times must be the same.
        both = sums.keys() & start.keys()
        if bool(sums) != bool(start) or (start and not both) or any(sums[k] != start[k] for k in both):
            changed.append("networks to begin with")
        if changed:
            raise TrainingError(
                f"'{output}' holds a cross-validation with other settings ({', '.join(changed)}). "
                "Give another output folder, or the same settings to go on."
            )
        start = {**sums, **start}
    return {**now, "start": start}


def _trained_on(name: Path, validation: Sequence[str], warn: Callable[[str], None] | None) -> list[str] | None:
    """The patients that a model to begin with was trained on, ``None`` if not known; refused where they validate."""
    file = find_model(name)
    path, before = file.parent / SPLIT, "started_from" in load_model(file).facts
    seen: set[str] | None = None
    if path.is_file():
        try:
            split = json.loads(path.read_text(encoding="utf-8"))
            seen = set(split["training"])
            earlier = split.get("start_training") if before else []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"'{path}' is damaged: it does not say which patients '{file}' was trained on. Put the whole file "
                "there again, or delete it to begin without knowing."
            ) from error
        leaked = len(seen.union(earlier or []).intersection(validation))
        if leaked:
            raise TrainingError(
                f"'{file}' was trained on {leaked} of the {len(validation)} patients that are to validate ('{path}' "
                "names them): their figures would be too good. Validate on patients that it has not seen "
                "(--validate), or begin with another model."
            )
        seen = None if earlier is None else seen.union(earlier)
    if seen is None and validation and warn and distributed.rank() == 0:
        warn(
            f"It is not known which patients '{file}' was trained on: there is no {SPLIT} beside it"
            f"{' that says so' if path.is_file() else ''}. Where they validate here, their figures are too good."
        )
    return None if seen is None else sorted(seen)
