"""Results and failures of many studies in one table: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from CardiacSegLib.cohort import Outcome
from CardiacSegLib.writers import write_bytes, write_text

TABLE_FILE, PARQUET_FILE = "studies.csv", "studies.parquet"

_FIRST = ("study", "status", "reason", "tries", "seconds")


def table_row(outcome: Outcome) -> dict[str, Any]:
    """One study as a flat row: the keys of ``function.json`` joined by ``_`` (``lv_edv_ml``), its warnings by `` | ``.

    Lists of anything but sentences are left out.
    """
    row = {name: getattr(outcome, name) for name in _FIRST[1:]}
    return {"study": outcome.name, **row, **dict(_flat(outcome.function or {}))}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    cells: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            cells += _flat(value, f"{prefix}{key}_")
        elif isinstance(value, (list, tuple)):
            if all(isinstance(v, str) for v in value):
                cells.append((f"{prefix}{key}", " | ".join(value)))
        else:
            cells.append((f"{prefix}{key}", value))
    return cells


def write_table(output: Path, outcomes: Sequence[Outcome]) -> list[Path]:
    """Write ``studies.csv`` and, where pyarrow is there, ``studies.parquet``, by name of the study; returns both.

    Raises:
        CardiacSegError: a file cannot be written.
    """
    rows = [table_row(outcome) for outcome in sorted(outcomes, key=lambda o: o.name)]
    columns = list(dict.fromkeys([*_FIRST, *(key for row in rows for key in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output / TABLE_FILE, text.getvalue())
    written = [output / TABLE_FILE]
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return written
    packed = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({c: _of_one_kind([row.get(c) for row in rows]) for c in columns}), packed)
    write_bytes(output / PARQUET_FILE, packed.getvalue().to_pybytes())
    return [*written, output / PARQUET_FILE]


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Parquet's columns hold numbers or text, not both."""
    if any(isinstance(v, str) for v in values):
        return [None if v is None else str(v) for v in values]
    return values


class TableKeeper:
    """Keeps the table of a batch up to date: once in a while, and at the end.

    Args:
        output: the batch's folder.
        every: least seconds between two writings.
    """

    def __init__(self, output: Path, every: float = 60.0) -> None:
        self.output, self.every = output, every
        self._outcomes: list[Outcome] = []
        self._last = time.monotonic()

    def __enter__(self) -> TableKeeper:
        return self

    def __exit__(self, *_: object) -> None:
        if self._outcomes:
            write_table(self.output, self._outcomes)

    def add(self, outcome: Outcome) -> None:
        """One more study has an outcome."""
        self._outcomes.append(outcome)
        if time.monotonic() - self._last >= self.every:
            write_table(self.output, self._outcomes)
            self._last = time.monotonic()
