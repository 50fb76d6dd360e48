"""From a heart's geometry to image and labels: sections, tissues, texture, shading, noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from CardiacSegLib.phantom.heart import (
    RV_WALL_MM,
    Heart,
    axis_offset,
    crescent,
    ease,
    outline,
    profile,
    rv_share,
    slice_heights,
)
from CardiacSegLib.study import Label

# Depth in mm, at ED, in which the share of trabeculae falls to 1/e; as the signals below, fitted to healthy patients.
_TRABECULAE_MM = 2.1
_THICKNESS = 0.8  # slice thickness over slice distance
_GREY = 400.0  # stored grey value of blood before the coil's shading
# Signals in shares of LV blood's.
_BLOOD, _RV_BLOOD, _MYO, _RV_WALL = 1.0, 0.74, 0.31, 0.2
_FAT, _LUNG, _LIVER, _MUSCLE, _SPLEEN = 1.2, 0.06, 0.26, 0.24, 0.33


class _Picture:
    """Tissues laid over each other: their light, and the share of the background that still shows."""

    def __init__(self, like: np.ndarray) -> None:
        self.light, self.shown = np.zeros_like(like), np.ones_like(like)

    def lay(self, cover: np.ndarray, value: Any) -> None:
        """Lay a tissue on top where it covers (0 to 1)."""
        bare = 1 - cover
        self.light = self.light * bare + value * cover
        self.shown *= bare


def draw(heart: Heart, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ``(t, z, y, x)`` int16, labels of the same shape, and the breathing shift ``(z, 2)`` as (y, x) in mm."""
    config = heart.config
    (ny, nx), (_, dy, dx) = config.size, config.spacing
    y, x = np.meshgrid((np.arange(ny) - 0.48 * ny) * dy, (np.arange(nx) - 0.47 * nx) * dx, indexing="ij")
    y, x = y.astype(np.float32), x.astype(np.float32)
    top, bottom, left, right = heart.reach()
    image = np.empty((config.frames, config.slices, ny, nx), np.float32)
    truth = np.zeros(image.shape, np.uint8)
    shifts = np.zeros((config.slices, 2))
    for z, height in enumerate(slice_heights(heart)):
        way = float(np.clip(1 - height / heart.base.max(), 0, 1))  # 0 at the base, 1 at the apex
        down, aside = (float(v) for v in rng.normal(0, 1, 2) * config.breathing_mm * (1.0, 0.4))
        shifts[z] = down, aside
        image[:, z] = _body(y, x, (down, aside), way, rng)
        cy, cx = (float(axis + breath) for axis, breath in zip(axis_offset(way), (down, aside)))
        rows = np.flatnonzero((y[:, 0] > cy + top) & (y[:, 0] < cy + bottom))
        columns = np.flatnonzero((x[0] > cx + left) & (x[0] < cx + right))
        part = (slice(None), z, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        _draw_heart(heart, float(height), y[part[2:]] - cy, x[part[2:]] - cx, image[part], truth[part], rng)
    image *= _GREY * _shading(y, x, config.bias, rng)
    return _rician(image, _GREY * config.noise, rng), truth, shifts


def _rician(image: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude of the image with Gaussian noise in both channels (Gudbjartsson and Patz, MRM 1995), as int16."""
    stored = np.empty(image.shape, np.int16)
    sd32 = np.float32(sd)
    for frame, out in zip(image, stored):
        real, imaginary = rng.standard_normal((2, *frame.shape), np.float32)
        real = real * sd32 + frame
        imaginary *= sd32
        out[...] = np.sqrt(real * real + imaginary * imaginary) + np.float32(0.5)
    return stored


def _shading(y: np.ndarray, x: np.ndarray, bias: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplicative field: brightest near the coil on the chest (left and up), with a gentle wave."""
    turn = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
    wave = np.cos(x / 60 + turn[0]) * np.cos(y / 70 + turn[1])
    return np.exp(float(bias) * (0.25 * wave - np.tanh((x + 0.35 * y) / 110)))


def _texture(shape: tuple[int, ...], sd_px: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of mean 0 and SD 1."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal(shape, np.float32), sd_px, mode="wrap", truncate=3.0)
    return (noise - noise.mean()) / max(float(noise.std()), 1e-6)


def _draw_heart(
    heart: Heart, height: float, y: np.ndarray, x: np.ndarray, image: np.ndarray, truth: np.ndarray,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Lay one slice of the heart over ``image[t, y, x]`` and write ``truth``; ``y``, ``x`` are mm from the axis."""
    config = heart.config
    septum = float(np.radians(config.rv_angle_deg))
    angle = (np.arctan2(y, x) - septum + np.pi) % (2 * np.pi) - np.pi
    radius = np.maximum(np.hypot(y, x), 0.1)
    pixel = float(np.mean(config.spacing[1:]))
    grain, mottle = _texture(x.shape, 1.6 / pixel, rng), _texture(x.shape, 4.0 / pixel, rng)
    flows = [_texture(x.shape, 9.0 / pixel, rng) for _ in range(2)]
    # Near the apex the radius changes much within a slice.
    count = 8 if height < 0.3 * heart.base.max() else 4
    depths = config.spacing[0] * _THICKNESS * ((np.arange(count) + 0.5) / count - 0.5)
    sections = [_Section(heart, height + float(d), radius, angle, pixel, (grain, mottle)) for d in depths]
    for t in range(config.frames):
        cycle = 2 * np.pi * t / config.frames
        flow = 1 + 0.06 * (float(np.cos(cycle)) * flows[0] + float(np.sin(cycle)) * flows[1]) + 0.03 * grain
        light, shown = np.zeros_like(x), np.zeros_like(x)
        covers = np.zeros((4, *x.shape), np.float32)
        for section in sections:
            inside = section.height < heart.base[t]
            picture = section.ventricles(t, flow, covers) if inside else section.atria(t, flow)
            light += picture.light
            shown += picture.shown
        covers[0] = count - covers.sum(0)
        image[t] = (image[t] * shown + light) / count
        truth[t] = covers.argmax(0)


class _Section:
    """One thin section of the heart, at ``height`` mm above the apex, on polar maps about the long axis."""

    def __init__(
        self, heart: Heart, height: float, radius: np.ndarray, angle: np.ndarray, pixel: float,
        textures: tuple[np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        self.heart, self.height, self.pixel = heart, height, pixel
        self.grain, self.mottle = textures
        self.outline = outline(angle)
        self.radius = radius / self.outline
        self.depth, slope = crescent(angle, height / float(heart.base.max()))
        self.slope = slope / self.radius
        self.along, self.across = radius * np.cos(angle), radius * np.sin(angle)
        # Fat lies in the grooves at both ends of the RV; elsewhere it is a broken line.
        grooves = np.exp(-(((np.abs(angle) - 1.35) / 0.35) ** 2))
        self.fat = 4.5 * grooves - 0.6 + 1.2 * self.mottle
        self.muscle = _MYO * (1 + 0.05 * self.grain + 0.04 * self.mottle)

    def _cover(self, inside_mm: np.ndarray) -> np.ndarray:
        """Share of a pixel that lies inside a boundary, by the distance of its centre."""
        return np.clip(inside_mm * (1 / self.pixel) + 0.5, 0, 1)

    def ventricles(self, t: int, flow: np.ndarray, covers: np.ndarray) -> _Picture:
        """The section below the valve plane; what each structure covers is added to ``covers[label]``."""
        heart, h, base = self.heart, self.height, float(self.heart.base[t])
        picture = _Picture(self.radius)
        if h <= 0:
            return picture
        r_epi = float(heart.epi[t] * profile(h / base))
        epi = self._cover((r_epi - self.radius) * self.outline)
        covers[Label.MYO] += epi
        deep = float(heart.rv[t] * rv_share(h, base))
        to_edge = (r_epi + deep * self.depth - self.radius) * self.outline
        if deep > 0:
            to_edge /= np.sqrt(1 + (deep * self.slope) ** 2)
        to_skin = to_edge + np.minimum(RV_WALL_MM, 0.5 * deep * self.depth)
        picture.lay(self._cover(to_skin + self.fat), _FAT * (0.95 + 0.05 * self.mottle))
        if deep > 0:
            rv = np.clip(self._cover(to_edge) - epi, 0, 1)
            covers[Label.RV] += rv
            picture.lay(self._cover(to_skin), _RV_WALL)
            # The septum is smoother than the free wall.
            inside = np.minimum(to_edge, 2 * (self.radius - r_epi) * self.outline)
            # The epicardium comes on top and takes its share of the pixels on the septum.
            picture.lay(rv / np.maximum(1 - epi, 1e-3), self._cavity(inside, heart.rv_ml, t, _RV_BLOOD * flow))
        picture.lay(epi, self.muscle)
        if h > heart.apex:
            r_endo = float(heart.endo[t] * profile((h - heart.apex) / (base - heart.apex)))
            inside = (r_endo - self.radius) * self.outline
            endo = self._cover(inside)
            covers[Label.LV] += endo
            covers[Label.MYO] -= endo
            picture.lay(endo, self._cavity(inside, heart.lv_ml, t, _BLOOD * flow))
            for direction, size in ((np.pi - 0.75, 0.24), (np.pi + 1.25, 0.21)):
                thick = size * float(heart.endo.max() * ease(1 - abs(h / base - 0.5) / 0.38) ** 0.5)
                if thick > 0:
                    picture.lay(self._papillary(direction, min(thick, 0.36 * r_endo), r_endo) * endo, self.muscle)
        return picture

    def _cavity(self, inside_mm: np.ndarray, volumes: np.ndarray, t: int, blood: np.ndarray) -> np.ndarray:
        """Signal of blood among the trabeculae of the wall, which keep their volume while its surface shrinks."""
        reach_mm = _TRABECULAE_MM * float(volumes.max() / volumes[t]) ** (2 / 3)
        depth = np.maximum(inside_mm, 0) * (1 + 0.25 * np.clip(self.mottle, -2, 2))
        return blood + np.exp(depth * (-1 / reach_mm)) * (self.muscle - blood)

    def _papillary(self, direction: float, thick: float, r_endo: float) -> np.ndarray:
        """Cover of a papillary muscle that stands before the wall at an angle from the septum."""
        centre = r_endo - 1.25 * thick
        along = self.along * float(np.cos(direction)) + self.across * float(np.sin(direction)) - centre
        across = self.across * float(np.cos(direction)) - self.along * float(np.sin(direction))
        return self._cover(thick * (0.9 + 0.12 * self.mottle) - np.hypot(0.8 * along, 1.2 * across))

    def atria(self, t: int, flow: np.ndarray) -> _Picture:
        """The section above the valve plane: left atrium, aortic root, right atrium and outflow tract, in fat."""
        # The atria fill while the ventricles empty.
        size = self.heart.size * (1 + 0.06 * float(1 - self.heart.lv_ml[t] / self.heart.lv_ml.max()))
        picture = _Picture(self.radius)
        # Centre towards the RV and across it, radii along and across, signal; mm for an LV radius of 27 mm.
        chambers = (
            (-8, 3, 21, 24, _BLOOD), (20, 4, 13, 13, 1.05 * _BLOOD),
            (33, -21, 19, 19, 0.9 * _BLOOD), (36, 26, 13, 17, 0.95 * _BLOOD),
        )  # fmt: skip
        inside = [
            size * min(p, q) * (1 - np.hypot((self.along / size - a) / p, (self.across / size - b) / q)) + self.mottle
            for a, b, p, q, _ in chambers
        ]
        picture.lay(self._cover(np.max(inside, axis=0) + 6), _FAT * (0.85 + 0.1 * self.mottle))
        for within, chamber in zip(inside, chambers):
            picture.lay(self._cover(within + 1.5), _MYO)
            picture.lay(self._cover(within), chamber[4] * flow)
        return picture


def _body(y: np.ndarray, x: np.ndarray, shift: tuple[float, float], way: float, rng: np.random.Generator) -> np.ndarray:
    """Everything but the heart in one slice ``(y, x)``; mm from the heart. Organs move with the breath, ribs do not.

    ``way`` is 0 at the base and 1 at the apex, where the chest wall and the diaphragm are nearer.
    """
    pixel = float(y[1, 0] - y[0, 0])
    grain, mottle, fine = (_texture(y.shape, mm / pixel, rng) for mm in (1.6, 4.0, 1.2))
    warp = [2.0 * _texture(y.shape, 12.0 / pixel, rng) for _ in range(2)]
    picture = np.zeros_like(y)

    def lay(inside_mm: np.ndarray, value: Any) -> None:
        nonlocal picture
        share = np.clip(inside_mm / pixel + 0.5, 0, 1)
        # Fat and water cancel in the pixels that both share (balanced SSFP at opposed phase).
        picture = (picture * (1 - share) + value * share) * (1 - 2.0 * share * (1 - share))

    def ellipse(cy: float, cx: float, ry: float, rx: float) -> np.ndarray:
        return (1 - np.hypot((y - cy) / ry, (x - cx) / rx)) * min(ry, rx)

    y, x = y + warp[0], x + warp[1]
    # Distance from the skin, a superellipse that leaves the field at the bottom.
    skin = (1 - (np.abs((y - 75) / 225) ** 2.4 + np.abs((x - 28 - 14 * way) / 128) ** 2.4) ** (1 / 2.4)) * 128
    around = np.arctan2(y - 40, x - 30)
    strands = np.clip(0.6 * mottle + 0.6 * grain, 0, 1.5)
    fat = _FAT * (1 - 0.35 * strands)
    lay(skin, _MUSCLE)
    lay(skin - 1.5, _FAT * (1 - 0.15 * strands))
    lay(skin - 12 - 5 * np.cos(around + 2.5), _MUSCLE * (1 + 0.1 * grain))
    lay(2 + 3 * np.cos(15 * around + 2 * way) + mottle - np.abs(skin - 24), 0.7 * fat)
    lay(skin - 30, _LUNG * (1 + 0.2 * mottle))
    vessels = np.clip(fine - 1.9, 0, 1) * np.exp(-np.hypot(y + 20, x - 30) / 90)
    picture += np.clip((skin - 33) / pixel, 0, 1) * vessels * 1.4
    chest = skin - 30
    y, x = y - shift[0], x - shift[1]
    # Fat between the heart and the front chest wall.
    lay(np.minimum(chest, 30 + 12 * way - np.hypot(y - 24 + 10 * way, (x + 54 - 6 * way) * 0.8)), fat)
    dome = 43 - 8 * way - 0.10 * (x + 20) + (x - 10) ** 2 / 300
    lay(np.minimum(chest + 8, y - dome), 0.7 * fat)
    vessels = np.clip(0.8 * grain + 0.6 * mottle - 1.5, 0, 1)
    lay(np.minimum(np.minimum(chest + 8, y - dome - 2), ellipse(105, -25, 68, 85)), _LIVER + 0.25 * vessels)
    lay(np.minimum(y - dome - 3, ellipse(82, 72, 38, 30)), _SPLEEN * (1 + 0.06 * mottle))
    lay(ellipse(148, 78, 27, 20), 0.45 * (1 + 0.12 * mottle))
    lay(ellipse(150, 20, 28, 24), 0.4 * (1 + 0.12 * mottle))
    lay(ellipse(116, 42, 12, 12), _MYO)
    lay(ellipse(116, 42, 10.5, 10.5), 0.95 * _BLOOD)
    return np.maximum(picture, 0)
