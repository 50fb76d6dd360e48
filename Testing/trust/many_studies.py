"""Many studies by several worker processes, two of them killed at work, and a study that kills whatever touches it:
all others are done exactly once, with the figures of a single process. ``python -m trust.many_studies [--long]`` (from
``Testing``) prints the figures; the long form reads 100 patients of ACDC three times under other names.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from CardiacSegLib.cohort import UNFINISHED_FILE, Outcome, run_batch
from CardiacSegLib.crew import LocalCrew, SegmenterRecipe, cores, run_crew
from CardiacSegLib.models import find_model
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.readers.find import FoundStudy
from CardiacSegLib.report.folder import FUNCTION_FILE
from CardiacSegLib.report.outputs import FIGURES_FILE
from CardiacSegLib.workflow import SegmentOptions
from CardiacSegLib.writers import write_text, write_training_case

POISON = "poisoned"
RECIPE = SegmenterRecipe((find_model("fast"),), "cpu")


class Holds:
    """Studies in the middle of which a worker stops and waits to be killed, by files in a folder.

    However busy the machine is, it is killed there: neither before it has begun nor when it is done.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self, name: str) -> None:
        """From now on a worker stops in this study."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()

    def holds(self, name: str) -> bool:
        """Whether a worker would stop in this study."""
        return (self._folder / name).exists()

    def release(self, name: str) -> None:
        """From now on none stops in it."""
        (self._folder / name).unlink()

    def stop_if_held(self, name: str) -> None:
        """Of a worker, in a study: leave word and wait."""
        if self.holds(name):
            write_text(self._folder / f"{name}.stopped", str(os.getpid()))
            time.sleep(3600)

    def stopped(self, name: str) -> int | None:
        """The process that has stopped in the study, if any has by now."""
        word = self._folder / f"{name}.stopped"
        return int(word.read_text()) if word.exists() else None

    def forget(self, name: str) -> None:
        """The word of the one that has stopped; the next one stops and leaves word again."""
        (self._folder / f"{name}.stopped").unlink()

    def kill(self, name: str, patience_s: float = 300.0) -> int:
        """Wait until a worker has stopped in the study, kill it and hold no other; returns its process."""
        deadline = time.monotonic() + patience_s
        while (pid := self.stopped(name)) is None:
            assert time.monotonic() < deadline, f"No worker came to {name}."
            time.sleep(0.01)
        self.release(name)
        os.kill(pid, signal.SIGKILL)
        return pid


class DeadlySegmenter:
    """A segmenter that ends its process, as a crash in a library does, at a study of the name :data:`POISON`."""

    def __init__(self, segmenter: Any, holds: Holds | None) -> None:
        self._segmenter, self._holds, self.name = segmenter, holds, segmenter.name
        self.tells_certainty = segmenter.tells_certainty

    def segment(self, study: Any, *args: Any, **options: Any) -> Any:
        name = Path(study.source).name
        if self._holds is not None:
            self._holds.stop_if_held(name)
        if name == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._segmenter.segment(study, *args, **options)


@dataclass(frozen=True)
class DeadlyRecipe(SegmenterRecipe):
    """Makes such a segmenter."""

    holds: Holds | None = None

    def __call__(self, worker: int = 0) -> Any:
        return DeadlySegmenter(super().__call__(worker), self.holds)


def small_patients(root: Path, count: int) -> list[Path]:
    """Phantoms in ACDC's layout, ED and ES, of a size that is read quickly."""
    folders = []
    for number in range(count):
        config = PhantomConfig(
            frames=2, slices=5, size=(84, 84), spacing=(14.0, 3.0, 3.0), edv_ml=110 + 15 * number, ed_index=0
        )
        phantom = make_phantom(config)
        study = replace(phantom.study.with_phases(phantom.ed, phantom.es), name=f"phantom{number}")
        folders.append(write_training_case(root, f"phantom{number}", study, dict(enumerate(phantom.labels))))
    return folders


