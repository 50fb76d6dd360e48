"""A page as it is printed: by Chromium, which must be installed (``apt-get install chromium poppler-utils``).

``python Testing/print_page.py report.html picture.png`` puts its pages side by side, as in the README.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-pdf-header-footer"),
)


def browser() -> str | None:
    """Chromium's command, where it is installed."""
    return shutil.which("chromium")


def print_page(page: Path, pdf: Path) -> int:
    """Print an HTML file to PDF, with a profile that is thrown away; returns the number of pages."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser() or "chromium", *_OPTIONS, f"--user-data-dir={profile}", f"--print-to-pdf={pdf}"]
        subprocess.run([*command, page.resolve().as_uri()], check=True, capture_output=True, timeout=120)
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


def picture_of(page: Path, picture: Path, width: int = 800) -> None:
    """Draw the printed pages side by side, each ``width`` px wide, in few colours."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        pdf = Path(folder, "page.pdf")
        print_page(page, pdf)
        subprocess.run(["pdftoppm", "-r", "150", "-png", str(pdf), str(Path(folder, "page"))], check=True)
        sheets = [Image.open(path).convert("RGB") for path in sorted(Path(folder).glob("page-*.png"))]
    sheets = [sheet.resize((width, round(sheet.height * width / sheet.width)), Image.LANCZOS) for sheet in sheets]
    whole = Image.new("RGB", (width * len(sheets) + 6 * (len(sheets) - 1), sheets[0].height), "#808080")
    for number, sheet in enumerate(sheets):
        whole.paste(sheet, (number * (width + 6), 0))
    whole.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    picture_of(Path(sys.argv[1]), Path(sys.argv[2]))
