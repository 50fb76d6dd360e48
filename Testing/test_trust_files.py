"""Nothing lost: full disks, kills, two processes at one place; old results stay, or new ones are whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.files import all_or_none, moved_into_place, settle
from CardiacSegLib.writers import write_cine, write_json, write_label_map, write_text, write_training_case
from trust.cases import phantom, plain, quick_model, study
from trust.inputs import command_line, folder_for_all
from trust.kills import WORKS, survive

posix = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")

# ------------------------------------------------------------------------------------------------------- full disks


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond ``room`` bytes: to programs that write a disk that is full there."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def noise() -> np.ndarray:
    """Voxels that cannot be packed."""
    return np.random.default_rng(0).integers(0, 4, (6, 80, 80)).astype(np.uint8)


def model(path: Path) -> None:
    quick_model(path.parent / "made").replace(path)


def picture(path: Path) -> None:
    from PIL import Image

    from CardiacSegLib.report.pictures import save_png

    save_png(Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 120)).astype(np.uint8)), path)


def label_map(path: Path) -> None:
    from CardiacSegLib.study import Geometry, LabelMap

    write_label_map(path, LabelMap(noise(), Geometry((6, 80, 80), (9.0, 1.5, 1.5))))


def page(path: Path) -> None:
    from CardiacSegLib.report.reading import write_reading_report
    from CardiacSegLib.workflow import measure_labels

    labels = dict(enumerate(phantom().labels))
    known = study().with_phases(0, 1)
    write_reading_report(path, known, labels, measure_labels(known, labels, model="m"))


def curves(path: Path) -> None:
    from CardiacSegLib.report.plots import training_picture

    log = path.parent / "log.jsonl"
    if not log.exists():
        lines = [json.dumps({"epoch": n, "loss": 0.5, "lr": 0.1, "seconds": 1, "val_dice": 0.5}) for n in range(1, 400)]
        log.write_text("\n".join(lines) + "\n")
    training_picture(log, path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "labels.nii.gz": label_map,
    "labels.nii": label_map,
    "labels.nrrd": label_map,
    "cine.nii.gz": lambda path: write_cine(path, study()),
    "function.json": lambda path: write_json(path, {"text": "x" * 9000}),
    "table.csv": lambda path: write_text(path, "1,2\n" * 3000),
    "contours.png": picture,
    "report.html": page,
    "training.svg": curves,
}


@posix
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path)
    before = path.read_bytes()
    assert len(before) > 4096
    path.write_bytes(b"old")
    there = sorted(p.name for p in tmp_path.iterdir())
    with full_disk(4096), pytest.raises(CardiacSegError, match=f"{name}' cannot be written"):
        WRITERS[name](path)
    assert path.read_bytes() == b"old" and sorted(p.name for p in tmp_path.iterdir()) == there


@posix
def test_models_and_checkpoints_on_a_full_disk_leave_the_old_ones(tmp_path):
    import torch

    from CardiacSegLib.models import load_model, save_model

    path = quick_model(tmp_path)
    before, kept = path.read_bytes(), load_model(path)
    with full_disk(2048), pytest.raises(CardiacSegError, match=r"quick.pt' cannot be written"):
        save_model(path, kept)
    with full_disk(2048), pytest.raises(CardiacSegError, match=r"last.pt' cannot be written"):
        moved_into_place(tmp_path / "last.pt", lambda aside: torch.save({"a": torch.zeros(9000)}, aside))
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["quick.pt"]


@posix
def test_a_patient_for_training_is_added_whole_or_not_at_all(tmp_path):
    labels = dict(enumerate(phantom().labels))
    with full_disk(4096), pytest.raises(CardiacSegError, match="cannot be written"):
        write_training_case(tmp_path, "patient", study().with_phases(0, 1), labels)
    assert list(tmp_path.iterdir()) == []
    write_training_case(tmp_path, "patient", study().with_phases(0, 1), labels)
    with pytest.raises(CardiacSegError, match="already"):
        write_training_case(tmp_path, "patient", study().with_phases(0, 1), labels)


@posix
def test_a_study_on_a_full_disk_keeps_its_old_results_and_names_the_file(tmp_path):
    cine, out = plain(tmp_path), tmp_path / "out"
    run = ("segment", cine, "--output", out, "--model", quick_model(tmp_path), "--picture")
    with full_disk(600):
        code, _, err = command_line(*run)
    assert code == 1 and "cannot be written" in err and ".gz" in err, err
    assert list(out.iterdir()) == []
    assert command_line(*run)[0] == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with full_disk(600):
        assert command_line(*run, "--overwrite", "--frames", "all")[0] == 1
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


@posix
def test_a_small_disk_that_is_full(tmp_path):
    """The same on a real file system without room, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        for name, write in WRITERS.items():
            (disk / "ballast").write_bytes(b"")
            with open(disk / "ballast", "r+b", buffering=0) as ballast, pytest.raises(OSError):
                while True:
                    ballast.write(bytes(4096))
            with pytest.raises(CardiacSegError, match=f"{name}' cannot be written"):
                write(disk / name) if name != "training.svg" else write_text(disk / name, "x" * 9000)
            assert [p.name for p in disk.iterdir()] == ["ballast"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ------------------------------------------------------------------------------------------------- kills and others


@posix
@pytest.mark.parametrize(("work", "kills"), list(zip(WORKS, (3, 3, 2, 2))), ids=[work.name for work in WORKS])
def test_what_is_killed_goes_on_and_ends_as_if_it_never_was(work, kills):
    with folder_for_all() as folder:
        assert survive(work, folder, kills, seed=0) == kills


def test_results_that_were_complete_when_the_run_was_killed_are_put_in_place(tmp_path, monkeypatch):
    (tmp_path / "function.json").write_text("old")
    (tmp_path / "a_seg.nii.gz").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    old = [tmp_path / "function.json", tmp_path / "a_seg.nii.gz"]
    with monkeypatch.context() as mid_way, pytest.raises(KeyboardInterrupt), all_or_none(tmp_path, old) as aside:
        (aside / "function.json").write_text("new")
        (aside / "b_seg.nii.gz").write_text("new")
        mid_way.setattr("CardiacSegLib.files.os.replace", killed)
    assert (tmp_path / "function.json").read_text() == "old"
    settle(tmp_path)
    left = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert left == {"function.json": "new", "b_seg.nii.gz": "new", "notes.txt": "mine"}


def test_an_error_leaves_the_results_as_they_were(tmp_path):
    (tmp_path / "function.json").write_text("old")
    with pytest.raises(ValueError), all_or_none(tmp_path, [tmp_path / "function.json"]) as aside:
        (aside / "function.json").write_text("new")
        raise ValueError
    assert [p.name for p in tmp_path.iterdir()] == ["function.json"] and "old" in (
        tmp_path / "function.json"
    ).read_text()


def test_a_list_of_what_is_replaced_reaches_no_file_elsewhere(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    ready = tmp_path / "out" / ".cardiacseg-ready"
    ready.mkdir(parents=True)
    (ready / ".replaced.json").write_text(json.dumps(["../mine.txt", str(mine), "..", 7, None]))
    settle(tmp_path / "out")
    assert mine.read_text() == "mine" and list((tmp_path / "out").iterdir()) == []


def test_what_dead_processes_left_goes_and_what_others_are_writing_stays(tmp_path):
    path = tmp_path / "figures.json"
    died = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    names: list[str] = []
    moved_into_place(path, lambda aside: (names.append(aside.name), aside.write_text("x")))
    for process in (died.stdout.strip(), str(os.getppid())):
        (tmp_path / names[0].replace(f"-{os.getpid()}-", f"-{process}-")).write_text("half")
    write_text(path, "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["figures.json", names[0].replace(f"-{os.getpid()}-", f"-{os.getppid()}-")]
    )


_WRITER = """
import sys
if sys.argv[3] == "no locks":
    sys.modules["fcntl"] = None
from pathlib import Path
from CardiacSegLib.files import all_or_none, settle
folder, names = Path(sys.argv[1]), "abcdef"
for turn in range(100):
    settle(folder)
    with all_or_none(folder, [folder / name for name in names]) as aside:
        for name in names:
            (aside / name).write_text(f"{sys.argv[2]} {turn}")
"""


@pytest.mark.parametrize("system", ["locks", "no locks"])
def test_processes_that_replace_the_same_results_at_once_all_end_well(tmp_path, system):
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), who, system], stderr=subprocess.PIPE, text=True)
        for who in "xyz"
    ]
    said = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], said
    assert sorted(p.name for p in tmp_path.iterdir()) == list("abcdef")
    if system == "locks":  # all files are of one and the same
        assert len({p.read_text() for p in tmp_path.iterdir()}) == 1


