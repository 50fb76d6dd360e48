"""``evaluate``, ``figures``, ``measure`` and ``info``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from CardiacSegLib import DISCLAIMER, __version__
from CardiacSegLib.cli import add_debug, add_device
from CardiacSegLib.cli.segmenting import add_diagnosis, add_patient, figures_text, patient_of
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.progress import printable
from CardiacSegLib.study import CineStudy


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    p = commands.add_parser(
        "evaluate",
        help="compare predicted with manual masks",
        description="Dice, Hausdorff, 95 % Hausdorff and mean surface distance in 3D mm, and agreement of the clinical "
        "figures, of patientNNN_frameFF_seg.nii.gz below PRED with patientNNN_frameFF_gt.nii.gz below TRUTH.",
        epilog="Example:\n  cardiacseg evaluate results acdc/training --json figures.json",
    )
    p.add_argument("pred", metavar="PRED", type=Path, help="folder of predicted label maps")
    p.add_argument("truth", metavar="TRUTH", type=Path, help="folder of manual masks, with Info.cfg")
    p.add_argument("--json", metavar="FILE", help="also write all figures as JSON; - is standard output")
    p.add_argument("--plots", metavar="DIR", type=Path, help="also draw Bland-Altman and scatter pictures (SVG)")
    add_debug(p)
    p.set_defaults(run=_evaluate)

    p = commands.add_parser(
        "figures",
        help="the paper's Figures 3 and 4 for a patient",
        description="Draws image, truth, 2D and 3D result: figure3.png (some slices) and figure4.png (all).",
        epilog="Example:\n  cardiacseg figures acdc/training/patient001 --model-2d runs/2d/fold0/model.pt "
        "--model-3d runs/3d/fold0/model.pt --output figures",
    )
    p.add_argument("patient", metavar="PATIENT", type=Path, help="an ACDC patient folder with manual masks")
    p.add_argument("--model-2d", metavar="NAME|FILE", default="fast", help="(%(default)s)")
    p.add_argument("--model-3d", metavar="NAME|FILE", help="left out: the 3D column stays empty")
    p.add_argument("--phase", choices=("ED", "ES"), default="ED", help="(%(default)s)")
    p.add_argument("--output", metavar="DIR", type=Path, default=Path("figures"), help="folder (%(default)s)")
    add_device(p)
    add_debug(p)
    p.set_defaults(run=_figures)

    p = commands.add_parser(
        "measure",
        help="volumes, EF and mass from label maps of any source",
        description="LV and RV EDV, ESV, SV and EF, myocardial volume and mass from an ED and an ES label map.",
        epilog="Example:\n  cardiacseg measure ed_seg.nii.gz es_seg.nii.gz --labels acdc --height 178 --weight 81",
    )
    p.add_argument("ed", metavar="ED", type=Path, help="label map at end diastole (or the only one)")
    p.add_argument("es", metavar="ES", type=Path, nargs="?", help="label map at end systole")
    p.add_argument("--labels", choices=("acdc", "mnms"), default="acdc", help="how the labels count (%(default)s)")
    p.add_argument("--json", metavar="FILE", help="also write function.json's keys; - is standard output")
    add_patient(p)
    add_diagnosis(p)
    add_debug(p)
    p.set_defaults(run=_measure)

    p = commands.add_parser(
        "info",
        help="what a study or a model file holds; without either, this installation",
        description="Says what a study or a model is. Without one: version, models, device.",
        epilog="Examples:\n  cardiacseg info dicom_folder\n  cardiacseg info fast",
    )
    p.add_argument("what", metavar="STUDY|MODEL", nargs="?", help="a study, a model file or a model's name")
    add_debug(p)
    p.set_defaults(run=_info)


def _write_json(target: str, values: dict[str, Any]) -> None:
    from CardiacSegLib.writers import write_json

    if target == "-":
        print(json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False))
    else:
        write_json(Path(target), values)


def _evaluate(args: argparse.Namespace) -> int:
    from CardiacSegLib.metrics.evaluation import evaluate_folder

    evaluation = evaluate_folder(args.pred, args.truth)
    if args.json:
        _write_json(args.json, evaluation.to_json())
    if args.json != "-":
        print(evaluation.to_text())
    if args.plots:
        from CardiacSegLib.report.agreement_plots import write_agreement_plots

        for path in write_agreement_plots(evaluation, args.plots):
            print(path, file=sys.stderr)
    return 0


def _figures(args: argparse.Namespace) -> int:
    from CardiacSegLib.inference import Segmenter
    from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
    from CardiacSegLib.report.figures import Comparison, figure_3, figure_4
    from CardiacSegLib.report.pictures import save_png

    study, truths = read_acdc_folder(args.patient), read_acdc_truth(args.patient)
    index = study.ed if args.phase == "ED" else study.es
    assert index is not None  # an ACDC folder always names both
    found = [
        Segmenter(name, args.device).segment(study, [index]).labels[index] if name else None
        for name in (args.model_2d, args.model_3d)
    ]
    truth = truths[study.frame_numbers[index]]
    comparison = Comparison(study.frame(index), truth, found[0], found[1])
    # Figure 3 shows three levels: base, middle, apex.
    inside = [z for z in range(study.slices) if (truth.data[z] > 0).any()] or [0]
    chosen = sorted({inside[int(share * (len(inside) - 1))] for share in (0.15, 0.5, 0.85)})
    for name, picture in (
        ("figure3.png", figure_3([(comparison, z) for z in chosen])),
        ("figure4.png", figure_4(comparison)),
    ):
        print(save_png(picture, args.output / name))
    return 0


def _measure(args: argparse.Namespace) -> int:
    from CardiacSegLib.readers.images import label_map_and_doubts, read_label_map
    from CardiacSegLib.workflow import measure_labels

    ed, doubts = label_map_and_doubts(args.ed, args.labels)
    es = read_label_map(args.es, args.labels) if args.es else None
    if es is not None and not ed.geometry.matches(es.geometry):
        raise CardiacSegError(f"'{args.ed}' and '{args.es}' lie on different grids; ED and ES must be of one cine.")
    labels = {0: ed} if es is None else {0: ed, 1: es}
    study = CineStudy(
        np.broadcast_to(np.uint8(0), (len(labels), *ed.geometry.shape)),  # there are no images, nor are they needed
        ed.geometry,
        ed=None if es is None else 0,
        es=None if es is None else 1,
        patient=patient_of(args),
        kind="pair",
        warnings=doubts,
    )
    function = measure_labels(study, labels, model=None, bsa_formula=args.bsa or "du_bois", diagnosis=args.diagnosis)
    if args.json:
        _write_json(args.json, function)
    if args.json != "-":
        table = figures_text(function)
        # Two label maps have no frame numbers to name.
        print(table if es is None else table.rsplit("\n", 1)[0])
        for line in _beside_ranges(function):
            print(line)
        for warning in function["warnings"]:
            print(f"Warning: {warning}", file=sys.stderr)
    return 0


def _beside_ranges(function: dict[str, Any]) -> Iterator[str]:
    """A line for each figure that is known per m² or has a reference range, and one for the likeness to groups."""
    from CardiacSegLib.report.measures import figure_rows

    for row in figure_rows(function):
        beside = [row.value_text, row.per_m2_text]
        beside += [f"{r.verdict} ({r.text})" for r in (row.range, row.range_per_m2) if r is not None and r.verdict]
        if any(beside[1:]):
            yield f"{row.figure.structure.name} {row.figure.title.lower()}: {', '.join(filter(None, beside))}"
    likeness = function.get("diagnosis")
    if likeness:
        chances = sorted(likeness["probabilities"].items(), key=lambda item: -item[1])
        yield f"Likeness (research only): {', '.join(f'{group} {100 * p:.0f} %' for group, p in chances)}"


def _info(args: argparse.Namespace) -> int:
    from CardiacSegLib.models import SUFFIX, named_models

    if args.what is None:
        return _info_installation()
    if args.what in named_models() or args.what.endswith(SUFFIX):
        return _info_model(args.what)
    from CardiacSegLib.readers import read_study

    study = read_study(Path(args.what))
    z, y, x = study.spacing
    size = f"{study.image.shape[2]} x {study.image.shape[3]}"
    print(printable(f"{study.name}: {study.frames} frames of {study.slices} slices, {size}"))
    print(f"pixels {y:.3f} x {x:.3f} mm, slices {z:.2f} mm apart")
    phases = [f"{n} frame {study.frame_numbers[i]}" for n, i in (("ED", study.ed), ("ES", study.es)) if i is not None]
    print("phases: " + (", ".join(phases) or "ED and ES not stated"))
    # A group is free text, and may be a name: only those that data sets are known for.
    groups = ("NOR", "MINF", "DCM", "HCM", "RV")
    facts = {k: v for k, v in vars(study.patient).items() if v is not None and (k != "group" or v in groups)}
    print("patient: " + (", ".join(f"{k} {v}" for k, v in facts.items()) or "nothing stated"))
    for warning in study.warnings:
        print(printable(f"Warning: {warning}"), file=sys.stderr)
    return 0


def _info_installation() -> int:
    from CardiacSegLib.models import available_models

    print(f"cardiacseg {__version__}. {DISCLAIMER}")
    try:
        import torch

        from CardiacSegLib.inference import choose_device, cpu_has_bf16

        device = choose_device("auto")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"bfloat16 {cpu_has_bf16()}"
        print(f"torch {torch.__version__}, device {device.type} ({name})")
    except ImportError:
        print("torch is not installed: 'pip install torch' (see the README for a CPU-only build).")
    for name, files in available_models().items():
        print(f"model {name}: {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""))
    return 0


def _info_model(name: str) -> int:
    from CardiacSegLib.models import find_models, load_model

    files = find_models(name)
    if len(files) > 1:
        print(printable(f"{name}: an ensemble of {len(files)} networks, each with a card. The first:"))
    model = load_model(files[0])
    count = sum(int(w.numel()) for w in model.weights.values())
    print(printable(f"{model.name}: preset {model.preset.name}, {count / 1e6:.2f} M numbers. {model.preset.summary}"))
    for key, value in model.facts.items():
        if value is not None:
            print(printable(f"{key}: {value}"))
    print(printable(f"\n{model.card}") if model.card else "It has no model card.")
    return 0
