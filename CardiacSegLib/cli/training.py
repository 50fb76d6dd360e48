"""``train``, ``crossval`` and ``tables``."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CardiacSegLib.cli import add_debug, add_device, add_progress
from CardiacSegLib.errors import CardiacSegError, TrainingError
from CardiacSegLib.networks.config import MOST_CHANNELS
from CardiacSegLib.progress import Reporter, clock, reporter
from CardiacSegLib.training.presets import AUGMENTATIONS, PRESETS, get_preset

if TYPE_CHECKING:
    from CardiacSegLib.training.config import Preset
    from CardiacSegLib.training.runs import TrainSettings
    from CardiacSegLib.training.trainer import Progress


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    p = commands.add_parser(
        "train",
        help="train a network on patients with manual masks",
        description="Train one network on the patients below DATA (ACDC's layout). Stopped at any moment, the same "
        "command goes on after the last finished epoch.",
        epilog="Examples:\n  cardiacseg train acdc/training --output runs/mine\n"
        "  torchrun --nproc-per-node 4 -m CardiacSegLib.cli train acdc/training --output runs/mine",
    )
    _add_training_options(p)
    p.add_argument(
        "--validate",
        metavar="NAMES",
        help="patients that validate: joined by commas, a file with one a line, or 'none' (one in five of each group)",
    )
    p.set_defaults(run=_train)

    p = commands.add_parser(
        "crossval",
        help="cross-validate a preset over patients",
        description="k-fold cross-validation over the patients below DATA, stratified by diagnosis group. Resumable; "
        "any fold alone with --fold.",
        epilog="Example:\n  cardiacseg crossval acdc/training --preset paper-2d-dice --output runs/paper-2d-dice",
    )
    _add_training_options(p)
    p.add_argument("--folds", metavar="K", type=int, default=5, help="number of folds (%(default)s)")
    p.add_argument("--fold", metavar="N", type=int, action="append", help="train only this fold, from 0 (repeatable)")
    p.set_defaults(run=_crossval)

    p = commands.add_parser(
        "tables",
        help="the paper's Tables 1-4 for cross-validations, beside the paper's own figures",
        description="Writes tables.md, tables.csv and tables.tex: the paper's Tables 1-4 for cross-validations.",
        epilog="Example:\n  cardiacseg tables runs/paper-2d-ce runs/paper-2d-dice --output tables",
    )
    p.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="output folders of 'crossval'")
    p.add_argument("--output", metavar="DIR", type=Path, default=Path("tables"), help="folder (%(default)s)")
    add_debug(p)
    p.set_defaults(run=_tables)


def _add_training_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("data", metavar="DATA", type=Path, help="folder of patient folders with frames and manual masks")
    p.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder of the run")
    p.add_argument("--preset", default="default-2d", help=f"{', '.join(sorted(PRESETS))} (%(default)s)")
    p.add_argument("--epochs", metavar="N", type=int, help="instead of the preset's")
    p.add_argument("--batch-size", metavar="N", type=int, help="instead of the preset's")
    p.add_argument("--learning-rate", metavar="R", type=float, help="instead of the preset's")
    p.add_argument("--augmentation", choices=sorted(AUGMENTATIONS), help="instead of the preset's")
    p.add_argument("--slices", metavar="N", type=int, choices=(1, 3, 5), help="input slices of a 2D network")
    p.add_argument("--width", metavar="N", type=int, help="channels at full resolution, the other levels in proportion")
    p.add_argument("--upsampling", choices=("transposed", "subpixel"), help="instead of the preset's")
    add_device(p)
    p.add_argument("--seed", metavar="N", type=int, default=0, help="random seed (%(default)s)")
    p.add_argument("--deterministic", action="store_true", help="repeatable to the bit on a GPU too (slower)")
    p.add_argument(
        "--start-from",
        metavar="MODEL",
        type=Path,
        help="begin with these weights: a model of the same preset, as wide or narrower, that was not trained on who "
        "validates; for crossval the folder of one with the same folds",
    )
    p.add_argument("--full-precision", action="store_true", help="float32 instead of bfloat16")
    p.add_argument("--cache", metavar="DIR", type=Path, help="folder for the prepared images (OUTPUT/prepared)")
    add_progress(p)
    add_debug(p)


def _preset(args: argparse.Namespace) -> Preset:
    """The chosen preset with what the command line changes in it."""
    preset = get_preset(args.preset)
    changes = {"epochs": args.epochs, "batch_size": args.batch_size, "learning_rate": args.learning_rate}
    changes = {key: value for key, value in changes.items() if value is not None}
    if any(value <= 0 for value in changes.values()):
        raise TrainingError("Epochs, batch size and learning rate must be positive.")
    training = replace(preset.training, **changes)
    network = preset.network
    if args.slices is not None:
        if network.dims == 3:
            raise TrainingError("--slices is for 2D networks; a 3D network reads the whole stack.")
        network = replace(network, in_slices=args.slices)
    if args.width is not None:
        widest = MOST_CHANNELS * network.features[0] // max(network.features)
        if not 1 <= args.width <= widest:
            raise TrainingError(f"--width must be from 1 to {widest} with the preset '{preset.name}'.")
        network = replace(network, features=tuple(args.width * f // network.features[0] for f in network.features))
    if args.upsampling:
        network = replace(network, upsampling=args.upsampling)
    augmentation = AUGMENTATIONS[args.augmentation] if args.augmentation else preset.augmentation
    # A changed recipe carries another name, so that no table takes it for the paper's; epochs are told apart there.
    marks = {
        "batch": args.batch_size,
        "rate": args.learning_rate,
        "slices": args.slices,
        "width": args.width,
        "": args.upsampling,
        "augmentation-": args.augmentation,
    }
    name = "+".join([preset.name, *(f"{key}{value}" for key, value in marks.items() if value is not None)])
    return replace(preset, name=name, training=training, network=network, augmentation=augmentation)


#: Seconds between two updates: a bar is watched, lines are kept in a log for hours.
_EVERY = {"bar": 0.3, "json": 2.0}


def _settings(args: argparse.Namespace, progress: Reporter) -> TrainSettings:
    from CardiacSegLib.training.runs import TrainSettings

    def on_stage(title: str) -> None:
        if progress.title != title:
            progress.stage(title)

    def on_pack(done: int, total: int) -> None:
        on_stage("Preparing patients")
        progress.update(done, total)

    def on_progress(title: str, p: Progress) -> None:
        on_stage(title)
        dice = "—" if p.val_dice is None else f"{p.val_dice:.4f}"
        left = "" if p.seconds_left is None else f"  {clock(p.seconds_left)} left"
        note = f"epoch {p.epoch}/{p.epochs}  loss {p.loss:.4f}  best Dice {dice}{left}"
        loss = p.loss if math.isfinite(p.loss) else None
        facts = {"epoch": p.epoch, "epochs": p.epochs, "loss": loss, "best_dice": p.val_dice}
        progress.update(p.step, p.steps, note, **facts, seconds_left=p.seconds_left)
        if p.step == p.steps and not progress.live:
            progress.say(f"{title} {note}")

    return TrainSettings(
        device=args.device,
        seed=args.seed,
        mixed_precision=False if args.full_precision else None,
        deterministic=args.deterministic,
        cache=args.cache,
        start_from=args.start_from,
        on_pack=on_pack,
        on_progress=on_progress,
        on_warning=lambda text: progress.say(f"Warning: {text}"),
    )


def _train(args: argparse.Namespace) -> int:
    preset, validation = _preset(args), _validation(args.validate)
    with reporter(args.progress, "Training", every=_EVERY[args.progress]) as progress:
        progress.stage("Loading PyTorch")
        from CardiacSegLib.training.runs import train

        model = train(args.data, args.output, preset, validation, _settings(args, progress))
    progress.finish(f"The model is {model}; its log and curves are beside it.", {"model": str(model)})
    return 0


def _validation(text: str | None) -> list[str] | None:
    if text is None:
        return None
    if text == "none":
        return []
    if "," not in text and Path(text).is_file():
        try:
            text = Path(text).read_text(encoding="utf-8-sig").replace("\n", ",")
        except (OSError, UnicodeDecodeError) as error:
            raise CardiacSegError(
                f"The list of patients '{text}' cannot be read as text. Save it as UTF-8, a name a line."
            ) from error
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise CardiacSegError("--validate names no patient. Give names joined by commas, a file of names, or 'none'.")
    return names


def _crossval(args: argparse.Namespace) -> int:
    preset = _preset(args)
    with reporter(args.progress, "Cross-validation", every=_EVERY[args.progress]) as progress:
        progress.stage("Loading PyTorch")
        from CardiacSegLib.training.runs import cross_validate

        settings = _settings(args, progress)
        evaluation = cross_validate(args.data, args.output, preset, settings, folds=args.folds, only=args.fold)
    if evaluation is not None:
        path = args.output / "evaluation.json"
        text = f"{evaluation.to_text()}\nFigures are in {path}; 'cardiacseg tables {args.output}' makes the tables."
        progress.finish(text, {"evaluation": str(path)})
    return 0


def _tables(args: argparse.Namespace) -> int:
    from CardiacSegLib.report.tables import write_tables

    for path in write_tables(args.runs, args.output):
        print(path)
    return 0
