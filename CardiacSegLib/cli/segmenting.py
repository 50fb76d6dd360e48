"""``segment``, ``batch`` and ``demo``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.cli import FAILED, USAGE, add_debug, add_device, add_progress
from CardiacSegLib.function.body import BSA_FORMULAS
from CardiacSegLib.progress import printable, reporter
from CardiacSegLib.study import Patient
from CardiacSegLib.workflow import SegmentOptions

if TYPE_CHECKING:
    from CardiacSegLib.crew import Crew
    from CardiacSegLib.inference import Segmenter


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    p = commands.add_parser(
        "segment",
        help="segment one study and measure it",
        description="Segment one study: an ACDC patient folder, a 3D or 4D NIfTI or NRRD file, a folder of cine DICOM, "
        "or an ED and an ES file. Writes label maps (ACDC's numbers: 1 RV, 2 myocardium, 3 LV) and function.json.",
        epilog="Examples:\n  cardiacseg segment cine_4d.nii.gz --output results\n"
        "  cardiacseg segment dicom_folder --output results --frames all --report\n"
        "  cardiacseg segment ed.nii.gz es.nii.gz --output results --height 178 --weight 81 --sex M --age 56",
    )
    p.add_argument("input", nargs="+", metavar="INPUT", type=Path, help="the study; or an ED file and an ES file")
    _add_segment_options(p)
    add_patient(p)
    p.set_defaults(run=_segment)

    p = commands.add_parser(
        "batch",
        help="segment every study below a folder",
        description="Segment every study below ROOT into a folder of its own below --output. Done ones are skipped, "
        "a study that fails does not stop the others; figures.csv in --output has a row for each. Files named *_gt* "
        "and *_seg* are never studies.",
        epilog="Examples:\n  cardiacseg batch acdc/training --output results\n"
        "  cardiacseg batch acdc/training --output results --workers 4",
    )
    p.add_argument("root", metavar="ROOT", type=Path, help="folder of studies")
    _add_segment_options(p)
    p.add_argument("--workers", metavar="N", type=_workers, default=1, help="processes at work (%(default)s)")
    p.add_argument("--scheduler", metavar="ADDRESS", help="work on a Dask cluster: the address of its scheduler")
    p.set_defaults(run=_batch)

    p = commands.add_parser(
        "demo",
        help="make a phantom with known volumes, segment and measure it",
        description="Writes a beating-heart phantom as a 4D NIfTI and as DICOM, segments it with the shipped model and "
        "puts the measured figures beside the true ones.",
        epilog="Example:\n  cardiacseg demo --output demo",
    )
    p.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("demo"), help="folder for the files (%(default)s)"
    )
    p.add_argument("--model", metavar="NAME|FILE", default="fast", help="model (%(default)s)")
    add_device(p)
    add_progress(p)
    add_debug(p)
    p.set_defaults(run=_demo)


def _add_segment_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder for the results")
    p.add_argument(
        "--model", metavar="NAME|FILE", action="append", help="model (fast); given again, probabilities are averaged"
    )
    add_device(p)
    p.add_argument("--frames", choices=["ed,es", "all"], default="ed,es", help="frames to segment (%(default)s)")
    p.add_argument("--ed", metavar="N", type=_frame_number, help="frame that is end diastole, from 1")
    p.add_argument("--es", metavar="N", type=_frame_number, help="frame that is end systole, from 1")
    p.add_argument(
        "--flips",
        action="store_true",
        help="average over mirrored inputs: four times slower, and no better with the models that ship",
    )
    p.add_argument("--keep-flicker", action="store_true", help="with all frames: leave what flickers as it was found")
    p.add_argument("--correct-breathing", action="store_true", help="also write the slices moved onto the heart's axis")
    p.add_argument("--picture", action="store_true", help="also write contours.png")
    p.add_argument(
        "--anonymous",
        action="store_true",
        help="study-001 and so on in place of the input's name: in file names, function.json, messages and report",
    )
    p.add_argument("--report", action="store_true", help="also write report.html, two pages to print")
    p.add_argument("--csv", action="store_true", help="also write figures.csv")
    p.add_argument(
        "--dicom-seg",
        action="store_true",
        help="also write each label map as a DICOM Segmentation, with the patient's name as in the DICOM images; needs "
        "a DICOM folder and highdicom (pip install 'cardiacseg[seg]')",
    )
    add_identify(p)
    add_diagnosis(p)
    p.add_argument("--overwrite", action="store_true", help="replace results that are already there")
    add_progress(p)
    add_debug(p)


def add_patient(p: argparse.ArgumentParser) -> None:
    """Facts of the patient by hand, for every command that measures; see :func:`patient_of`."""
    facts = p.add_argument_group("the patient, in place of what the study states")
    facts.add_argument("--height", metavar="CM", type=_positive, help="height in cm")
    facts.add_argument("--weight", metavar="KG", type=_positive, help="weight in kg")
    facts.add_argument("--sex", choices=("M", "F"), help="for reference ranges")
    facts.add_argument("--age", metavar="YEARS", type=_positive, help="for reference ranges")
    facts.add_argument("--heart-rate", metavar="BPM", type=_positive, help="beats per minute, for cardiac output")
    facts.add_argument("--bsa", choices=sorted(BSA_FORMULAS), help="formula for body surface area (du_bois)")


def add_diagnosis(p: argparse.ArgumentParser) -> None:
    """``--diagnosis``, for every command that measures."""
    p.add_argument(
        "--diagnosis",
        action="store_true",
        help="also say which of five groups of patients the heart is alike: research only, not for diagnosis",
    )


def patient_of(args: argparse.Namespace) -> Patient:
    """The facts given by hand; ``None`` where none was."""
    return Patient(args.height, args.weight, args.sex, args.age, args.heart_rate)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a positive number is needed, not '{text}'")
    return value


def add_identify(p: argparse.ArgumentParser) -> None:
    """``--identify``, for every command that writes a report."""
    p.add_argument(
        "--identify",
        action="store_true",
        help="the report shows the study's name and, of DICOM, the patient's; without it, nothing that names anybody",
    )


def _frame_number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a frame is a number from 1, not '{text}'")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"workers are 1 to 1024, not '{text}'")
    return int(text)


def _options(args: argparse.Namespace, patient: Patient | None = None, bsa: str | None = None) -> SegmentOptions:
    return SegmentOptions(
        whole_cycle=args.frames == "all",
        ed=args.ed,
        es=args.es,
        overwrite=args.overwrite,
        picture=args.picture,
        report=args.report,
        identify=args.identify,
        csv=args.csv,
        dicom_seg=args.dicom_seg,
        patient=patient or Patient(),
        bsa_formula=bsa or "du_bois",
        diagnosis=args.diagnosis,
        consistent=not args.keep_flicker,
        correct_breathing=args.correct_breathing,
        anonymous=args.anonymous,
    )


def _model_files(args: argparse.Namespace) -> list[Path]:
    from CardiacSegLib.models import find_models

    return [file for name in args.model or ["fast"] for file in find_models(name)]


class _SegmenterMaker:
    """Makes the segmenter when it is first needed; a wrong path or name is told at once, before torch is loaded."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._models = _model_files(args)
        self._args = args
        self.made: Segmenter | None = None

    def __call__(self) -> Segmenter:
        from CardiacSegLib.inference import Segmenter

        self.made = Segmenter(self._models, self._args.device, flips=self._args.flips)
        return self.made

    @property
    def device(self) -> str | None:
        """Kind of the device that was used last: a full GPU hands over to the CPU."""
        return None if self.made is None else str(self.made.device.type)


