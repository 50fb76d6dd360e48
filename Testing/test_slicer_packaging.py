"""What CMake packs is enough: the module opens from Slicer's trees, with its library, its model and its terminology.

CMake itself reads the project's lists; three macros stand in for those that Slicer's build brings.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
pytest.importorskip("PySide6", reason="PySide6 (Qt) is not installed")

from conftest import MODULE_FILE

ROOT = MODULE_FILE.parents[1]
SCRIPTED_MODULES = "lib/Slicer-5.10/qt-scripted-modules"

CONFIG = f"""
set(Slicer_USE_FILE "${{CMAKE_CURRENT_LIST_DIR}}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${{CMAKE_CURRENT_LIST_DIR}}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${{CMAKE_CURRENT_LIST_DIR}}/Nothing.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "{SCRIPTED_MODULES}")
"""
USE = """
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(PARSE_ARGV 0 IT "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES")
  if(IT_UNPARSED_ARGUMENTS OR NOT IT_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule does not know ${IT_UNPARSED_ARGUMENTS}")
  endif()
  set(all "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  set(folder "${all}")
  if(IT_WITH_SUBDIR)
    get_filename_component(name "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    string(APPEND folder "/${name}")
  endif()
  foreach(file IN LISTS IT_SCRIPTS IT_RESOURCES)
    configure_file("${CMAKE_CURRENT_SOURCE_DIR}/${file}" "${folder}/${file}" COPYONLY)
  endforeach()
  install(DIRECTORY "${all}/" DESTINATION "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  if(IT_WITH_GENERIC_TESTS)
    file(APPEND "${CMAKE_BINARY_DIR}/tests.txt" "generic ${IT_NAME}\\n")
  endif()
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(PARSE_ARGV 0 IT "" "SCRIPT" "SLICER_ARGS")
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${IT_SCRIPT}")
    message(FATAL_ERROR "There is no ${IT_SCRIPT}")
  endif()
  file(APPEND "${CMAKE_BINARY_DIR}/tests.txt" "unittest ${IT_SCRIPT}\\n")
endfunction()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of a build whose ``build`` and ``install`` hold Slicer's trees."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("CMake is not installed")
    folder = tmp_path_factory.mktemp("built")
    slicer = folder / "slicer"
    slicer.mkdir()
    for name, text in (("SlicerConfig", CONFIG), ("UseSlicer", USE), ("Nothing", "")):
        (slicer / f"{name}.cmake").write_text(text, encoding="utf-8")
    # Nothing is compiled: any program passes for a compiler.
    none = [
        f"-DCMAKE_{language}_COMPILER{setting}" for language in ("C", "CXX") for setting in (f"={cmake}", "_FORCED=ON")
    ]
    for command in (
        ["-S", ROOT, "-B", folder / "build", f"-DSlicer_DIR={slicer}", "-DBUILD_TESTING=ON", *none],
        ["--install", folder / "build", "--prefix", folder / "install"],
    ):
        done = subprocess.run([cmake, *map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


OPENED = """
import sys, SlicerHost
host = SlicerHost.start()
host.showMainWindow(False)
module = host.loadModule(sys.argv[1])
assert not module.ui.segmentButton.enabled
assert "torch" not in sys.modules and "skimage" not in sys.modules
import CardiacSegLib
from CardiacSegLib.models import available_models
from CardiacSegSlicer import terminology
assert CardiacSegLib.__file__.startswith(sys.argv[2]), CardiacSegLib.__file__
assert str(available_models()["fast"][0]).startswith(sys.argv[2]) and terminology.loadTerminology()
assert slicer.modules.cardiacseg.icon is not None
helpers = sys.modules["CardiacSegSlicer.reading"]
module.onReload()  # as by Slicer's button "Reload and Test"
again = slicer.modules.CardiacSegWidget
assert again is not module and type(again) is not type(module)
assert sys.modules["CardiacSegSlicer.reading"] is not helpers and not again.ui.segmentButton.enabled
host.reset()
"""


def opens_alone(module_file: Path, root: Path, elsewhere: Path) -> None:
    """Open and reload the module without a main window, in a process that finds nothing but what lies beside it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "Testing"), "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", "import slicer" + OPENED, str(module_file), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=elsewhere)
    assert done.returncode == 0, done.stderr


def test_the_module_opens_and_reloads_from_a_folder_that_a_user_adds_without_a_main_window_and_without_torch(tmp_path):
    opens_alone(MODULE_FILE, ROOT, tmp_path)


def test_the_module_opens_and_reloads_from_slicers_install_tree(built, tmp_path):
    root = built / "install" / SCRIPTED_MODULES
    opens_alone(root / "CardiacSeg.py", root, tmp_path)


def test_build_and_install_tree_hold_the_same_files_and_no_module_too_many(built):
    trees = [built / name / SCRIPTED_MODULES for name in ("build", "install")]
    build, install = ({p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()} for tree in trees)
    assert build == {name for name in install if "__pycache__" not in name}
    # Slicer takes every .py file that lies here for a module
    assert {name for name in build if "/" not in name} == {"CardiacSeg.py"}


def test_slicers_tests_are_the_generic_ones_and_the_modules_own(built):
    tests = (built / "build" / "tests.txt").read_text(encoding="utf-8").split("\n")
    assert tests[:2] == ["generic CardiacSeg", "unittest CardiacSeg.py"]


def test_both_descriptions_of_the_extension_say_what_the_index_asks_for():
    entry = json.loads((ROOT / "CardiacSeg.json").read_text(encoding="utf-8"))
    assert (entry["category"], entry["build_dependencies"], entry["tier"]) == ("Cardiac", ["PyTorch"], 1)
    assert {"scm_url", "scm_revision", "build_subdirectory", "$schema"} <= set(entry)
    lines = (ROOT / "CardiacSeg.s4ext").read_text(encoding="utf-8").splitlines()
    said = dict(line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#"))
    assert (said["category"], said["depends"], said["enabled"]) == ("Cardiac", "PyTorch", "1")
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert f'set(EXTENSION_DESCRIPTION "{said["description"]}")' in cmake
