"""The project around the library: what is listed where, what loads what, which Python it needs."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "CardiacSegLib"
MODULE = ROOT / "CardiacSeg"
MODELS = ROOT / "Resources" / "Models"
MODEL_LIMIT = 16 * 2**20  # bytes
LIGHT = ("readers", "metrics", "function", "report", "phantom", "study", "errors")


def python_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)


def cmake_list(file: Path, name: str) -> set[str]:
    """Entries of ``set(name ...)`` in a CMake file."""
    found = re.search(rf"^set\({name}\s([^)]*)\)", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{file.name} has no set({name} ...)"
    return set(found.group(1).split())


def assert_listed(listed: set[str], there: set[str], where: str) -> None:
    missing, gone = sorted(there - listed), sorted(listed - there)
    assert not missing and not gone, f"{where}: to add: {missing}; listed, but not there: {gone}"


@pytest.mark.parametrize(
    "path",
    (
        *("README.md", "LICENSE", "CITATION.cff", "CONTRIBUTING.md", "pyproject.toml", "Makefile", ".ci/run"),
        *(
            "CMakeLists.txt",
            "CardiacSeg.s4ext",
            "CardiacSeg.json",
            "CardiacSeg/CardiacSeg.py",
            "CardiacSeg/Resources/UI/CardiacSeg.ui",
        ),
        *("CardiacSeg/Resources/Icons/CardiacSeg.png", "Resources/Models/LICENSE", "Resources/Models/README.md"),
    ),
)
def test_top_level_holds_what_is_promised(path: str) -> None:
    assert (ROOT / path).is_file()


def test_ci_script_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_cmake_lists_every_file_of_the_library() -> None:
    there = {p.relative_to(LIBRARY).as_posix() for p in python_files(LIBRARY)}
    assert_listed(
        cmake_list(LIBRARY / "CMakeLists.txt", "CardiacSegLib_SCRIPTS"), there, "CardiacSegLib/CMakeLists.txt"
    )


def test_cmake_lists_every_model_file() -> None:
    there = {p.relative_to(MODELS).as_posix() for p in MODELS.rglob("*") if p.is_file()}
    assert_listed(cmake_list(LIBRARY / "CMakeLists.txt", "CardiacSegLib_MODELS"), there, "CardiacSegLib/CMakeLists.txt")


def test_cmake_lists_every_terminology() -> None:
    there = {p.name for p in (ROOT / "Resources" / "Terminology").iterdir()}
    listed = cmake_list(LIBRARY / "CMakeLists.txt", "CardiacSegLib_TERMINOLOGY")
    assert_listed(listed, there, "CardiacSegLib/CMakeLists.txt")


def test_cmake_lists_every_file_of_the_module() -> None:
    scripts = {p.relative_to(MODULE).as_posix() for p in python_files(MODULE)}
    resources = {p.relative_to(MODULE).as_posix() for p in (MODULE / "Resources").rglob("*") if p.is_file()}
    cmake = MODULE / "CMakeLists.txt"
    assert_listed(cmake_list(cmake, "MODULE_PYTHON_SCRIPTS"), scripts, "CardiacSeg/CMakeLists.txt")
    assert_listed(cmake_list(cmake, "MODULE_PYTHON_RESOURCES"), resources, "CardiacSeg/CMakeLists.txt")


def test_pyproject_lists_every_package() -> None:
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in python_files(LIBRARY) if p.name == "__init__.py"}
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert packages
    listed = set(re.findall(r'"([^"]+)"', packages.group(1)))
    assert_listed(listed, there | {"CardiacSegLib.Resources.Models"}, "pyproject.toml, packages")


def test_every_widget_of_mrml_in_the_ui_gets_the_scene() -> None:
    tree = ET.parse(MODULE / "Resources" / "UI" / "CardiacSeg.ui")
    top = tree.find("widget")
    assert top is not None and top.get("class") == "qMRMLWidget"
    widgets = {w.get("name") for w in top.iter("widget") if (w.get("class") or "").startswith("qMRML")} - {
        top.get("name")
    }
    connected = {
        c.findtext("receiver")
        for c in tree.iter("connection")
        if c.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and c.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    assert widgets and widgets == connected


def test_every_parameter_named_in_the_ui_is_one_of_the_parameter_node() -> None:
    tree = ET.parse(MODULE / "Resources" / "UI" / "CardiacSeg.ui")
    named = {p.findtext("string") for p in tree.iter("property") if p.get("name") == "SlicerParameterName"}
    source = ast.parse((MODULE / "CardiacSegSlicer" / "parameters.py").read_text(encoding="utf-8"))
    node = next(c for c in source.body if isinstance(c, ast.ClassDef) and c.name == "CardiacSegParameterNode")
    parameters = {a.target.id for a in node.body if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name)}
    assert named and named <= parameters


def test_every_widget_in_the_ui_has_a_tool_tip() -> None:
    tree = ET.parse(MODULE / "Resources" / "UI" / "CardiacSeg.ui")
    widgets = [w for w in tree.iter("widget") if w.get("class") != "qMRMLWidget"]
    bare = [w.get("name") for w in widgets if not any(p.get("name") == "toolTip" for p in w.findall("property"))]
    assert widgets and bare == []


def test_every_label_in_the_ui_leads_the_keyboard_to_its_widget() -> None:
    tree = ET.parse(MODULE / "Resources" / "UI" / "CardiacSeg.ui")
    names = {w.get("name") for w in tree.iter("widget")}
    buddies = [p.findtext("cstring") for p in tree.iter("property") if p.get("name") == "buddy"]
    assert buddies and set(buddies) <= names


def test_version_is_the_same_everywhere() -> None:
    import CardiacSegLib

    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited and cited.group(1).strip('"') == CardiacSegLib.__version__
    assert '{ attr = "CardiacSegLib.__version__" }' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def light_modules() -> list[str]:
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in python_files(LIBRARY)]
    names = [name[: -len(".__init__")] if name.endswith(".__init__") else name for name in names]
    return ["CardiacSegLib", *(n for n in names if n.split(".")[1:2] and n.split(".")[1] in LIGHT)]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT)


def test_library_readers_measures_and_reports_do_not_load_torch() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {light_modules()!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} loads torch'\n"
        "    assert 'skimage' not in sys.modules, f'{name} loads skimage'\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys\n"
        "from CardiacSegLib.cli import main\n"
        "try:\n"
        "    code = main(['--help'])\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        "assert not code, code\n"
        "assert 'torch' not in sys.modules, 'cardiacseg --help loads torch'\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "segment" in done.stdout


def test_code_needs_no_more_than_python_3_9() -> None:
    if importlib.util.find_spec("vermin"):
        start = "from vermin import main; main()"  # it has no __main__
        command = [sys.executable, "-c", start, "--quiet", "--target=3.9-", "--no-tips", "--violations"]
        done = subprocess.run([*command, str(MODULE), str(LIBRARY)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    for file in (*python_files(LIBRARY), *python_files(MODULE), *python_files(ROOT / "Testing")):
        ast.parse(file.read_text(encoding="utf-8"), str(file), feature_version=(3, 9))


def project_files() -> list[Path]:
    """What a commit could hold: tracked files and new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout: which files belong to the project is not known")
    return [p for p in (ROOT / name for name in listed.stdout.split("\0") if name) if p.is_file()]


def test_tree_holds_no_medical_image() -> None:
    def is_image(path: Path) -> bool:
        with path.open("rb") as file:
            head = file.read(400)
        dicom, nrrd, nifti = head[128:132] == b"DICM", head[:4] == b"NRRD", head[344:348] in (b"n+1\0", b"ni1\0")
        return dicom or nrrd or nifti or path.name.lower().endswith((".nii", ".nii.gz", ".dcm", ".nrrd", ".mha"))

    assert [str(p.relative_to(ROOT)) for p in project_files() if is_image(p)] == []


def test_tree_holds_no_file_of_the_acdc_data(acdc_root: Path) -> None:
    ours = {p.stat().st_size: p for p in project_files() if p.stat().st_size}
    same_size = [p for p in acdc_root.rglob("*") if p.is_file() and p.stat().st_size in ours]

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert [p.name for p in same_size if digest(p) == digest(ours[p.stat().st_size])] == []


def test_shipped_models_are_small_enough() -> None:
    assert {p.name: p.stat().st_size for p in MODELS.rglob("*") if p.is_file() and p.stat().st_size > MODEL_LIMIT} == {}