def _segment(args: argparse.Namespace) -> int:
    from CardiacSegLib.workflow import segment_path

    if len(args.input) > 2:
        print(f"cardiacseg: 'segment' takes one study, or two files; got {len(args.input)} inputs.", file=sys.stderr)
        return USAGE
    es_path = args.input[1] if len(args.input) == 2 else None
    maker = _SegmenterMaker(args)
    with reporter(args.progress, "Segmenting frames") as progress:
        reading = segment_path(
            args.input[0],
            args.output,
            maker,
            _options(args, patient_of(args), args.bsa),
            es_path=es_path,
            on_progress=progress.update,
            on_stage=progress.stage,
        )
    for warning in reading.function["warnings"]:
        print(printable(f"Warning: {warning}"), file=sys.stderr)
    files = [str(file) for file in reading.files]
    progress.finish(
        f"{figures_text(reading.function)}\n{len(files)} files in {args.output}. {DISCLAIMER}",
        {"files": files, "function": reading.function, "device": maker.device},
    )
    return 0


def figures_text(function: dict[str, Any]) -> str:
    """``function.json`` as a table for a terminal."""
    lv, rv, myo = function["lv"], function["rv"], function["myo"]

    def number(value: float | None) -> str:
        return "—" if value is None else f"{value:.1f}"

    if "volume_ml" in lv:
        cells = "   ".join(f"{k} {number(v['volume_ml'])} mL" for k, v in (("LV", lv), ("RV", rv), ("MYO", myo)))
        return f"Volumes: {cells}"
    rows = [["", "EDV mL", "ESV mL", "SV mL", "EF %", "mass g"]]
    for name, part, mass in (("LV", lv, number(lv["mass_g"])), ("RV", rv, "")):
        rows.append([name, *(number(part[k]) for k in ("edv_ml", "esv_ml", "sv_ml", "ef_percent")), mass])
    if any(part.get("co_l_per_min") is not None for part in (lv, rv)):
        for row, text in zip(rows, ("CO L/min", *(number(part.get("co_l_per_min")) for part in (lv, rv)))):
            row.append(text)
    frames = f"ED is frame {function['ed_frame'] or '—'}, ES is frame {function['es_frame'] or '—'}."
    return "\n".join("  ".join(c.rjust(7) for c in row).rstrip() for row in rows) + "\n" + frames


