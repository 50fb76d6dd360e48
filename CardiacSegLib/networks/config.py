"""What a network is, as data: travels with the weights, and needs no torch to be read."""

from __future__ import annotations

from dataclasses import dataclass

#: Of a level: a model file that says more is refused.
MOST_CHANNELS = 2048


@dataclass(frozen=True)
class NetworkConfig:
    """A U-Net of two or three dimensions.

    Attributes:
        dims: 2, slice by slice; 3, whole volumes, pooled only in plane.
        in_slices: 2D only: neighbouring slices read as channels (1, 3 or 5); the middle one is predicted.
        classes: background, RV, MYO, LV.
        features: channels of each level, the first at full resolution; one pooling between two levels.
        convs: convolution – batch norm – ReLU units of a block.
        dropout: probabilities at the deepest contracting level, the one above it, and so on.
        upsampling: ``"transposed"`` convolution, or ``"subpixel"`` (Shi et al. 2016).
        standardise: shift and scale every input to mean 0 and SD 1 first, so that nothing depends on how much dark
            background a field of view holds.
    """

    dims: int = 2
    in_slices: int = 3
    classes: int = 4
    features: tuple[int, ...] = (32, 64, 128, 256, 512)
    convs: int = 2
    dropout: tuple[float, ...] = (0.5, 0.3)
    upsampling: str = "transposed"
    standardise: bool = False

    def __post_init__(self) -> None:
        if self.dims not in (2, 3):
            raise ValueError(f"A network has 2 or 3 dimensions, not {self.dims}.")
        if self.in_slices < 1 or self.in_slices % 2 == 0 or (self.dims == 3 and self.in_slices != 1):
            raise ValueError(f"in_slices must be odd (and 1 in 3D), not {self.in_slices}.")
        if self.upsampling not in ("transposed", "subpixel"):
            raise ValueError(f"upsampling is 'transposed' or 'subpixel', not '{self.upsampling}'.")
        if len(self.features) < 2 or len(self.dropout) > len(self.features):
            raise ValueError("A U-Net needs at least two levels, and at most one dropout a level.")
