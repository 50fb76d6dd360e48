"""``make trust``: everything in this package at full length; stopped, it goes on where it was."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from CardiacSegLib import __version__
from CardiacSegLib.writers import write_json
from trust import cases_dicom, cases_folders, cases_images
from trust.fuzzing import TARGETS, fuzz
from trust.inputs import Broken, check_command_line, check_library, folder_for_all, one_network
from trust.kills import WORKS, survive

ROOT = Path(__file__).resolve().parents[2]
KILLS = 50
FUZZING_S = 150


def inputs() -> dict[str, Any]:
    """The corpus through the command line and the library."""
    cases = [*cases_images.CASES, *cases_dicom.CASES, *cases_folders.CASES]
    failed = []
    with one_network(), folder_for_all() as folder:
        reference = check_command_line(cases[0], folder / "plain", None)
        for number, case in enumerate(cases):
            place = folder / str(number)
            try:
                check_command_line(case, place, reference)
                check_library(case, place / "given")
            except Broken as error:
                failed.append(f"{case.name}: {error}")
    return {"inputs": len(cases), "failed": failed}


def kills(number: int) -> Callable[[], dict[str, Any]]:
    """A share of the kills, of one kind of work."""

    def run() -> dict[str, Any]:
        work = WORKS[number]
        share = KILLS // len(WORKS) + (number < KILLS % len(WORKS))
        try:
            with folder_for_all() as folder:
                return {"kills": survive(work, folder, share, seed=int(time.time())), "failed": []}
        except Broken as error:
            return {"kills": 0, "failed": [str(error)]}

    return run


def fuzzing(name: str, seconds: int) -> Callable[[], dict[str, Any]]:
    """One target."""

    def run() -> dict[str, Any]:
        try:
            tried, how = fuzz(name, seconds)
        except AssertionError as error:
            return {"tried": 0, "failed": [str(error)]}
        return {"tried": tried, "seconds": seconds, "how": how, "failed": []}

    return run


def program(name: str) -> Callable[[], dict[str, Any]]:
    """A module of this package that is a program of its own, in its long form; its lines are its figures."""

    def run() -> dict[str, Any]:
        command = [sys.executable, "-m", f"trust.{name}", "--long"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        studies = [int(n) for n in re.findall(r"([0-9]+) of [0-9]+ done exactly once", done.stdout)]
        failed = [] if done.returncode == 0 else [(done.stdout + done.stderr)[-1000:]]
        return {"studies": sum(studies), "said": done.stdout.splitlines(), "failed": failed}

    return run


def steps(seconds: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """All of it, by name."""
    listed: dict[str, Callable[[], dict[str, Any]]] = {"inputs": inputs}
    listed.update({f"kill {work.name}": kills(number) for number, work in enumerate(WORKS)})
    listed.update({f"fuzz {name}": fuzzing(name, seconds) for name in TARGETS})
    programs = [name for name in ("many_studies", "same_answer") if importlib.util.find_spec(f"trust.{name}")]
    return {**listed, **{name.replace("_", " "): program(name) for name in programs}}


def _quiet(step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What C libraries say of damaged files is nobody's concern here."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            with contextlib.redirect_stderr(nowhere):
                return step()
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def text(done: dict[str, Any]) -> str:
    """The figures."""
    results = [result for result in done.values() if isinstance(result, dict)]
    fuzzed = [r for r in results if "how" in r]
    total = {key: sum(r.get(key, 0) for r in results) for key in ("inputs", "kills", "tried", "studies")}
    guided = sum(r["seconds"] for r in fuzzed if r["how"] == "guided")
    lines = [
        f"inputs tried: {total['inputs']} of the corpus, {total['tried']} in {sum(r['seconds'] for r in fuzzed)} s of "
        f"fuzzing ({guided} s guided by coverage)",
        f"kills survived: {total['kills']}",
        f"studies run: {total['studies']}",
    ]
    lines += [line for result in results for line in result.get("said", ())]
    failed = [f"FAILED {name}: {why}" for name, r in done.items() if isinstance(r, dict) for why in r["failed"]]
    return "\n".join([*lines, *failed, f"{len(failed)} failed"])


def _sources() -> str:
    """Check sum of what is tried: of other code nothing is done yet."""
    digest = hashlib.sha256()
    for folder in ("CardiacSegLib", "Testing/trust"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="trust", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".trust.json"), help="what is done (%(default)s)")
    parser.add_argument("--again", action="store_true", help="from the start")
    parser.add_argument("--fuzzing", type=int, default=FUZZING_S, metavar="S", help="s for each target (%(default)s)")
    args = parser.parse_args()
    done: dict[str, Any] = {}
    if args.state.is_file() and not args.again:
        done = json.loads(args.state.read_text(encoding="utf-8"))
    sources = _sources()
    if done.get("sources") != sources or "ended" in done:
        done = {"version": __version__, "sources": sources}
    for name, step in steps(args.fuzzing).items():
        if name in done and not done[name]["failed"]:
            continue
        started = time.monotonic()
        done[name] = _quiet(step)
        write_json(args.state, done)
        print(
            f"{name}: {'failed' if done[name]['failed'] else 'holds'}, {time.monotonic() - started:.0f} s", flush=True
        )
    print(text(done))
    failed = any(result["failed"] for result in done.values() if isinstance(result, dict))
    if not failed:
        write_json(args.state, {**done, "ended": True})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
