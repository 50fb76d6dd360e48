"""Readers, the model loader and Info.cfg under random input: something sound, or a CardiacSegError, nothing else."""

from __future__ import annotations

import copy
import json
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from CardiacSegLib.errors import CardiacSegError, ModelError, StudyError
from CardiacSegLib.models import load_model
from CardiacSegLib.readers.acdc import read_info
from CardiacSegLib.readers.images import read_image_file, read_label_map
from trust import cases_images as header
from trust.cases import quick_model
from trust.fuzzing import TARGETS, random_changes

quickly = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", TARGETS)
def test_random_changes_of_valid_files_are_read_or_refused(name):
    assert random_changes(name, seconds=20, seed=7, most=30 if name == "dicom" else 120) > 20


KEYS = st.sampled_from(["ED", "ES", "NbFrame", "Group", "Height", "Weight", "es ", "", ":", "\ufeffED"])
VALUES = st.one_of(st.text(max_size=12), st.integers().map(str), st.floats().map(repr), st.just("9" * 4400))


@quickly
@given(st.lists(st.tuples(KEYS, st.sampled_from([":", "", "::", "="]), VALUES), max_size=8))
def test_any_info_cfg_gives_frames_from_one_or_a_sentence(tmp_path, lines):
    path = tmp_path / "Info.cfg"
    path.write_bytes("\n".join("".join(line) for line in lines).encode("utf-8", "surrogatepass"))
    try:
        info = read_info(path)
    except StudyError as error:
        assert "Info.cfg" in str(error)
        return
    assert info.ed >= 1 and info.es >= 1 and (info.frames is None or info.frames >= 0)
    assert all(v is None or 0 < v < float("inf") for v in (info.height_cm, info.weight_kg))


HALF = st.integers(-(2**15), 2**15 - 1)
SMALL = st.one_of(st.integers(-2, 9), HALF)
NUMBER = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, 352.0, -1.5]))
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dim": st.lists(SMALL, min_size=8, max_size=8).map(lambda v: (header.DIM, "8h", tuple(v))),
        "type": st.tuples(st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1536, 2304]),
                          st.sampled_from([1, 8, 16, 32, 64, 128, -16])).map(lambda v: (header.DATATYPE, "2h", v)),
        "spacing": st.lists(NUMBER, min_size=4, max_size=4).map(lambda v: (header.PIXDIM, "4f", tuple(v))),
        "offset": NUMBER.map(lambda v: (header.VOX_OFFSET, "f", (v,))),
        "slope": st.tuples(NUMBER, NUMBER).map(lambda v: (header.SLOPE, "2f", v)),
        "forms": st.tuples(SMALL, SMALL).map(lambda v: (header.QFORM, "2h", v)),
        "rows": st.lists(NUMBER, min_size=12, max_size=12).map(lambda v: (header.SROW, "12f", tuple(v))),
    },
)  # fmt: skip


@quickly
@given(FIELDS)
def test_any_nifti_header_gives_a_sound_study_or_a_sentence(tmp_path, fields):
    (path,) = header.nifti(tmp_path, **fields)
    for read in (read_image_file, read_label_map):
        try:
            found = read(path)
        except CardiacSegError as error:
            assert "cine.nii" in str(error)
            continue
        assert all(np.isfinite(s) and s > 0 for s in found.geometry.spacing)
        assert np.isfinite(getattr(found, "image", 0)).all()


LINES = st.lists(
    st.tuples(
        st.sampled_from(["type", "dimension", "sizes", "encoding", "endian", "spacings", "space directions", "space",
                         "kinds", "line skip", "byte skip", "data file", "content", "space origin", "labels"]),
        st.one_of(st.sampled_from(["short", "float", "3", "4", "8 8 5", "2 8 8 5", "raw", "gzip", "ascii", "hex",
                                   "little", "1 1 nan", "(1,0,0) (0,1,0) (0,0,8)", "none", "-1",
                                   "left-posterior-superior"]),
                  st.text(st.characters(codec="ascii"), max_size=20)),
    ),
    max_size=9,
)  # fmt: skip


@quickly
@given(LINES, st.integers(0, 700))
def test_any_nrrd_header_gives_a_sound_study_or_a_sentence(tmp_path, lines, count):
    path = tmp_path / "cine.nrrd"
    text = "".join(f"{name}: {value}\n" for name, value in lines)
    path.write_bytes(b"NRRD0004\n" + text.encode() + b"\n" + bytes(range(100)) * (count // 100))
    try:
        study = read_image_file(path)
    except CardiacSegError as error:
        assert "cine.nrrd" in str(error)
        return
    assert all(np.isfinite(s) and s > 0 for s in study.spacing) and np.isfinite(study.image).all()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@lru_cache(maxsize=1)
def recipe(folder: str) -> tuple[dict, dict]:
    from pathlib import Path

    content = torch.load(quick_model(Path(folder)), weights_only=True)
    return json.loads(content["header"]), content["weights"]


def places(values: object, way: tuple = ()) -> list[tuple]:
    """Every key of a nested dictionary, as the keys on the way to it."""
    if not isinstance(values, dict):
        return []
    return [p for key, inner in values.items() for p in ((*way, key), *places(inner, (*way, key)))]


@quickly
@given(st.data())
def test_any_value_anywhere_in_a_models_recipe_is_refused_or_gives_a_network(tmp_path_factory, data):
    original, weights = recipe(str(tmp_path_factory.getbasetemp()))
    changed = copy.deepcopy(original)
    *way, last = data.draw(st.sampled_from(places(original)))
    place = changed
    for key in way:
        place = place[key]
    place[last] = data.draw(JSON)
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    torch.save({"header": json.dumps(changed), "weights": weights}, path)
    try:
        network = load_model(path).build()
    except ModelError as error:
        assert str(error)
        return
    assert network.config.classes == 4


def test_the_seeds_of_the_fuzzer_are_valid(tmp_path):
    for name, target in TARGETS.items():
        folder = tmp_path / name
        folder.mkdir()
        for content in target.seeds(folder):
            target.read(content, folder)
