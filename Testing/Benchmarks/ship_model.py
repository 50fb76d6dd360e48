"""Turn a trained model into a shipped one: its preset, its card and name, and its weights.

python Testing/Benchmarks/ship_model.py CARD.md Resources/Models/NAME.pt RUN/model.pt [BEFORE/model.pt …]

With several models, of one training that went on, the mean of their weights; preset and facts are the first one's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from CardiacSegLib.models import TrainedModel, load_model, save_model

LARGEST_BYTES = 16 * 2**20


def mean_of(models: Sequence[TrainedModel]) -> TrainedModel:
    """The first model with the mean of the weights of all: they must be of one network."""
    first, *others = models
    if any(model.preset.network != first.preset.network for model in others):
        sys.exit("Weights of different networks have no mean.")
    weights, *further = (model.float_weights() for model in models)
    for name, value in weights.items():
        if value.is_floating_point():
            weights[name] = torch.stack([value, *(other[name] for other in further)]).mean(dim=0)
    return replace(first, weights=weights)


def main(card: Path, target: Path, *trained: Path) -> None:
    """Write ``target``; an existing one is replaced."""
    model = mean_of([load_model(path) for path in trained])
    save_model(target, replace(model, name=target.stem, card=card.read_text(encoding="utf-8")))
    size = target.stat().st_size
    print(f"{target}: {size / 2**20:.1f} MiB, epoch {model.facts.get('epoch')} of {model.facts.get('epochs')}")
    if size > LARGEST_BYTES:
        sys.exit(f"It is larger than {LARGEST_BYTES / 2**20:.0f} MiB.")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*(Path(argument) for argument in sys.argv[1:]))
