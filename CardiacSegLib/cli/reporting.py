"""``report`` and ``compare``: pages and tables of results that are there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.cli import USAGE, add_debug
from CardiacSegLib.cli.segmenting import add_diagnosis, add_identify, add_patient, patient_of


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    p = commands.add_parser(
        "report",
        help="a report to print and a table, of results that are there",
        description="Writes report.html (two pages of A4, complete in itself) and figures.csv of a folder that "
        "'cardiacseg segment' wrote. Label maps that were corrected by hand since are measured anew and said to be "
        "corrected; function.json stays as it is. The results do not record where the images lie: for pictures of the "
        "contours on them, give the study again.",
        epilog="Examples:\n  cardiacseg report results --images dicom_folder\n"
        "  cardiacseg report results --images ed.nii.gz es.nii.gz --output letters --height 178 --weight 81",
    )
    p.add_argument("folder", metavar="DIR", type=Path, help="folder of results")
    add_images(p)
    p.add_argument("--output", metavar="DIR", type=Path, help="folder for the report and the table (the same)")
    add_identify(p)
    add_patient(p)
    add_diagnosis(p)
    add_debug(p)
    p.set_defaults(run=_report)

    p = commands.add_parser(
        "compare",
        help="two readings of one study side by side",
        description="Compares two folders that 'cardiacseg segment' wrote of one study (automatic and corrected, two "
        "models, two readers): figures, differences, Dice and Hausdorff distance of each structure at ED and ES, and "
        "the slices that differ most. Writes comparison.html and comparison.json.",
        epilog="Example:\n  cardiacseg compare automatic corrected --images dicom_folder --output comparison",
    )
    p.add_argument("a", metavar="DIR_A", type=Path, help="folder of results")
    p.add_argument("b", metavar="DIR_B", type=Path, help="the other; differences are B - A")
    p.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder for the comparison")
    add_images(p)
    p.add_argument("--names", metavar="NAME", nargs=2, default=["A", "B"], help="what the page calls them (A B)")
    add_debug(p)
    p.set_defaults(run=_compare)


def add_images(p: argparse.ArgumentParser) -> None:
    """``--images``, for every command that draws contours of results."""
    p.add_argument(
        "--images",
        metavar="INPUT",
        type=Path,
        nargs="+",
        default=[],
        help="the study that was segmented, or its ED and ES file; without it contours are drawn alone",
    )


def too_many_images(args: argparse.Namespace) -> bool:
    """Whether ``--images`` got more than a study or two files; says so."""
    if len(args.images) > 2:
        print(f"cardiacseg: --images takes one study, or two files; got {len(args.images)}.", file=sys.stderr)
    return len(args.images) > 2


def _report(args: argparse.Namespace) -> int:
    from CardiacSegLib.report.outputs import report_folder

    if too_many_images(args):
        return USAGE
    files, said = report_folder(
        args.folder,
        args.output,
        images=args.images,
        patient=patient_of(args),
        bsa_formula=args.bsa,
        diagnosis=args.diagnosis,
        identify=args.identify,
    )
    for sentence in said:
        print(sentence, file=sys.stderr)
    print("\n".join(str(file) for file in files))
    print(DISCLAIMER)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from CardiacSegLib.report.comparison import compare_folders, comparison_text

    if too_many_images(args):
        return USAGE
    compared, files = compare_folders(args.a, args.b, args.output, images=args.images, names=tuple(args.names))
    print(comparison_text(compared))
    print("\n".join(str(file) for file in files))
    return 0
