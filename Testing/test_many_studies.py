"""Many studies, many workers: every study has one outcome, whatever dies. The long form: ``trust/many_studies.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from CardiacSegLib.cli import main
from CardiacSegLib.cohort import UNFINISHED_FILE, Outcome, note_death, run_batch, write_studies_table
from CardiacSegLib.crew import LocalCrew, run_crew
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.function.volumes import function_json, ventricular_function
from CardiacSegLib.workflow import SegmentOptions
from CardiacSegLib.writers import write_json
from trust import many_studies
from trust.many_studies import POISON, RECIPE, DeadlyRecipe, Holds, function_of, small_patients, under_other_names

RECIPE_PARTS = (RECIPE.models, RECIPE.device, RECIPE.flips)


def deadly(holds: Holds) -> DeadlyRecipe:
    return DeadlyRecipe(*RECIPE_PARTS, holds)


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    """Three studies and a poisoned one."""
    root = tmp_path_factory.mktemp("many")
    under_other_names(small_patients(root / "patients", 3), 1, root / "studies")
    return root / "studies"


def test_20_studies_are_done_once_though_workers_are_killed_and_one_study_kills(tmp_path):
    figures = many_studies.run(20, tmp_path)
    assert (figures["studies"], figures["listed"], figures["killed"]) == (20, 21, 2)


class PaperCrew:
    """Two workers of paper, the first of which dies whenever it is told to."""

    def __init__(self, deadly: set[str]) -> None:
        self.deadly, self.tasks, self.order, self.closed = deadly, {}, [], False

    def idle(self) -> list[int]:
        return [w for w in (0, 1) if w not in self.tasks]

    def give(self, worker: int, number: int, found) -> None:
        self.tasks[worker] = (number, str(found.results))
        self.order.append(str(found.results))

    def events(self, seconds: float) -> Iterator:
        worker = min(self.tasks)
        number, name = self.tasks.pop(worker)
        return [(number, None if name in self.deadly else Outcome(name, "done", {}, tries=1))]

    def close(self) -> None:
        self.closed = True


def test_a_deadly_study_is_tried_again_last_and_never_a_third_time_in_later_runs_too(studies, tmp_path):
    crew = PaperCrew({POISON})
    outcomes = run_crew(studies, tmp_path, crew, SegmentOptions())
    names = [o.name for o in outcomes]
    assert names == sorted(names) and crew.closed
    assert crew.order == [*names, POISON] and crew.order.count(POISON) == 2
    assert [(o.status, o.tries) for o in outcomes if o.name == POISON] == [("failed", 2)]
    again = PaperCrew({POISON})
    assert run_crew(studies, tmp_path, again, SegmentOptions())[-1].status == "failed"
    assert POISON not in again.order
    anew = PaperCrew(set())
    assert run_crew(studies, tmp_path, anew, SegmentOptions(overwrite=True))[-1].status == "done"


def test_a_study_whose_worker_died_after_the_last_file_is_done(studies, tmp_path):
    whole = function_json(ventricular_function(None, None))

    class LateCrew(PaperCrew):
        def give(self, worker: int, number: int, found) -> None:
            super().give(worker, number, found)
            write_json(tmp_path / found.results / "function.json", whole)

    crew = LateCrew({POISON})
    last = run_crew(studies, tmp_path, crew, SegmentOptions())[-1]
    assert (last.status, last.tries, last.function) == ("done", 1, whole)
    assert crew.order.count(POISON) == 1 and not list(tmp_path.rglob(UNFINISHED_FILE))


def test_workers_that_all_die_end_the_run_instead_of_setting_everything_aside(tmp_path):
    root = tmp_path / "studies"
    for number in range(12):
        (root / f"s{number:02d}").mkdir(parents=True)
        (root / f"s{number:02d}" / "Info.cfg").write_text("ED: 1\nES: 2\n")
    crew = PaperCrew({f"s{number:02d}" for number in range(12)})
    with pytest.raises(CardiacSegError, match="10 workers died"):
        run_crew(root, tmp_path / "out", crew, SegmentOptions())
    assert crew.closed


def test_what_a_killed_reading_left_is_replaced_and_results_of_others_are_not(studies, tmp_path):
    """Label maps without function.json stop a batch unless the mark of an unfinished reading lies beside them."""
    left = tmp_path / "phantom1-0" / "phantom1_frame01_seg.nii.gz"
    kept = tmp_path / "phantom2-0" / "phantom2_frame01_seg.nii.gz"
    for file in (left, kept):
        file.parent.mkdir()
        file.write_bytes(b"half a file")
    assert note_death(left.parent) == 1
    found = {o.name: o for o in run_batch(studies, tmp_path, lambda: RECIPE(), SegmentOptions())}
    assert found["phantom1-0"].status == "done" and left.stat().st_size > 100
    assert found["phantom2-0"].status == "failed" and kept.read_bytes() == b"half a file"
    assert not list(tmp_path.rglob(UNFINISHED_FILE))


def test_a_wrong_device_ends_the_run_at_once_and_leaves_no_process(studies, tmp_path):
    crew = LocalCrew(2, type(RECIPE)(RECIPE.models, "cuda:7"), tmp_path, SegmentOptions())
    with pytest.raises(CardiacSegError, match="no device"):
        run_crew(studies, tmp_path, crew, SegmentOptions())
    assert crew._workers == [None, None]


class ImpatientCrew(LocalCrew):
    """Waits long for whatever works, however busy the machine is, and hardly at all for what is known to hang."""

    def __init__(self, holds: Holds, name: str, *args, **options) -> None:
        super().__init__(*args, **options)
        self.holds, self.name = holds, name

    def _hangs(self, worker) -> bool:
        hangs = self.holds.stopped(self.name) == worker.process.pid
        self._longest_s = self._longest_start_s = 0.5 if hangs else 600.0
        return super()._hangs(worker)


def test_a_worker_that_hangs_is_ended_and_its_study_set_aside_after_the_second_try(studies, tmp_path):
    holds = Holds(tmp_path / "holds")
    holds.hold(POISON)
    crew = ImpatientCrew(holds, POISON, 1, deadly(holds), tmp_path / "out", SegmentOptions(), threads=1)
    outcomes = {o.name: o for o in run_crew(studies, tmp_path / "out", crew, SegmentOptions())}
    poison = outcomes.pop(POISON)
    assert (poison.status, poison.tries) == ("failed", 2) and "died or hung" in poison.reason
    assert [(o.status, o.tries) for o in outcomes.values()] == [("done", 1)] * 3


class HeldAtStart(DeadlyRecipe):
    """Stops before it loads its model."""

    def __call__(self, worker: int = 0):
        self.holds.stop_if_held("start")
        return super().__call__(worker)


def test_a_worker_that_hangs_while_it_loads_its_model_is_replaced(studies, tmp_path):
    holds = Holds(tmp_path / "holds")
    holds.hold("start")

    class Crew(ImpatientCrew):
        def _hangs(self, worker) -> bool:
            hangs = super()._hangs(worker)
            if hangs:
                holds.release("start")
            return hangs

    crew = Crew(holds, "start", 1, HeldAtStart(*RECIPE_PARTS, holds), tmp_path / "out", SegmentOptions(), threads=1)
    outcomes = {o.name: o for o in run_crew(studies, tmp_path / "out", crew, SegmentOptions())}
    assert holds.stopped("start") is not None
    assert outcomes.pop(POISON).tries == 2
    assert [(o.status, o.tries) for o in outcomes.values()] == [("done", 1)] * 3


def test_a_killed_batch_leaves_no_process_and_is_finished_by_the_same_command(studies, tmp_path):
    command = [sys.executable, "-m", "CardiacSegLib.cli", "batch", str(studies), "--output", str(tmp_path)]
    command += ["--workers", "2", "--device", "cpu"]
    batch = subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(tmp_path.rglob("function.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    batch.kill()
    # Standard error is closed once no worker holds it: each ends after the study it has.
    assert b"Traceback" not in batch.communicate(timeout=300)[1]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0 and "0 failed" in done.stdout, done.stderr
    assert len(list(tmp_path.rglob("function.json"))) == 4 and not list(tmp_path.rglob(UNFINISHED_FILE))


def test_the_table_is_parquet_too_where_pyarrow_is_installed(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    function = {"lv": {"edv_ml": 120.5}, "warnings": ["One, two.", "Three."]}
    table = write_studies_table(tmp_path, [Outcome("b", "failed", reason='No "file".'), Outcome("a", "done", function)])
    rows = {row["study"]: row for row in parquet.read_table(table.with_suffix(".parquet")).to_pylist()}
    assert rows["b"]["reason"] == 'No "file".' and rows["a"]["warnings"] == 2
    assert 120.5 in rows["a"].values()


def test_batch_with_workers_has_the_results_of_batch_without_and_says_them_alike(studies, tmp_path, capsys):
    said = []
    for name, options in (("one", []), ("two", ["--workers", "2"])):
        command = ["batch", str(studies), "--output", str(tmp_path / name), "--device", "cpu", *options]
        assert main([*command, "--progress", "json"]) == 0
        said.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    one, two = ([(o["name"], o["status"], o["function"]) for o in lines[-1]["result"]["outcomes"]] for lines in said)
    assert one == two
    assert [line["done"] for line in said[1] if line.get("stage") == "Segmenting studies"][-1] == 4
    files = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*")) for n in ("one", "two")]
    assert files[0] == files[1]


def local_cluster(workers: int, folder: Path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'cardiacseg[cluster]'")
    settings = {"threads_per_worker": 1, "dashboard_address": None, "local_directory": str(folder)}
    return distributed.LocalCluster(n_workers=workers, processes=True, **settings)


def test_a_cluster_reads_studies_elsewhere_when_a_worker_dies_and_sets_the_deadly_one_aside(studies, tmp_path):
    holds, killed = Holds(tmp_path / "holds"), "phantom1-0"
    holds.hold(killed)
    with local_cluster(2, tmp_path / "dask") as cluster:
        from CardiacSegLib.cluster import ClusterCrew

        class Crew(ClusterCrew):
            def give(self, worker: str, number: int, found) -> None:
                super().give(worker, number, found)
                if str(found.results) == killed and holds.holds(killed):
                    holds.kill(killed)

        crew = Crew(cluster.scheduler_address, deadly(holds), tmp_path / "out", SegmentOptions())
        outcomes = run_crew(studies, tmp_path / "out", crew, SegmentOptions())
    assert {o.name: (o.status, o.tries) for o in outcomes if o.name != POISON} == {
        f"phantom{n}-0": ("done", 2 if n == 1 else 1) for n in range(3)
    }
    poison = outcomes[-1]
    assert poison.name == POISON and poison.tries == 2 and "set aside" in poison.reason
    assert function_of(tmp_path / "out" / "phantom0-0")["lv"]["edv_ml"] > 50


def test_a_worker_of_a_cluster_that_hangs_is_started_anew_and_its_study_set_aside(studies, tmp_path):
    holds, ended = Holds(tmp_path / "holds"), []
    holds.hold(POISON)
    with local_cluster(1, tmp_path / "dask") as cluster:
        from CardiacSegLib.cluster import ClusterCrew

        class Crew(ClusterCrew):
            def events(self, seconds: float) -> list:
                self._longest_s = 0.5 if holds.stopped(POISON) else 600.0
                return super().events(seconds)

            def _end(self, workers: list) -> None:
                super()._end(workers)
                ended.append(holds.stopped(POISON))
                holds.forget(POISON)

        crew = Crew(cluster.scheduler_address, deadly(holds), tmp_path / "out", SegmentOptions())
        outcomes = {o.name: o for o in run_crew(studies, tmp_path / "out", crew, SegmentOptions())}
    poison = outcomes.pop(POISON)
    assert (poison.status, poison.tries, len(set(ended))) == ("failed", 2, 2) and "died or hung" in poison.reason
    assert [(o.status, o.tries) for o in outcomes.values()] == [("done", 1)] * 3
    for pid in ended:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_scheduler_that_is_not_there_is_said_in_words(studies, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'cardiacseg[cluster]'")
    from CardiacSegLib.cluster import ClusterCrew

    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout, **k: real(address, timeout=1, **k))
    with pytest.raises(CardiacSegError, match="No Dask scheduler answers"):
        ClusterCrew("tcp://127.0.0.1:9", RECIPE, tmp_path, SegmentOptions())