def under_other_names(patients: list[Path], copies: int, root: Path) -> None:
    """Every patient ``copies`` times, its files linked into folders of other names, and one more as the poison."""
    names = [(p, f"{p.name}-{copy}") for copy in range(copies) for p in patients]
    for patient, name in [*names, (patients[0], POISON)]:
        (root / name).mkdir(parents=True)
        for file in patient.iterdir():
            (root / name / file.name).symlink_to(file)


class KillingCrew(LocalCrew):
    """Kills a worker in the middle of the study that it was given as number so and so many.

    Attributes:
        kill_at: those numbers, from 1.
        outcomes: in the order in which they came.
        killed: studies whose worker was killed.
        peak_mib: the largest memory of any worker.
    """

    def __init__(self, kill_at: list[int], holds: Holds, *args: Any) -> None:
        super().__init__(*args)
        self.kill_at, self.given, self.peak_mib = list(kill_at), 0, 0.0
        self._holds = holds
        self.killed: list[str] = []
        self.outcomes: list[Outcome] = []

    def give(self, worker: Any, number: int, found: FoundStudy) -> None:
        self.given += 1
        name = str(found.results)
        chosen = bool(self.kill_at) and self.given >= self.kill_at[0] and name not in (POISON, *self.killed)
        if chosen:
            self._holds.hold(name)
        super().give(worker, number, found)
        if chosen:
            self.kill_at.pop(0)
            assert self._holds.kill(name) == worker.process.pid
            self.killed.append(name)

    def on_study(self, count: int, total: int, outcome: Outcome | None, found: FoundStudy) -> None:
        """Keep the outcome, and look at the workers' memory."""
        if outcome is not None:
            self.outcomes.append(outcome)
        self.peak_mib = max([self.peak_mib, *(_peak_mib(w.process.pid) for w in self._workers if w is not None)])


def _children_s() -> float:
    """Processor time of the child processes that have ended, which other work on the machine hardly changes."""
    times = os.times()
    return times.children_user + times.children_system


def _peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), default=0.0)


def function_of(folder: Path) -> dict[str, Any]:
    """What a study's ``function.json`` holds."""
    return json.loads((folder / FUNCTION_FILE).read_text(encoding="utf-8"))


