"""Turn a trained model into a shipped one: the same weights and preset, with its card and name.

python Testing/Benchmarks/ship_model.py RUN/model.pt Resources/Models/fast.md Resources/Models/fast.pt
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from CardiacSegLib.models import load_model, save_model

LARGEST_BYTES = 16 * 2**20


def main(trained: Path, card: Path, target: Path) -> None:
    """Write ``target``; an existing one is replaced."""
    model = load_model(trained)
    save_model(target, replace(model, name=target.stem, card=card.read_text(encoding="utf-8")))
    size = target.stat().st_size
    print(f"{target}: {size / 2**20:.1f} MiB, epoch {model.facts.get('epoch')} of {model.facts.get('epochs')}")
    if size > LARGEST_BYTES:
        sys.exit(f"It is larger than {LARGEST_BYTES / 2**20:.0f} MiB.")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
