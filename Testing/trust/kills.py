"""``kill -9`` at random moments of a batch, a training and a report: each goes on, and ends as if never killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from CardiacSegLib.cohort import UNFINISHED_FILE
from CardiacSegLib.files import settle
from trust.cases import phantom, quick_model, study
from trust.inputs import Broken

#: Loaded once in the process that children are forked from, so that a run is quick and a kill hits its own work.
_PRELOADED = ["torch", "CardiacSegLib.cli.segmenting", "CardiacSegLib.cli.measuring", "CardiacSegLib.cli.training",
              "CardiacSegLib.inference", "CardiacSegLib.training.runs",
              "trust.kills", "CardiacSegLib.report.reading", "scipy.ndimage", "skimage.exposure"]  # fmt: skip
_LONGEST_S = 120.0


@dataclass(frozen=True)
class Work:
    """Something that is killed.

    Attributes:
        name: what it is.
        prepare: makes in a folder what the run starts from.
        run: does the work in a folder; called in a process of its own, again after each kill.
        result: what stands in the folder at the end, for comparing.
        check: after every kill, whether each file there is whole: old or new.
    """

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    result: Callable[[Path], dict[str, Any]]
    check: Callable[[Path, dict[str, Any]], None] | None = None


def _silent(run: Callable[[Path], None], folder: Path) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        run(folder)


def _start(work: Work, folder: Path) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_silent, args=(work.run, folder))
    process.start()
    return process


def _to_the_end(work: Work, folder: Path) -> float:
    started = time.monotonic()
    process = _start(work, folder)
    process.join(_LONGEST_S)
    if process.exitcode != 0:
        process.kill()
        raise Broken(f"{work.name}: the run after the kills ends with {process.exitcode}")
    return time.monotonic() - started


def survive(work: Work, folder: Path, kills: int, seed: int) -> int:
    """Kill the work at ``kills`` random moments, at most three times before it may end; returns the kills.

    Raises:
        Broken: a file is half written, or the end is another than that of an undisturbed run.
    """
    generator = random.Random(f"{work.name} {seed}")
    undisturbed = folder / "undisturbed"
    work.prepare(undisturbed)
    _to_the_end(work, undisturbed)
    wanted = work.result(undisturbed)
    again = folder / "timed"
    work.prepare(again)
    seconds = _to_the_end(work, again)  # the first run has paid for starting the server
    if work.result(again) != wanted:
        raise Broken(f"{work.name}: two undisturbed runs differ: {_difference(work.result(again), wanted)}")
    done = rounds = 0
    while done < kills:
        rounds += 1
        killed = folder / f"killed{rounds}"
        work.prepare(killed)
        for _ in range(min(generator.randint(1, 3), kills - done)):
            process = _start(work, killed)
            process.join(generator.uniform(0.0, seconds))
            if process.exitcode is None:
                process.kill()
                process.join()
                done += 1
            else:
                seconds *= 0.8  # it had ended: earlier next time
                break
            if work.check is not None:
                work.check(killed, wanted)
        _to_the_end(work, killed)
        if work.result(killed) != wanted:
            raise Broken(f"{work.name}: after kills it ends otherwise: {_difference(work.result(killed), wanted)}")
        shutil.rmtree(killed)
    return done


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(key for key in set(ours) | set(theirs) if ours.get(key) != theirs.get(key))[:5]


def _files(folder: Path) -> dict[str, Any]:
    """Every file by its relative path, hidden ones too, and a check sum of what it holds."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


# ------------------------------------------------------------------ batch


def _results(folder: Path) -> dict[str, Any]:
    """What a batch left; its table tells which studies an earlier run has done, which is no difference here."""
    found = _files(folder / "out")
    table = folder / "out" / "figures.csv"
    if table.exists():
        text = table.read_text(encoding="utf-8")
        found["figures.csv"] = text.replace("skipped", "done").replace(str(folder), "")
    return found


def _studies(folder: Path) -> None:
    from CardiacSegLib.writers import write_cine

    for number in range(3):
        changed = replace(study(), image=study().image + number)
        write_cine(folder / "studies" / f"s{number}.nii.gz", changed)
    (folder / "studies" / "broken.nii.gz").write_bytes(b"no image")
    quick_model(folder)