def same_files(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files, byte for byte."""
    contents = [{p.name: p.read_bytes() for p in f.iterdir()} for f in (folder, other)]
    return contents[0] == contents[1] and FUNCTION_FILE in contents[0]


def check(root: Path, output: Path, alone: Path, run: KillingCrew) -> list[str]:
    """What does not hold of a run, as sentences."""
    wrong = []
    times = Counter(o.name for o in run.outcomes)
    if max(times.values()) > 1 or len(times) != len(list(root.iterdir())):
        wrong.append("A study has no outcome, or more than one.")
    done = [o for o in run.outcomes if o.status == "done"]
    if [o.name for o in run.outcomes if o.status != "done"] != [POISON]:
        wrong.append("Another study than the poisoned one was not done.")
    poison = next(o for o in run.outcomes if o.name == POISON)
    if poison.tries != 2 or "set aside" not in poison.reason or (output / POISON / FUNCTION_FILE).exists():
        wrong.append("The poisoned study was not set aside after its second try.")
    if {o.name: o.tries for o in done if o.tries != 1} != dict.fromkeys(run.killed, 2) or len(run.killed) != 2:
        wrong.append("Other studies than those whose worker was killed were tried twice.")
    different = [o.name for o in done if not same_files(output / o.name, alone / o.name.rpartition("-")[0])]
    if different:
        wrong.append(f"{len(different)} studies have other figures or label maps than in a single process.")
    if list(output.rglob(UNFINISHED_FILE)) != [output / POISON / UNFINISHED_FILE]:
        wrong.append("Something unfinished was left.")
    with open(output / FIGURES_FILE, encoding="utf-8") as stream:
        rows = {row["study"]: row for row in csv.DictReader(stream)}
    if len(rows) != len(times) or any(float(rows[o.name]["lv.edv_ml"]) != o.function["lv"]["edv_ml"] for o in done):
        wrong.append("The table does not hold the figures of every study.")
    return wrong


def again(root: Path, output: Path, workers: int) -> list[str]:
    """The same command once more: nothing is read a second time, and the poison is not touched."""
    files = [output / p.name / FUNCTION_FILE for p in root.iterdir() if p.name != POISON]
    stamps = [f.stat().st_mtime_ns for f in files]
    options = SegmentOptions()
    outcomes = run_crew(root, output, LocalCrew(workers, DeadlyRecipe(*_parts()), output, options), options)
    found = Counter((o.status, o.tries) for o in outcomes)
    if found != {("skipped", 0): len(files), ("failed", 0): 1} or stamps != [f.stat().st_mtime_ns for f in files]:
        return ["A second run did something."]
    return []


def _parts() -> tuple[Any, ...]:
    return RECIPE.models, RECIPE.device, RECIPE.flips


def run(studies: int, folder: Path, workers: int = 2) -> dict[str, Any]:
    """All of it in an empty folder: 20 small studies, or 300 of ACDC where ``studies`` asks for more than 20.

    Returns:
        the figures by name.

    Raises:
        AssertionError: something that is promised does not hold.
    """
    acdc = os.environ.get("CARDIACSEG_ACDC") if studies > 20 else None
    root, output, alone = (folder / name for name in ("studies", "results", "alone"))
    if acdc:
        originals, copies, kill_at = Path(acdc), 3, [80, 190]
        patients = sorted(originals.glob("patient*"))
    else:
        originals, copies, kill_at = folder / "patients", 5, [5, 12]
        patients = small_patients(originals, 4)
    under_other_names(patients, copies, root)
    start, options = time.monotonic(), SegmentOptions()
    run_batch(originals, alone, lambda: RECIPE(), options)
    single_s = time.monotonic() - start
    holds = Holds(folder / "holds")
    crew = KillingCrew(kill_at, holds, workers, DeadlyRecipe(*_parts(), holds), output, options)
    start, before = time.monotonic(), _children_s()
    run_crew(root, output, crew, options, on_study=crew.on_study)
    seconds, processor_s = time.monotonic() - start, _children_s() - before
    wrong = check(root, output, alone, crew) + again(root, output, workers)
    assert not wrong, " ".join(wrong)
    done = [o for o in crew.outcomes if o.status == "done"]
    return {
        "studies": len(done),
        "listed": len(crew.outcomes),
        "workers": workers,
        "killed": len(crew.killed),
        "seconds": seconds,
        "patients": len(patients),
        "single_s": single_s,
        "processor_s": processor_s / len(done),
        "worker_s": sum(o.seconds for o in done) / len(done),
        "peak_mib": crew.peak_mib,
    }


def main(long: bool = False) -> bool:
    """Print the figures; whether all that is promised holds."""
    if long and not os.environ.get("CARDIACSEG_ACDC"):
        print("Many studies: CARDIACSEG_ACDC is not set; it names the ACDC training folder. Small phantoms instead.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            f = run(300 if long else 20, Path(folder))
        except AssertionError as error:
            print(f"Many studies: WRONG: {error}")
            return False
    used = min(f["workers"], cores())
    print(
        f"Many studies: {f['studies']} of {f['listed']} done exactly once by {f['workers']} processes in "
        f"{f['seconds']:.0f} s, {f['killed']} workers killed, 1 study set aside after 2 tries; figures and label "
        f"maps as by a single process ({f['patients']} studies in {f['single_s']:.0f} s).\n"
        f"Throughput: {3600 / f['processor_s']:.0f} studies in an hour of a core's time, starts and failed tries "
        f"included (by the clock {3600 * f['studies'] / f['seconds'] / used:.0f}, {f['worker_s']:.2f} s a study and "
        f"process); 100,000 studies need {100_000 * f['processor_s'] / 3600:.0f} hours of a core, and at most "
        f"{f['peak_mib']:.0f} MiB a process."
    )
    return True


if __name__ == "__main__":
    sys.exit(0 if main("--long" in sys.argv) else 1)
