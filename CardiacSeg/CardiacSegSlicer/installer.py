"""PyTorch and scikit-image, which segmenting and training need and Slicer does not bring.

One question, then they are installed into Slicer's own Python; packages that Slicer brings are held at their versions.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError

#: Slicer's own packages: no install may replace them.
HELD = ("numpy", "scipy", "SimpleITK", "requests")

_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9.]+)?")


class Package(NamedTuple):
    """A package by the names that people, pip and ``import`` know, and the oldest version that will do."""

    title: str
    pip: str
    module: str
    oldest: tuple[int, int]

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.pip}{self.versions}"

    @property
    def versions(self) -> str:
        """The versions that will do, as pip takes them."""
        return f">={self.oldest[0]}.{self.oldest[1]}"


TORCH = Package("PyTorch", "torch", "torch", (2, 5))
SKIMAGE = Package("scikit-image", "scikit-image", "skimage", (0, 22))
PACKAGES = (TORCH, SKIMAGE)


class InstallError(CardiacSegError):
    """Packages are missing: the install was declined (``declined``), or it failed; the message says all."""

    def __init__(self, message: str, declined: bool = False) -> None:
        super().__init__(message)
        self.declined = declined


def missingPackages() -> list[Package]:
    """Those of :data:`PACKAGES` that are not there, only half there, or too old. Nothing is imported."""
    importlib.invalidate_caches()
    return [package for package in PACKAGES if not _isThere(package)]


def _isThere(package: Package) -> bool:
    try:
        spec = importlib.util.find_spec(package.module)
        version = importlib.metadata.version(package.pip)
    except (ImportError, ValueError, importlib.metadata.PackageNotFoundError):
        return False
    # A folder without __init__ is what a broken-off install leaves.
    return spec is not None and spec.origin is not None and _release(version) >= package.oldest


def _release(version: str) -> tuple[int, int]:
    """The first two numbers of a version such as ``2.5.1+cu121``."""
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split("+")[0].split(".")[:2]]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


class Installer:
    """Installs what is missing, when it is first needed.

    The defaults are Slicer's own ways; tests give others.

    Args:
        ask: shows a question; whether the user agrees.
        installTorch: installs PyTorch of given versions (``">=2.5"``), returns the module, or None if it was not
            installed; raises ``ImportError`` where Slicer's PyTorch extension is missing.
        pipInstall: installs a requirement under the versions of a constraints file.
        find: the packages that are missing.
    """

    def __init__(
        self,
        ask: Callable[[str], bool] | None = None,
        installTorch: Callable[[str], Any] | None = None,
        pipInstall: Callable[[str, str], Any] | None = None,
        find: Callable[[], list[Package]] = missingPackages,
    ) -> None:
        self._ask = ask or _askInSlicer
        self._installTorch = installTorch or _torchThroughExtension
        self._pipInstall = pipInstall or _pipInSlicer
        self._find = find

    def missing(self) -> list[str]:
        """Names of what is missing, for people; empty where nothing has to be installed."""
        return [package.title for package in self._find()]

    def ensure(self) -> list[str]:
        """Make sure that all is there; asks once if it is not.

        Returns:
            names of what was installed; empty if all was there.

        Raises:
            InstallError: declined or failed, in words for the user.
        """
        missing = self._find()
        if not missing:
            return []
        if TORCH in missing and self._installTorch is _torchThroughExtension and not hasTorchExtension():
            raise InstallError(_withoutExtension())
        if not self._ask(_question(missing)):
            names = ", ".join(package.title for package in missing)
            text = _("Nothing was installed. Segmenting and training need {names}; you are asked again next time.")
            raise InstallError(text.format(names=names), declined=True)
        with heldVersions() as constraints:
            for package in missing:
                self._install(package, constraints)
        left = self._find()
        if left:
            raise InstallError(self._failure(_("The install came to its end, but not all is there.")))
        return [package.title for package in missing]

    def _install(self, package: Package, constraints: str) -> None:
        try:
            if package is not TORCH:
                self._pipInstall(package.requirement, constraints)
                return
            if self._installTorch(package.versions) is None:
                raise InstallError(self._failure(_("PyTorch was not installed.")))
        except InstallError:
            raise
        except ImportError as error:
            if package is TORCH and error.name == "PyTorchUtils":
                raise InstallError(_withoutExtension()) from error
            raise InstallError(self._failure(_reason(package, error))) from error
        except Exception as error:  # pip, the network, the disk: whatever it is, the user gets words
            logging.exception("CardiacSeg: installing %s", package.title)
            raise InstallError(self._failure(_reason(package, error))) from error

    def _failure(self, reason: str) -> str:
        missing = self._find()
        there = ", ".join(p.title for p in PACKAGES if p not in missing) or _("nothing")
        lacking = ", ".join(p.title for p in missing) or _("nothing")
        text = _(
            "{reason} Installed: {there}. Still missing: {lacking}. Check the connection to the internet and the room "
            "on the disk, restart Slicer and try again; the Python console shows what pip said."
        )
        return text.format(reason=reason, there=there, lacking=lacking)


def _reason(package: Package, error: Exception) -> str:
    said = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return _("{name} could not be installed ({reason}).").format(
        name=package.title, reason=said or type(error).__name__
    )


def _question(missing: list[Package]) -> str:
    sizes = {
        TORCH: _("PyTorch {versions}: about 200 MB to download, 2.5 GB for an NVIDIA GPU"),
        SKIMAGE: _("scikit-image {versions}: about 30 MB to download"),
    }
    text = _(
        "Segmenting and training need Python packages that are not there yet:\n\n{packages}\n\n"
        "They are downloaded and installed into this Slicer's own Python, which takes some minutes. Packages that "
        "Slicer brings stay as they are, and nothing else on this computer is touched.\n\nInstall now?"
    )
    return text.format(packages="\n".join("• " + sizes[p].format(versions=p.versions) for p in missing))


def _withoutExtension() -> str:
    return _(
        "Segmenting and training need PyTorch, which Slicer's extension 'PyTorch' installs. Install that extension in "
        "the Extensions Manager, restart Slicer and try again."
    )


@contextmanager
def heldVersions() -> Iterator[str]:
    """A constraints file with the installed versions of :data:`HELD`, also in force for every pip started meanwhile.

    Yields:
        its path.
    """
    lines = []
    for name in HELD:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if _VERSION.fullmatch(version):  # pip would refuse the whole file
            lines.append(f"{name}=={version}\n")
    before = os.environ.get("PIP_CONSTRAINT")
    with tempfile.TemporaryDirectory(prefix="CardiacSeg-") as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("".join(lines), encoding="utf-8")
        # pip splits the variable at spaces, which a URL does not have. PyTorchUtils has no other way in.
        os.environ["PIP_CONSTRAINT"] = " ".join(part for part in (before, file.as_uri()) if part)
        try:
            yield str(file)
        finally:
            if before is None:
                del os.environ["PIP_CONSTRAINT"]
            else:
                os.environ["PIP_CONSTRAINT"] = before


def hasTorchExtension() -> bool:
    """Whether Slicer's PyTorch extension is installed."""
    # A module that Slicer has loaded may have no spec, which find_spec takes for an error.
    return sys.modules.get("PyTorchUtils") is not None or importlib.util.find_spec("PyTorchUtils") is not None


def _askInSlicer(text: str) -> bool:
    import slicer

    return bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Install packages")))


def _torchThroughExtension(versions: str) -> Any:
    import PyTorchUtils

    logic = PyTorchUtils.PyTorchUtilsLogic()
    return logic.installTorch(askConfirmation=False, torchVersionRequirement=versions)


def _pipInSlicer(requirement: str, constraints: str) -> None:
    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        import slicer

        slicer.util.pip_install([requirement, "--constraint", constraints])
        return
    # The one question was asked already; a failure is told by us, not by a dialog of its own.
    pip_ensure(
        [requirement],
        constraints=constraints,
        prompt_install=False,
        prompt_restart=False,
        requester="CardiacSeg",
        show_progress=False,
    )
