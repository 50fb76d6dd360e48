"""What ``make bench`` runs: how fast this machine segments and trains, beside plain PyTorch in the same process.

Figures that are compared are taken in turns (A B, B A, …) and given as medians, so that they hold on a busy machine.
Real data is taken from ``CARDIACSEG_ACDC`` where that is set, phantoms otherwise.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from inference_speed import cold_table, cycle_table, inference_tables, memory_table
from studies import usual_study
from tables import Table
from training_speed import training_tables

from CardiacSegLib import __version__
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.inference import cpu_has_bf16
from CardiacSegLib.writers import write_json, write_text

_HEAD = "# Speed\n\nWritten by `make bench`; `make bench-peers` adds `PEERS.md`, other people's inference.\n"


def main() -> int:
    """Run all benchmarks; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Speed of inference and training on this machine's CPU.",
        epilog="Example: python Testing/Benchmarks/bench.py --json bench.json",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, once each: shows only that it runs")
    parser.add_argument("--page", metavar="FILE", type=Path, help="also write the tables as Markdown here")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write facts and tables here")
    args = parser.parse_args()
    facts = {
        "cardiacseg": __version__,
        "processor": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_bf16": cpu_has_bf16(),
        "quick": args.quick,
    }
    print("   ".join(f"{key} {_word(value)}" for key, value in facts.items()) + "\n", flush=True)
    found, page = [], [_HEAD, ", ".join(f"{key} {_word(value)}" for key, value in facts.items()) + ".\n"]
    try:
        for table in _tables(args.quick):
            print(table.text(), flush=True)
            found.append(table.to_json())
            page.append(table.markdown())
        if args.json is not None:
            write_json(args.json, {"facts": facts, "tables": found})
        if args.page is not None:
            write_text(args.page, "\n".join(page))
    except CardiacSegError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _tables(quick: bool) -> Iterator[Table]:
    acdc = None if quick or not os.environ.get("CARDIACSEG_ACDC") else Path(os.environ["CARDIACSEG_ACDC"])
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source = usual_study(acdc, scratch, quick)
        yield from inference_tables(source.folder, source.words, scratch, 1 if quick else 7, warm_up=not quick)
        yield cycle_table(scratch, 1 if quick else 3, quick)
        yield cold_table(source.folder, scratch, repeats=1 if quick else 3)
        yield memory_table(source.folder, scratch)
        for name, rounds, steps in (("default-2d", 3, 16), ("paper-2d-dice-ce", 1, 8)):
            rounds, steps = (1, 2) if quick else (rounds, steps)
            yield from training_tables(name, acdc, scratch / name, rounds, steps, quick)


def _processor() -> str:
    """Its model, as Linux says it; elsewhere its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} threads)" if names else platform.machine()


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
