"""Installing PyTorch and scikit-image: one question, readable ends, Slicer's own packages held at their versions."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")

from CardiacSegSlicer import installer as module
from CardiacSegSlicer.installer import SKIMAGE, TORCH, Installer, InstallError, heldVersions, missingPackages


class Computer:
    """What is installed, and everything that an installer does to it."""

    def __init__(self, *missing, agrees: bool = True) -> None:
        self.missing, self.agrees = list(missing), agrees
        self.questions: list[str] = []
        self.done: list[tuple] = []
        self.fails: dict = {}

    def ask(self, text: str) -> bool:
        self.questions.append(text)
        return self.agrees

    def install_torch(self, versions: str):
        return self._install(TORCH, versions)

    def pip_install(self, requirement: str, constraints: str):
        return self._install(SKIMAGE, requirement, Path(constraints).read_text().split())

    def _install(self, package, *how):
        self.done.append((package.title, *how))
        if package in self.fails:
            outcome = self.fails[package]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        self.missing.remove(package)
        return package

    @property
    def installer(self) -> Installer:
        return Installer(self.ask, self.install_torch, self.pip_install, lambda: list(self.missing))


def test_nothing_is_asked_or_done_where_all_is_there():
    computer = Computer()
    assert computer.installer.ensure() == [] and computer.installer.missing() == []
    assert not computer.questions and not computer.done


def test_one_question_names_packages_sizes_and_place_and_both_are_installed():
    computer = Computer(TORCH, SKIMAGE)
    assert computer.installer.missing() == ["PyTorch", "scikit-image"]
    assert computer.installer.ensure() == ["PyTorch", "scikit-image"]
    (question,) = computer.questions
    for words in ("PyTorch >=2.5", "scikit-image >=0.22", "200 MB", "2.5 GB", "Slicer's own Python"):
        assert words in question
    (_, versions), (_, requirement, held) = computer.done
    assert versions == ">=2.5" and requirement == "scikit-image>=0.22"
    assert f"numpy=={importlib.metadata.version('numpy')}" in held
    assert computer.installer.ensure() == [] and len(computer.questions) == 1


def test_only_what_is_missing_is_asked_for():
    computer = Computer(SKIMAGE)
    assert computer.installer.ensure() == ["scikit-image"]
    assert "PyTorch" not in computer.questions[0] and [d[0] for d in computer.done] == ["scikit-image"]


def test_a_refusal_installs_nothing_and_is_one_plain_message():
    computer = Computer(TORCH, SKIMAGE, agrees=False)
    with pytest.raises(InstallError, match="Nothing was installed") as caught:
        computer.installer.ensure()
    assert caught.value.declined and not computer.done and "PyTorch, scikit-image" in str(caught.value)


@pytest.mark.parametrize(
    ("failing", "outcome", "there", "lacking"),
    [
        (TORCH, None, "nothing", "PyTorch, scikit-image"),
        (TORCH, subprocess.CalledProcessError(1, "pip"), "nothing", "PyTorch, scikit-image"),
        (TORCH, ImportError("DLL load failed", name="torch"), "nothing", "PyTorch, scikit-image"),
        (SKIMAGE, RuntimeError("PythonSlicer executable not found"), "PyTorch", "scikit-image"),
        (SKIMAGE, OSError(28, "No space left on device"), "PyTorch", "scikit-image"),
    ],
)
def test_a_failure_says_what_is_there_and_what_is_not(failing, outcome, there, lacking):
    computer = Computer(TORCH, SKIMAGE)
    computer.fails[failing] = outcome
    with pytest.raises(InstallError) as caught:
        computer.installer.ensure()
    text = str(caught.value)
    assert f"Installed: {there}." in text and f"Still missing: {lacking}." in text and not caught.value.declined
    assert "\n" not in text and "Traceback" not in text


def test_an_install_that_ends_well_but_leaves_nothing_is_a_failure():
    computer = Computer(SKIMAGE)
    computer.pip_install = lambda requirement, constraints: None  # as pip_ensure does in testing mode
    with pytest.raises(InstallError, match=r"not all is there.*Still missing: scikit-image"):
        computer.installer.ensure()


def test_without_the_pytorch_extension_nobody_is_asked_and_the_way_is_told(monkeypatch):
    computer = Computer(TORCH, SKIMAGE)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(InstallError, match="Extensions Manager"):
        Installer(computer.ask, None, computer.pip_install, lambda: list(computer.missing)).ensure()
    assert not computer.questions and not computer.done


def test_pytorch_is_installed_through_the_extension_without_a_second_question(monkeypatch):
    computer, calls = Computer(TORCH), []

    class Logic:
        def installTorch(self, **options):
            calls.append({**options, "constraint": os.environ["PIP_CONSTRAINT"]})
            return computer.install_torch(options["torchVersionRequirement"])

    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = Logic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    before = os.environ.get("PIP_CONSTRAINT")
    assert Installer(computer.ask, find=lambda: list(computer.missing)).ensure() == ["PyTorch"]
    (call,) = calls
    assert call["askConfirmation"] is False and call["torchVersionRequirement"] == ">=2.5"
    assert call["constraint"].startswith("file:") or " file:" in call["constraint"]
    assert os.environ.get("PIP_CONSTRAINT") == before


def test_scikit_image_goes_through_what_the_version_of_slicer_has(monkeypatch):
    import slicer

    calls = []
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)  # 5.8, 5.10
    monkeypatch.setattr(
        slicer, "util", types.SimpleNamespace(pip_install=lambda arguments: calls.append(arguments)), raising=False
    )
    module._pipInSlicer("scikit-image>=0.22", "/c.txt")
    assert calls == [["scikit-image>=0.22", "--constraint", "/c.txt"]]
    packaging = types.ModuleType("slicer.packaging")  # 5.12
    packaging.pip_ensure = lambda requirements, **options: calls.append((requirements, options))
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    module._pipInSlicer("scikit-image>=0.22", "/c.txt")
    requirements, options = calls[1]
    assert requirements == ["scikit-image>=0.22"] and options["constraints"] == "/c.txt"
    assert options["prompt_install"] is False


def test_pip_reads_the_held_versions_also_from_a_folder_with_spaces(tmp_path, monkeypatch):
    """Checked with pip itself: it must obey, so that a version that is not held cannot be asked for."""
    folder = tmp_path / "a b"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--disable-pip-version-check"]
    version = importlib.metadata.version("numpy")
    with heldVersions() as constraints:
        assert f"numpy=={version}" in Path(constraints).read_text()
        kept = subprocess.run([*command, "numpy"], capture_output=True, text=True)
        other = subprocess.run([*command, f"numpy!={version}"], capture_output=True, text=True)
    assert kept.returncode == 0, kept.stderr
    assert other.returncode != 0 and "constraint" in other.stdout + other.stderr
    assert list(folder.iterdir()) == []


def test_versions_that_pip_cannot_read_do_not_spoil_the_file(monkeypatch):
    versions = {"numpy": "2.0.1", "scipy": "1.13.1+local.1", "SimpleITK": "2.5-dirty g12", "requests": "2.32.3"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    with heldVersions() as constraints:
        assert Path(constraints).read_text().split() == ["numpy==2.0.1", "scipy==1.13.1+local.1", "requests==2.32.3"]


def test_what_is_missing_too_old_or_half_there_is_found(tmp_path, monkeypatch):
    assert missingPackages() == []
    versions = {"torch": "2.4.1+cpu", "scikit-image": "0.22.0"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    assert missingPackages() == [TORCH]
    versions["torch"] = "10.0.0a1"
    assert missingPackages() == []
    (tmp_path / "half").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    half = SKIMAGE._replace(module="half")
    absent = SKIMAGE._replace(module="no_such_module_here")
    monkeypatch.setattr(module, "PACKAGES", (TORCH, half, absent))
    assert missingPackages() == [half, absent]
