"""Where real data is, and how many threads the tests take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything loads torch or ITK: more threads than that make tests on small arrays slower, not faster.
for variable in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(variable, str(min(2, os.cpu_count() or 1)))


def _data_folder(variable: str, holds: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set; it names {holds}")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"{variable} names a folder that is not there; it should be {holds}")
    return folder


@pytest.fixture(scope="session")
def acdc_root() -> Path:
    """ACDC's training folder: ``patientNNN/Info.cfg`` and NIfTI files."""
    return _data_folder("CARDIACSEG_ACDC", "the ACDC training folder (patient001, patient002, ...)")


@pytest.fixture(scope="session")
def cine_dicom_root() -> Path:
    """Sunnybrook's folder with ``dicom/`` and ``contours/``."""
    return _data_folder("CARDIACSEG_CINE_DICOM", "a folder of cine DICOM studies (dicom/ and contours/)")


@pytest.fixture(scope="session")
def real_hearts(acdc_root):
    """ACDC's ``Info.cfg`` and manual masks at ED and ES, by patient."""
    from CardiacSegLib.readers.acdc import read_acdc_truth, read_info

    hearts = {}
    for folder in sorted(acdc_root.glob("patient*")):
        info, truth = read_info(folder / "Info.cfg"), read_acdc_truth(folder)
        hearts[folder.name] = info, truth[info.ed], truth[info.es]
    return hearts


MODULE_FILE = Path(__file__).resolve().parents[1] / "CardiacSeg" / "CardiacSeg.py"


@pytest.fixture(scope="session")
def host():
    """The stand-in for the Slicer application (see ``SlicerHost``)."""
    import SlicerHost

    return SlicerHost.start()


@pytest.fixture
def module(host):
    """The module as Slicer opens it, in an empty scene; afterwards nothing may run and no error be left."""
    host.reset()
    widget = host.loadModule(MODULE_FILE)
    widget.parent.show()
    yield widget
    host.closeScene()
    assert not widget.segmentPanel.running
    host.reset()
