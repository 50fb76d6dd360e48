"""Every case of the corpus through the command line, the library and the Slicer module's input, in one process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from CardiacSegLib.cli import main
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.nifti_check import is_whole_nifti
from CardiacSegLib.study import CineStudy, LabelMap
from trust.cases import SECRETS, Case, quick_model

#: No input of the corpus needs longer.
LONGEST_S = 60
#: Of the plain phantom's volumes, in parts.
SAME = 0.02


class Broken(AssertionError):
    """An input did not end as promised."""


class _Remembering:
    """A segmenter that segments an image it has seen once only."""

    def __init__(self, segmenter: Any) -> None:
        self._segmenter, self._known = segmenter, {}  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segmenter, name)

    def segment(self, study: CineStudy, frames: Any = None, **options: Any) -> Any:
        wanted = tuple(range(study.frames) if frames is None else frames)
        key = hashlib.sha256(study.image.tobytes()).hexdigest(), study.image.dtype.str, study.image.shape, wanted
        key = (*key, study.spacing)  # type: ignore[assignment]
        if key not in self._known:
            self._known[key] = self._segmenter.segment(study, frames, **options)
        found = self._known[key]
        labels = {i: LabelMap(m.data, study.geometry) for i, m in found.labels.items()}
        return replace(found, labels=labels)


@contextmanager
def one_network() -> Iterator[None]:
    """The command line's network is loaded once for all cases."""
    from CardiacSegLib import inference

    whole = inference.Segmenter

    @functools.lru_cache(maxsize=4)
    def loaded(models: tuple[str, ...], device: str, flips: bool) -> Any:
        return _Remembering(whole(list(models), device, flips=flips))

    inference.Segmenter = lambda models, device="cpu", flips=False: loaded(tuple(map(str, models)), "cpu", flips)  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        inference.Segmenter = whole  # type: ignore[misc]


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that others than root may enter, and that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="cardiacseg-trust-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """A hang is an error, where the system can interrupt one."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise Broken(f"it takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def command_line(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
    return code, out.getvalue(), err.getvalue()


def check_messages(text: str) -> None:
    """No traceback, no fault of the program, and nothing that a header said of the patient."""
    for sign in ("Traceback", "fault of the program", "unexpected "):
        if sign in text:
            raise Broken(f"it says '{sign}': {text[-600:]}")
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
        raise Broken(f"it prints control characters: {text!r}")
    for secret in SECRETS:
        if secret.lower() in text.lower():
            raise Broken(f"it tells what the header says of the patient: {secret}")


def everything(folder: Path) -> dict[str, Any]:
    """Every file below a folder with its size and time of change."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            info = os.lstat(os.path.join(root, name))
            found[os.path.join(root, name)] = (info.st_size, info.st_mtime_ns)
    return found


def check_whole(output: Path) -> dict[str, Any]:
    """The results in a folder: all there, none half written, nothing besides."""
    function = json.loads((output / "function.json").read_text(encoding="utf-8"), parse_constant=_no_number)
    for file in output.iterdir():
        if file.name.startswith((".~", ".cardiacseg")):
            raise Broken(f"it leaves {file.name}")
        if file.name.endswith(".nii.gz") and not is_whole_nifti(file):
            raise Broken(f"{file.name} is half written")
        if file.suffix in (".json", ".html", ".svg"):
            check_messages(file.read_text(encoding="utf-8"))
    return function


def _no_number(constant: str) -> None:
    raise Broken(f"function.json holds {constant}")


def check_command_line(case: Case, folder: Path, reference: dict[str, Any] | None) -> dict[str, Any] | None:
    """``cardiacseg segment`` with the case; returns ``function.json`` where it is read.

    Raises:
        Broken: it does not end as the case says.
    """
    given, output = folder / "given", folder / "output"
    given.mkdir(parents=True)
    inputs = case.make(given)
    (folder / "inputs.json").write_text(json.dumps([str(p) for p in inputs]), encoding="utf-8")
    before = everything(given)
    options = [*case.options, *(("--model", quick_model(folder.parent)) if case.quick else ())]
    around = case.around(given) if case.around else contextlib.nullcontext()
    with around, at_most(LONGEST_S):  # type: ignore[attr-defined]
        code, out, err = command_line("segment", *inputs, "--output", output, *options)
    check_messages(out + err)
    if everything(given) != before:
        raise Broken("it changes its input")
    if code not in (0, 1, 2):
        raise Broken(f"its exit code is {code}")
    if case.refused:
        return _check_refused(case, code, out, err, output)
    if code != 0:
        raise Broken(f"it is refused: {err}")
    function = check_whole(output)
    warnings = function["warnings"]
    if case.warned and not any(re.search(case.warned, w) for w in warnings):
        raise Broken(f"it is read without the warning '{case.warned}': {_figures(function)} {warnings}")
    if case.same and reference is not None and not _alike(function, reference):
        raise Broken(f"its figures are others: {_figures(function)} instead of {_figures(reference)}; {warnings}")
    return function


def _check_refused(case: Case, code: int, out: str, err: str, output: Path) -> None:
    lines = [line for line in err.splitlines() if line.strip()]
    if code == 0:
        function = json.loads((output / "function.json").read_text(encoding="utf-8"))
        raise Broken(f"it is read: {_figures(function)} {function['warnings']}")
    if not lines or not re.search(case.refused, err) or (code == 1 and len(lines) != 1):
        raise Broken(f"its message is not one line with '{case.refused}': {err}")
    if output.exists() and everything(output):
        raise Broken(f"it leaves {sorted(everything(output))}")


def _figures(function: dict[str, Any]) -> dict[str, Any]:
    keys = ("edv_ml", "esv_ml", "volume_ml")
    return {part: {k: function[part][k] for k in keys if k in function[part]} for part in ("lv", "rv")}


def _alike(function: dict[str, Any], reference: dict[str, Any]) -> bool:
    ours, theirs = ([f[p][k] or 0.0 for p in ("lv", "rv") for k in ("edv_ml", "esv_ml")] for f in (function, reference))
    return bool(np.allclose(ours, theirs, rtol=SAME))


def check_library(case: Case, given: Path) -> None:
    """The readers alone, with what :func:`check_command_line` wrote.

    Raises:
        Broken: they raise something else than a CardiacSegError.
    """
    _read_only(case, given, lambda paths: read_study(*paths))


def check_module(case: Case, given: Path, scene: Any) -> None:
    """The Slicer module's input: nodes in a scene, or a message."""
    from CardiacSegSlicer.loading import loadCine, loadPair

    def read(paths: list[Path]) -> None:
        loadPair(*paths, scene=scene) if len(paths) == 2 else loadCine(paths[0], scene)

    _read_only(case, given, read)
    scene.Clear(0)


def _read_only(case: Case, given: Path, read: Any) -> None:
    if not case.library:
        return
    inputs = [Path(p) for p in json.loads((given.parent / "inputs.json").read_text(encoding="utf-8"))]
    around = case.around(given) if case.around else contextlib.nullcontext()
    message = ""
    with around, at_most(LONGEST_S):  # type: ignore[attr-defined]
        try:
            read(inputs)
        except CardiacSegError as error:
            message = str(error)
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"the library raises {type(error).__name__}: {error}") from error
    check_messages(message)
    if bool(case.refused) != bool(message):
        raise Broken(f"the library says '{message}'")