def test_a_lock_that_another_process_keeps_is_not_waited_for_for_ever(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        start = time.monotonic()
        settle(tmp_path)  # nothing to move, nothing to wait for
        assert time.monotonic() - start < 1
        with all_or_none(tmp_path) as aside:
            (aside / "function.json").write_text("new")
        assert time.monotonic() - start < 10 and (tmp_path / "function.json").read_text() == "new"
    finally:
        os.close(held)


def test_a_process_that_was_forked_meanwhile_keeps_no_lock(tmp_path, monkeypatch):
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    children, move = [], os.replace

    def forking(*paths):
        children.append(os.fork())
        if not children[-1]:
            time.sleep(30)
            os._exit(0)
        move(*paths)

    with monkeypatch.context() as mid_way, all_or_none(tmp_path) as aside:
        (aside / "function.json").write_text("new")
        mid_way.setattr("CardiacSegLib.files.os.replace", forking)
    start = time.monotonic()
    with all_or_none(tmp_path) as aside:
        (aside / "b").write_text("new")
    taken = time.monotonic() - start
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert children and taken < 1


def test_whether_a_process_lives_is_asked_of_windows_by_its_own_functions(monkeypatch):
    import ctypes

    from CardiacSegLib import files

    class Kernel:
        def __getattr__(self, name):
            def function(*arguments):
                if name == "OpenProcess":
                    return {1: 11, 2: 12, 3: 0, 4: 0}[arguments[2]]
                if name == "GetExitCodeProcess":
                    arguments[1]._obj.value = {11: 259, 12: 0}[arguments[0].value]
                return 1

            self.__dict__[name] = function
            return function

    errors = iter([87, 5])
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: Kernel(), raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: next(errors), raising=False)
    assert [files._lives_on_windows(n) for n in (1, 2, 3, 4)] == [True, False, False, True]


