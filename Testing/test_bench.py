"""The benchmark runs, and gives every figure that it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from CardiacSegLib.models import available_models

REPOSITORY = Path(__file__).resolve().parents[1]
BENCH = REPOSITORY / "Testing" / "Benchmarks" / "bench.py"
#: First words of each title, and how many rows belong to it.
TABLES = {
    "Inference, seconds a phase": 2 + ("best" in available_models()),
    "Inference by stage": 11,
    "A whole cine": 2,
    "From a cold shell": 2,
    "Peak memory": 3,
    "Training default-2d, steps per second": 5,
    "A training step of default-2d by part": 7,
    "Training paper-2d-dice-ce, steps per second": 5,
    "A training step of paper-2d-dice-ce by part": 7,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[str, dict]:
    """What a quick run prints, and its JSON."""
    if "fast" not in available_models():
        pytest.skip("the model 'fast' is not installed; the benchmark measures it")
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    # One thread: threads that wait for each other on a busy machine take far longer than one alone.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--json", str(file), "--page", str(file.with_suffix(".md"))],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    assert page.startswith("# Speed") and all(f"## {title}" in page for title in TABLES)
    return done.stdout, json.loads(file.read_text(encoding="utf-8"))


def test_every_table_is_printed_and_holds_positive_numbers(run):
    printed, found = run
    assert len(found["tables"]) == len(TABLES)
    for table, (title, rows) in zip(found["tables"], TABLES.items()):
        assert table["title"].startswith(title) and table["title"] in printed
        assert len(table["rows"]) == rows
        for name, *numbers in table["rows"]:
            assert name in printed and len(numbers) == len(table["columns"]) - 1
            known = [n for n in numbers if n is not None]
            assert known and all(n > 0 for n in known), (title, name, numbers)


def test_parts_add_up_to_the_whole(run):
    for table in run[1]["tables"]:
        names = [row[0] for row in table["rows"]]
        if names[-1] == "sum":
            parts, whole = table["rows"][:-1], table["rows"][-1]
            assert sum(row[1] for row in parts) == pytest.approx(whole[1])
            assert sum(row[2] for row in parts) == pytest.approx(100.0)


def test_facts_of_the_machine_stand_in_it_without_its_name(run):
    printed, found = run
    assert set(found["facts"]) == {
        "cardiacseg",
        "processor",
        "system",
        "python",
        "torch",
        "threads",
        "cpu_bf16",
        "quick",
    }
    assert found["facts"]["threads"] == 1
    assert os.uname().nodename not in printed if hasattr(os, "uname") else True
