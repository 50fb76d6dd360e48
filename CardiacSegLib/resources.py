"""Where models and terminology lie: in a checkout, a wheel, and Slicer's build and install trees."""

from __future__ import annotations

from pathlib import Path


def resource_folders(kind: str) -> list[Path]:
    """The folders of a kind (``"Models"``, ``"Terminology"``) that are there.

    They lie in ``CardiacSegLib/Resources`` in a wheel and in Slicer's build and install trees, and beside the package,
    in ``Resources``, in a checkout.
    """
    package = Path(__file__).resolve().parent
    return [p for p in (package / "Resources" / kind, package.parent / "Resources" / kind) if p.is_dir()]
