"""Bad input: every case of the corpus in ``trust`` ends in one readable line or in a stated repair."""

from __future__ import annotations

import os
import sys
import types

import pytest

from trust import cases_dicom, cases_folders, cases_images
from trust.inputs import (
    check_command_line,
    check_library,
    check_module,
    folder_for_all,
    one_network,
)

CASES = [*cases_images.CASES, *cases_dicom.CASES, *cases_folders.CASES]
posix = pytest.mark.skipif(os.name != "posix", reason="names, links and permissions of POSIX")


@pytest.fixture(scope="module")
def corpus():
    """Folder of the module's cases, and the figures of the undamaged phantom."""
    with one_network(), folder_for_all() as folder:
        yield folder, check_command_line(CASES[0], folder / "plain", None)


def test_the_corpus_has_more_than_sixty_different_inputs():
    assert len({case.name for case in CASES}) == len(CASES) > 150


@posix
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_input_ends_as_promised(case, corpus):
    folder, reference = corpus
    place = folder / str(CASES.index(case))
    check_command_line(case, place, reference)
    check_library(case, place / "given")


@posix
def test_no_input_breaks_the_modules_reader(corpus, monkeypatch):
    if sys.version_info < (3, 10):
        pytest.skip("slicer-core needs Python 3.10 or later")
    slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
    if "slicer.i18n" not in sys.modules:
        sys.modules["slicer.i18n"] = types.ModuleType("slicer.i18n")
        sys.modules["slicer.i18n"].tr = str
    scene, application = slicer.vtkMRMLScene(), slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    logics = {"volumes": slicer.vtkSlicerVolumesLogic(), "sequences": slicer.vtkSlicerSequencesLogic()}
    for logic in logics.values():
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
    modules = {name: types.SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer, "modules", types.SimpleNamespace(**modules), raising=False)
    tried = 0
    for number, case in enumerate(CASES):
        place = corpus[0] / str(number)
        if place.is_dir():  # made by the test above
            check_module(case, place / "given", scene)
            tried += 1
    assert tried in (0, len(CASES))
