"""How fast a study is segmented: beside plain PyTorch, stage by stage, from a cold shell, and in how much memory."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from tables import Table, interleaved, ratio

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.inference import Segmentation, Segmenter, compiled_for, network_inputs, predict_volume
from CardiacSegLib.models import TrainedModel, available_models, load_model
from CardiacSegLib.networks.unet import UNet
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.postprocessing import labels_from_probabilities
from CardiacSegLib.preprocessing import make_grid, normalise, prepare
from CardiacSegLib.readers import read_study
from CardiacSegLib.region import HeartFinder
from CardiacSegLib.second_look import bears_it, look_again
from CardiacSegLib.study import CineStudy, LabelMap
from CardiacSegLib.workflow import FUNCTION_FILE, SegmentOptions, label_files, measure_labels, segment_path
from CardiacSegLib.writers import write_cine, write_json, write_label_map

MODEL, ENSEMBLE = "fast", "best"
PHASES = 2
_CPU = torch.device("cpu")


class PlainSegmenter:
    """The same way from study to labels around an eager float32 network: NCHW, batch norms apart, batches of 8."""

    tells_certainty = False

    def __init__(self, model: TrainedModel) -> None:
        self.name, self.model, self.network = model.name, model, model.build()

    @torch.no_grad()
    def probabilities(self, volume: torch.Tensor) -> torch.Tensor:
        """Class probabilities ``(class, z, y, x)`` of a prepared volume ``(z, y, x)``."""
        parts = network_inputs(volume, self.model.preset.network).split(8)
        return torch.cat([torch.softmax(self.network(part), dim=1) for part in parts]).transpose(0, 1)

    def segment(
        self,
        study: CineStudy,
        frames: Sequence[int],
        *,
        with_certainty: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """As :meth:`Segmenter.segment`, but it never says how sure it is."""
        result, preset = Segmentation(model=self.name, device="cpu"), self.model.preset
        for index in frames:
            prepared = prepare(study.frame(index), study.spacing, preset.preprocessing)
            found = self.probabilities(torch.from_numpy(prepared.volume)).numpy()
            native = prepared.grid.probabilities_to_native(found)
            labels = labels_from_probabilities(native, preset.largest_component)
            result.labels[index] = LabelMap(labels, study.geometry)
        return result


def inference_tables(folder: Path, words: str, scratch: Path, repeats: int, warm_up: bool) -> list[Table]:
    """Speed of the model :data:`MODEL` on the CPU with the library warm, beside plain PyTorch, and by stage."""
    model = load_model(MODEL)
    if model.preset.network.dims != 2:
        raise CardiacSegError(f"The model '{MODEL}' is not 2D: the benchmark's plain network does not fit it.")
    study = read_study(folder)
    prepared = prepare(study.frame(0), study.spacing, model.preset.preprocessing)
    volume, ours, plain = torch.from_numpy(prepared.volume), Segmenter(model, "cpu"), PlainSegmenter(model)
    network = compiled_for(model.build(), _CPU)
    output, options = scratch / "labels", SegmentOptions(overwrite=True)
    taken = interleaved(
        {
            "files": lambda: segment_path(folder, output, ours, options),
            "files, plain": lambda: segment_path(folder, output, plain, options),  # type: ignore[arg-type]
            "network": lambda: predict_volume(network, volume, _CPU),
            "network, plain": lambda: plain.probabilities(volume),
        },
        repeats,
        warm_up,
    )
    rows = []
    kinds = (("files", PHASES, "files in to label files out"), ("network", 1, "network alone on the whole field"))
    for what, phases, words_for_it in kinds:
        own, others = ([s / phases for s in taken[name]] for name in (what, f"{what}, plain"))
        rows.append((f"{MODEL}, {words_for_it}", *_three(own), statistics.median(others), ratio(others, own)))
    if ENSEMBLE in available_models():
        several = Segmenter(ENSEMBLE, "cpu")
        run = {"": lambda: segment_path(folder, scratch / "ensemble", several, options)}
        own = [s / PHASES for s in interleaved(run, repeats, warm_up)[""]]
        rows.append((f"{ENSEMBLE}, files in to label files out", *_three(own), None, None))
    grids = " × ".join(map(str, study.geometry.shape)), " × ".join(map(str, prepared.grid.shape))
    speed = Table(
        "Inference, seconds a phase",
        ("", "min", "median", "max", "plain PyTorch", "times faster"),
        rows,
        (3, 3, 3, 3, 2),
        f"ED and ES of {words}, {grids[0]} voxels, {grids[1]} on the network's grid; library warm, CPU. "
        "Plain: the same network, eager, float32, NCHW.\n"
        f"{repeats} runs, taken in turns; ratios are medians. Aims: 0.15 s with {MODEL}, 1 s with {ENSEMBLE}.",
    )
    runs = [_staged_run(folder, model, network, scratch / "stages") for _ in range(repeats)]
    return [speed, _stage_table(runs)]


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


def _stage_table(runs: Sequence[dict[str, float]]) -> Table:
    medians = {stage: statistics.median(run[stage] for run in runs) * 1000 / PHASES for stage in runs[0]}
    whole = sum(medians.values())
    rows = [(stage, ms, 100 * ms / whole) for stage, ms in medians.items()]
    return Table(
        "Inference by stage, milliseconds a phase",
        ("stage", "ms", "%"),
        [*rows, ("sum", whole, 100.0)],
        (1, 1),
        "The library's own functions called one after the other.",
    )


def _staged_run(folder: Path, model: TrainedModel, network: UNet, output: Path) -> dict[str, float]:
    """Seconds of every stage of one study, both phases together."""
    taken: dict[str, float] = {}

    def timed(stage: str, run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = run(*args, **options)
        taken[stage] = taken.get(stage, 0.0) + time.perf_counter() - started
        return result

    study, preset = timed("read", read_study, folder), model.preset
    finder = HeartFinder(_CPU) if preset.preprocessing.region else None
    labels: dict[int, LabelMap] = {}
    for index in (study.ed, study.es):
        frame = study.frame(index)
        values = timed("normalise", normalise, frame, preset.preprocessing)
        grid = make_grid(frame.shape, study.spacing, preset.preprocessing)
        region = timed("find the heart", finder.find, values, study.spacing, grid) if finder else None
        grid = grid if region is None else grid.part(*region)
        volume = timed("to the network's grid", grid.greys_to_network, values)
        found = timed("network", predict_volume, network, torch.from_numpy(volume), _CPU).numpy()
        if bears_it(preset):
            found = timed("second look", _with_second_look, found, volume, network, grid.axes[1].out_step)
        native = timed("back to the native grid", grid.probabilities_in_window, found)
        kept = np.zeros(study.geometry.shape, np.uint8)
        kept[grid.window] = timed("postprocess", labels_from_probabilities, native, preset.largest_component)
        labels[index] = LabelMap(kept, study.geometry)
    function = timed("measure", measure_labels, study, labels, model=model.name)
    for index, name in label_files(study, list(labels)).items():
        timed("write", write_label_map, output / name, labels[index])
    timed("write", write_json, output / FUNCTION_FILE, function)
    return taken


def _with_second_look(first: np.ndarray, volume: np.ndarray, network: UNet, pixel_mm: float) -> np.ndarray:
    """The mean with what the network gives in the image turned and enlarged, around what it drew at first."""

    def read(shown: torch.Tensor) -> np.ndarray:
        return predict_volume(network, shown, _CPU).numpy()

    return look_again(first, labels_from_probabilities(first, True), torch.from_numpy(volume), read, pixel_mm)[0]


def cycle_table(scratch: Path, repeats: int, quick: bool) -> Table:
    """Seconds of a whole cine, file to files, and memory per frame: half the frames must take half the time."""
    frames, slices, size = (4, 4, 96) if quick else (25, 10, 256)
    rows, segmenter = [], Segmenter(MODEL, "cpu")
    for count in (frames, frames // 2):
        spacing = (10.0, 340.0 / size, 340.0 / size)
        config = PhantomConfig(frames=count, slices=slices, size=(size, size), spacing=spacing, ed_index=0)
        file = scratch / f"cine{count}.nii.gz"
        write_cine(file, make_phantom(config).study)
        options = SegmentOptions(whole_cycle=True, overwrite=True)
        run = {"cine": lambda file=file, options=options: segment_path(file, scratch / file.stem, segmenter, options)}
        taken = interleaved(run, repeats, warm_up=not quick)["cine"]
        rows.append((f"{count} frames of {slices} slices of {size}²", *_three(taken)))
    note = f"A phantom, every frame, file in to label files out, library warm, CPU; {repeats} times. Aim: 3 s."
    return Table("A whole cine, seconds", ("", "min", "median", "max"), rows, (2, 2, 2), note)


def cold_table(folder: Path, scratch: Path, repeats: int) -> Table:
    """Wall time of ``cardiacseg segment`` on one patient in a new process, beside that of importing torch alone."""
    output = scratch / "cold"

    def command() -> None:
        shutil.rmtree(output, ignore_errors=True)
        arguments = ["segment", str(folder), "--output", str(output), "--model", MODEL, "--device", "cpu"]
        _python("-m", "CardiacSegLib.cli", *arguments)

    taken = interleaved({"command": command, "torch": lambda: _python("-c", "import torch")}, repeats, warm_up=False)
    names = (("command", "cardiacseg segment PATIENT"), ("torch", "of it: start Python, import torch"))
    rows = [(name, *_three(taken[key])) for key, name in names]
    note = f"ED and ES of one patient, a new process every time; {repeats} times. Aim: 4 s."
    return Table("From a cold shell, seconds", ("", "min", "median", "max"), rows, (2, 2, 2), note)


# The system's figure for a child may include what its parent held when it forked; /proc starts afresh.
_PEAK = """
import sys
def peak_mib():
    try:
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
"""
_SEGMENT = """
from CardiacSegLib.cli import main
if main(sys.argv[1:]) != 0:
    sys.exit(1)
"""


def memory_table(folder: Path, scratch: Path) -> Table:
    """Largest resident memory of a new process that segments one patient, above one that imports torch alone."""
    arguments = ["segment", str(folder), "--output", str(scratch / "memory"), "--model", MODEL, "--device", "cpu"]
    bare = _peak("import torch\n")
    whole = _peak(_SEGMENT, *arguments)
    rows = [("import torch", bare), ("cardiacseg segment PATIENT", whole), ("above import torch", whole - bare)]
    return Table("Peak memory, MiB", ("", "MiB"), rows, (0,), "Resident memory. Aim: 600 above import torch.")


def _peak(code: str, *arguments: str) -> float:
    return float(_python("-c", f"{_PEAK}{code}print(peak_mib())", *arguments).split()[-1])


def _python(*arguments: str) -> str:
    """Standard output of a new Python that finds this library."""
    import CardiacSegLib

    home = str(Path(CardiacSegLib.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise CardiacSegError(f"A command of the benchmark failed: {done.stderr.strip()[-500:]}")
    return done.stdout