def _batch(args: argparse.Namespace) -> int:
    from CardiacSegLib.cohort import run_batch, summary_table

    progress = reporter(args.progress, "Finding studies")

    def on_study(number: int, total: int, outcome: Any, found: Any) -> None:
        if number == 1 and outcome is None:
            progress.stage("Segmenting studies")
        if outcome is not None and outcome.status == "failed":
            progress.say(f"{outcome.name}: {outcome.reason}")
        progress.update(number if outcome else number - 1, total, str(found.results))

    with progress:
        progress.stage("Finding studies")
        if args.workers > 1 or args.scheduler:
            from CardiacSegLib.crew import run_crew

            outcomes = run_crew(args.root, args.output, _crew(args), _options(args), on_study=on_study)
        else:
            outcomes = run_batch(args.root, args.output, _SegmenterMaker(args), _options(args), on_study=on_study)
    progress.finish(summary_table(outcomes), {"outcomes": [asdict(outcome) for outcome in outcomes]})
    return FAILED if any(o.status == "failed" for o in outcomes) else 0


def _crew(args: argparse.Namespace) -> Crew:
    from CardiacSegLib.crew import LocalCrew, SegmenterRecipe

    # Without resolving, a relative model would be of another folder on a cluster's workers.
    models = tuple(file.resolve() for file in _model_files(args))
    recipe = SegmenterRecipe(models, args.device, args.flips)
    if args.scheduler:
        from CardiacSegLib.cluster import ClusterCrew

        return ClusterCrew(args.scheduler, recipe, args.output, _options(args))
    return LocalCrew(args.workers, recipe, args.output, _options(args))


def _demo(args: argparse.Namespace) -> int:
    from CardiacSegLib.demo import run_demo

    with reporter(args.progress, "Demo") as progress:
        text = run_demo(args.output, args.model, args.device, say=progress.say)
    progress.finish(text, {"text": text})
    return 0