def test_two_batches_at_one_output_do_each_study_once_and_both_end(tmp_path):
    for number in range(4):
        changed = replace(study(), image=study().image + number)
        write_cine(tmp_path / "studies" / f"s{number}.nii.gz", changed)
    arguments = [sys.executable, "-m", "CardiacSegLib.cli", "batch", tmp_path / "studies", "--output", tmp_path / "out",
                 "--model", quick_model(tmp_path), "--device", "cpu", "--progress", "json"]  # fmt: skip
    both = [subprocess.Popen([str(a) for a in arguments], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    statuses = [o["status"] for line in said for o in json.loads(line)["result"]["outcomes"]]
    assert len(statuses) == 8 and set(statuses) <= {"done", "skipped"} and statuses.count("done") >= 4
    left = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert len(left) == 4 * 3 + 1 and not any(name.startswith(".") for name in left)


def test_results_that_another_process_finished_meanwhile_are_not_replaced(tmp_path, monkeypatch):
    from CardiacSegLib import workflow

    cine, out = plain(tmp_path), tmp_path / "out"
    whole = workflow.segment_study

    def slower(*arguments, **options):
        write_json(out / "function.json", {"whose": "the other's"})
        return whole(*arguments, **options)

    monkeypatch.setattr(workflow, "segment_study", slower)
    code, _, err = command_line("segment", cine, "--output", out, "--model", quick_model(tmp_path))
    assert code == 1 and "already holds results" in err
    assert [p.name for p in out.iterdir()] == ["function.json"] and "other's" in (out / "function.json").read_text()


def test_damaged_results_of_before_fail_their_study_alone(tmp_path):
    plain(tmp_path / "studies", "a.nii.gz")
    plain(tmp_path / "studies", "b.nii.gz")
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "function.json").write_text('{"lv": ')
    run = ("batch", tmp_path / "studies", "--output", tmp_path / "out", "--model", quick_model(tmp_path))
    code, out, _ = command_line(*run)
    assert code == 1 and "is damaged" in out and "1 done, 0 skipped, 1 failed" in out
    assert command_line(*run, "--overwrite")[0] == 0


def test_training_killed_before_its_first_checkpoint_logs_each_epoch_once(tmp_path):
    from trust.kills import _patients, _train

    _patients(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"epoch": 1, "loss": 0.5}\n{"epo')
    _train(tmp_path)
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))


def test_a_damaged_prepared_patient_is_prepared_again(tmp_path):
    from trust.kills import _patients, _train

    _patients(tmp_path)
    _train(tmp_path)
    for file in (tmp_path / "run" / "prepared").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    (tmp_path / "run" / "last.pt").unlink()
    _train(tmp_path)
