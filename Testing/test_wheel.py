"""What a user gets: the wheel, built from the source distribution, in an environment outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKING_FILES = (
    ".git",
    ".venv",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "demo",
    "runs",
)


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist: what the sdist leaves out is missing here too."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*WORKING_FILES))
    # Without isolation: the environment of the tests has setuptools, and nothing is fetched.
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), "source"], folder)
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its dependencies are those of the tests' own environment."""
    folder = tmp_path_factory.mktemp("fresh")
    run([sys.executable, "-m", "venv", "--without-pip", "environment"], folder)
    python = folder / "environment" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], folder)
    # A path file adds folders, but not the path files in them: an editable install stays out of sight.
    packages = Path(
        run([str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], folder).stdout.strip()
    )
    theirs = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(theirs)) + "\n", encoding="utf-8")
    return folder / "environment"


def test_wheel_carries_library_models_and_licences(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    library = {p.relative_to(ROOT).as_posix() for p in (ROOT / "CardiacSegLib").rglob("*.py")}
    models = {f"CardiacSegLib/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "Resources" / "Models").iterdir()}
    assert library | models <= names
    assert {"LICENSE", "Resources/Models/LICENSE"} <= {n.split(".dist-info/licenses/")[-1] for n in names}
    packages = {n.split("/")[0] for n in names}
    assert {p for p in packages if not p.endswith(".dist-info")} == {"CardiacSegLib"}


def test_wheel_carries_the_fast_model(wheel: Path) -> None:
    assert "CardiacSegLib/Resources/Models/fast.pt" in zipfile.ZipFile(wheel).namelist()


def test_installed_library_is_the_one_of_the_wheel(environment: Path, tmp_path: Path) -> None:
    done = run(
        [str(environment / "bin" / "python"), "-c", "import CardiacSegLib; print(CardiacSegLib.__file__)"], tmp_path
    )
    assert environment in Path(done.stdout.strip()).parents


def test_demo_runs_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    done = run([str(environment / "bin" / "cardiacseg"), "demo", "--output", "demo"], tmp_path)
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("LV EF %")]
    true, from_nifti, from_dicom = (float(value) for value in row[3:])
    assert abs(from_nifti - true) <= 5 and abs(from_dicom - true) <= 5
    assert (tmp_path / "demo" / "from_nifti" / "contours.png").is_file()
