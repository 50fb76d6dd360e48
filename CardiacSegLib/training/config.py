"""Everything that makes a training run, as data. Needs no torch; travels with the weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from CardiacSegLib.errors import ModelError
from CardiacSegLib.networks.config import NetworkConfig
from CardiacSegLib.preprocessing import PreprocessingConfig


@dataclass(frozen=True)
class LossConfig:
    """Which loss, and its weights.

    Attributes:
        kind: ``"ce"``, ``"dice"`` or ``"dice-ce"``.
        ce_weights: per class; ``None`` is 1 each, ``"inverse-sqrt"`` and ``"inverse"`` follow the class frequency of
            the training set.
        dice_weights: per class; ``None`` is 1 each.
        lambda_ce, lambda_dice: weights of the two terms in ``"dice-ce"`` (equation 5).
        literal: the Dice term as the paper prints it, without the factor 2.
        smooth: ε of equation 4.
        per_sample: sums of the Dice term over each sample alone instead of over the batch.
        reduction: ``"mean"`` over pixels, or equation 1's ``"sum"``.
    """

    kind: str = "dice-ce"
    ce_weights: tuple[float, ...] | str | None = None
    dice_weights: tuple[float, ...] | None = None
    lambda_ce: float = 1.0
    lambda_dice: float = 1.0
    literal: bool = False
    smooth: float = 1.0
    per_sample: bool = False
    reduction: str = "mean"


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training sample; every range is uniform, 0 switches a change off.

    Attributes:
        rotation_deg: in-plane rotation, ± degrees.
        any_rotation: share of samples rotated by any angle instead.
        scale: smallest and largest magnification.
        shear: ± tangent of the shear angle.
        translation: ± share of the field.
        flip: probability of mirroring, for each in-plane axis.
        elastic_px: SD in pixels of a smooth displacement field.
        elastic_share: share of samples displaced.
        gamma, contrast: ± of the natural logarithm.
        brightness: ± of the grey range [0, 1].
        bias: SD of the logarithm of a smooth multiplicative field.
        noise: largest SD of Gaussian noise.
        low_resolution: share of samples blurred to between half and full resolution.
        slice_jitter_px: SD of a shift of the neighbours of a predicted slice (breathing; 2D).
        slice_flip: probability of reversing the order of slices: stacks run from base to apex or the other way.
        contraction: smallest size of the LV cavity, as a share of its diameter, to which it is drawn together inside
            its wall, as in hypertrophic hearts at end systole (2D); 1 leaves it.
        contraction_share: share of samples so contracted.
    """

    rotation_deg: float = 15.0
    any_rotation: float = 0.0
    scale: tuple[float, float] = (0.9, 1.1)
    shear: float = 0.0
    translation: float = 0.0
    flip: float = 0.0
    elastic_px: float = 0.0
    elastic_share: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    low_resolution: float = 0.0
    slice_jitter_px: float = 0.0
    slice_flip: float = 0.0
    contraction: float = 1.0
    contraction_share: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """How weights are found.

    Attributes:
        epochs: passes over the training set.
        batch_size: samples of a step, over all processes together.
        optimiser: ``"sgd"`` (momentum) or ``"adamw"``.
        schedule: ``"step"`` divides the rate by 10 every ``step_epochs``; ``"cosine"`` and ``"poly"`` (power 0.9)
            fall to 0 at the last epoch.
        warmup_epochs: epochs over which the rate rises linearly from 0.
        ema: decay per step of the exponential moving average of weights that is validated and kept; 0 for none.
        crop: pixels of a square crop; ``None`` for the whole field.
        crop_at_heart: share of the crops that are centred near the heart; the others lie anywhere.
        gradient_clip: largest gradient norm; 0 for none.
        validate_every: epochs between two validations.
    """

    epochs: int = 300
    batch_size: int = 8
    optimiser: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.99
    weight_decay: float = 0.0
    schedule: str = "step"
    step_epochs: int = 30
    warmup_epochs: float = 0.0
    ema: float = 0.0
    crop: int | None = None
    crop_at_heart: float = 1.0
    gradient_clip: float = 0.0
    validate_every: int = 1


@dataclass(frozen=True)
class Preset:
    """A complete, named recipe: what is prepared, which network, how it is trained, what follows it."""

    name: str
    summary: str
    network: NetworkConfig
    preprocessing: PreprocessingConfig
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    largest_component: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return dataclasses.asdict(self)

    @property
    def recipe(self) -> str:
        """Name of the preset that it was made from; what the command line changed stands behind a ``+``."""
        return self.name.partition("+")[0]

    @property
    def of_training(self) -> Preset:
        """Without what only reading looks at: runs whose presets agree in it are the same training."""
        return self.prepared_with(read_pixel_mm=None)

    def prepared_with(self, **changes: Any) -> Preset:
        """The same with some fields of :class:`~CardiacSegLib.preprocessing.PreprocessingConfig` changed."""
        return dataclasses.replace(self, preprocessing=dataclasses.replace(self.preprocessing, **changes))

    @classmethod
    def from_dict(cls, values: Any) -> Preset:
        """The inverse of :meth:`to_dict`.

        Raises:
            ModelError: a field is missing, unknown or of the wrong kind.
        """
        try:
            return cls(
                name=str(values["name"]),
                summary=str(values["summary"]),
                network=_part(NetworkConfig, values["network"]),
                preprocessing=_part(PreprocessingConfig, values["preprocessing"]),
                loss=_part(LossConfig, values["loss"]),
                augmentation=_part(AugmentationConfig, values["augmentation"]),
                training=_part(TrainingConfig, values["training"]),
                largest_component=bool(values["largest_component"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ModelError(f"The preset in the file does not fit this version: {error}.") from error


def _part(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