def _batch(folder: Path, *options: str) -> None:
    from CardiacSegLib.cli import main

    where = [str(folder / "studies"), "--output", str(folder / "out"), "--model", str(folder / "quick.pt")]
    main(["batch", *where, "--picture", "--device", "cpu", *options])


def _batch_again(folder: Path) -> None:
    """Old results are replaced by others."""
    _batch(folder, "--frames", "all", "--overwrite")


def _with_old_results(folder: Path) -> None:
    _studies(folder)
    for number in range(3):
        old = folder / "out" / f"s{number}"
        old.mkdir(parents=True)
        for name in ("function.json", f"s{number}_frame09_seg.nii.gz", f"s{number}_frame01_seg.nii.gz"):
            (old / name).write_text("old")


def _old_or_new(folder: Path, wanted: dict[str, Any]) -> None:
    """Each study has all its old results or all its new ones."""
    for number in range(3):
        place = folder / "out" / f"s{number}"
        settle(place)
        found = {name: value for name, value in _files(folder / "out").items() if name.startswith(f"s{number}{os.sep}")}
        found.pop(f"s{number}{os.sep}{UNFINISHED_FILE}", None)  # that it was begun: the next run takes it up
        new = {name: value for name, value in wanted.items() if name.startswith(f"s{number}{os.sep}")}
        if any(".~" in name for name in found):
            continue  # of the last process: it was reaped, but its number may have been given anew
        old = all((place / name.split(os.sep)[1]).read_text(errors="replace") == "old" for name in found)
        if found != new and not (old and len(found) == 3):
            raise Broken(f"after a kill s{number} holds old and new results: {sorted(found)}")


# ------------------------------------------------------------------ train


def _patients(folder: Path) -> None:
    from CardiacSegLib.writers import write_training_case

    for number in range(4):
        case = replace(study().with_phases(0, 1), image=study().image + 5 * number)
        write_training_case(folder / "patients", f"p{number}", case, dict(enumerate(phantom().labels)))


def _train(folder: Path) -> None:
    from CardiacSegLib.networks.config import NetworkConfig
    from CardiacSegLib.preprocessing import PreprocessingConfig
    from CardiacSegLib.training.config import Preset, TrainingConfig
    from CardiacSegLib.training.runs import TrainSettings, train

    preset = Preset(
        "tiny",
        "For kills.",
        NetworkConfig(features=(4, 8), dropout=(0.1,)),
        PreprocessingConfig(pixel_mm=4.0, train_size=64, min_size=32),
        training=TrainingConfig(epochs=4, batch_size=4, optimiser="adamw", ema=0.9),
    )
    train(folder / "patients", folder / "run", preset, ["p3"], TrainSettings(device="cpu", mixed_precision=False))


def _trained(folder: Path) -> dict[str, Any]:
    """Weights and log to the bit; times are other ones every time."""
    from CardiacSegLib.models import load_model

    run = folder / "run"
    found = {name: "" for name in _files(run) if not name.startswith("prepared")}
    model = load_model(run / "model.pt")
    found["weights"] = hashlib.sha256(b"".join(w.numpy().tobytes() for w in model.weights.values())).hexdigest()
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        entry.pop("seconds")
        found[f"epoch {entry['epoch']}"] = str(entry)
    found["epochs"] = str(len((run / "log.jsonl").read_text(encoding="utf-8").splitlines()))
    return found


# ------------------------------------------------------------------ report


def _reports(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        (folder / f"report{number}.html").write_text("old")


def _report(folder: Path) -> None:
    from CardiacSegLib.report.reading import write_reading_report
    from CardiacSegLib.workflow import measure_labels

    labels = dict(enumerate(phantom().labels))
    known = study().with_phases(0, 1)
    for number in range(4):
        write_reading_report(folder / f"report{number}.html", known, labels, measure_labels(known, labels, model="m"))


def _whole_pages(folder: Path, wanted: dict[str, Any]) -> None:
    for page in folder.glob("[!.]*.html"):  # what is written aside may be half written
        text = page.read_text(encoding="utf-8")
        if text != "old" and not text.rstrip().endswith("</html>"):
            raise Broken(f"after a kill {page.name} is half written")


WORKS: tuple[Work, ...] = (
    Work("batch", _studies, _batch, _results),
    Work("batch --overwrite", _with_old_results, _batch_again, _results, _old_or_new),
    Work("train", _patients, _train, _trained),
    Work("report", _reports, _report, _files, _whole_pages),
)
