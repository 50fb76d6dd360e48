"""The named recipes: ``paper-*`` follow the paper as literally as it can be read, ``default-*`` need only be better."""

from __future__ import annotations

from dataclasses import replace

from CardiacSegLib.errors import TrainingError
from CardiacSegLib.networks.config import NetworkConfig
from CardiacSegLib.preprocessing import PreprocessingConfig
from CardiacSegLib.training.config import AugmentationConfig, LossConfig, Preset, TrainingConfig

#: The paper's augmentation: rotation ±15°, scale 0.9–1.1.
LIGHT = AugmentationConfig()

#: What the paper tried first and left out, for it made things worse.
HEAVY = AugmentationConfig(
    rotation_deg=30.0,
    scale=(0.8, 1.25),
    shear=0.15,
    translation=0.1,
    flip=0.5,
    elastic_px=4.0,
    elastic_share=0.5,
    gamma=0.3,
    contrast=0.3,
    brightness=0.1,
    noise=0.05,
)

#: For other scanners, fields of view and orientations.
STRANGERS = AugmentationConfig(
    rotation_deg=20.0,
    any_rotation=0.02,
    scale=(0.87, 1.15),
    shear=0.06,
    flip=0.02,
    elastic_px=2.0,
    elastic_share=0.3,
    gamma=0.25,
    contrast=0.2,
    brightness=0.07,
    bias=0.15,
    noise=0.03,
    low_resolution=0.12,
    slice_jitter_px=0.5,
    slice_flip=0.02,
    contraction=0.2,
    contraction_share=0.1,
)

AUGMENTATIONS = {
    "light": LIGHT,
    "heavy": HEAVY,
    "strangers": STRANGERS,
    "none": AugmentationConfig(0.0, scale=(1.0, 1.0)),
}

_PAPER_LOSSES = {
    "ce": LossConfig(kind="ce", ce_weights="inverse-sqrt"),
    "dice": LossConfig(kind="dice", dice_weights=(0.1, 1.0, 1.0, 1.0)),
    "dice-ce": LossConfig(kind="dice-ce", ce_weights="inverse-sqrt", dice_weights=(0.1, 1.0, 1.0, 1.0)),
}


def _paper(dims: int, loss: str) -> Preset:
    planar = dims == 2
    return Preset(
        name=f"paper-{dims}d-{loss}",
        summary=f"The paper's {dims}D network with its {loss} loss.",
        network=NetworkConfig(
            dims=dims,
            in_slices=3 if planar else 1,
            features=(32, 64, 128, 256, 512) if planar else (16, 32, 64, 128, 256),
            dropout=(0.5, 0.3),
        ),
        preprocessing=PreprocessingConfig(
            clahe=True, slice_mm=None if planar else 10.0, train_slices=None if planar else 12
        ),
        loss=_PAPER_LOSSES[loss],
        augmentation=LIGHT,
        training=TrainingConfig(batch_size=8 if planar else 4),
    )


_DEFAULT_2D = Preset(
    name="default-2d",
    summary="Slice by slice with both neighbours; AdamW, cosine, averaged weights, augmented for other scanners.",
    network=NetworkConfig(features=(16, 32, 64, 128, 256), dropout=(0.1,), standardise=True),
    preprocessing=PreprocessingConfig(pixel_mm=1.3, train_size=288, min_size=128, region=True, upright=True),
    loss=LossConfig(kind="dice-ce", dice_weights=(0.0, 1.0, 1.0, 1.0)),
    augmentation=STRANGERS,
    training=TrainingConfig(
        epochs=300,
        batch_size=16,
        optimiser="adamw",
        learning_rate=2e-3,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_epochs=1.0,
        ema=0.999,
        crop=160,
        crop_at_heart=0.85,
        gradient_clip=5.0,
        validate_every=5,
    ),
    largest_component=True,
)

_DEFAULT_3D = replace(
    _DEFAULT_2D,
    name="default-3d",
    summary="Whole stacks at 10 mm slice distance, pooled in plane; otherwise as default-2d.",
    network=NetworkConfig(dims=3, in_slices=1, features=(16, 32, 64, 128, 256), dropout=(0.1,), standardise=True),
    preprocessing=PreprocessingConfig(min_size=128, slice_mm=10.0, train_slices=12, upright=True),
    training=replace(_DEFAULT_2D.training, batch_size=4),
)

_FINDER = replace(
    _DEFAULT_2D,
    name="finder",
    summary="Where in a slice the heart lies, on 4 mm pixels: the coarse pass of CardiacSegLib.region.",
    network=NetworkConfig(features=(16, 32, 64, 96), dropout=(0.1,), standardise=True),
    preprocessing=PreprocessingConfig(pixel_mm=4.0, train_size=144, min_size=64),
    augmentation=AugmentationConfig(
        rotation_deg=30.0,
        any_rotation=0.7,
        scale=(0.7, 1.4),
        shear=0.1,
        flip=0.5,
        elastic_px=1.0,
        elastic_share=0.3,
        gamma=0.4,
        contrast=0.3,
        brightness=0.1,
        bias=0.25,
        noise=0.05,
        low_resolution=0.25,
        slice_jitter_px=0.4,
        slice_flip=0.5,
    ),
    training=replace(_DEFAULT_2D.training, epochs=80, crop=96, crop_at_heart=0.7, validate_every=20),
)

PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        _DEFAULT_2D,
        _DEFAULT_3D,
        _FINDER,
        *(_paper(dims, loss) for dims in (2, 3) for loss in ("ce", "dice", "dice-ce")),
    )
}
# "the paper's network" without a word about the loss is the one that it recommends.
PRESETS["paper-2d"] = replace(PRESETS["paper-2d-dice"], name="paper-2d")
PRESETS["paper-3d"] = replace(PRESETS["paper-3d-dice"], name="paper-3d")


def get_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        TrainingError: there is none of that name.
    """
    if name not in PRESETS:
        raise TrainingError(f"There is no preset '{name}'; there are: {', '.join(sorted(PRESETS))}.")
    return PRESETS[name]
