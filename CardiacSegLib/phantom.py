"""A beating-heart phantom: a short-axis cine of known volumes that looks like balanced SSFP cine MR.

The heart is drawn in polar coordinates about the long axis of the LV, at a height ``h`` (mm) above the epicardial
apex: the cavity and the epicardium are truncated ellipsoids cut by the valve plane, the RV is a crescent on the
septum. Their volumes are integrals in closed form, so each frame is drawn *from* its volumes. The myocardium keeps
its volume over the cycle. Papillary muscles and trabeculae are part of the cavities, as ACDC counts: its contours run
where compact muscle begins, some 2 mm outside the edge of bright blood, and more in systole when trabeculae crowd.

The array shows the heart as ACDC's arrays do (RV on the left and below, liver at the bottom). With a right-handed
``direction`` this makes slice 0 the apex, as in every real series sorted along row × column; ACDC's files, whose
orientation is lost, run from base to apex.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap, Patient

_WIDEST = 0.75  # where the ellipsoids are widest, as a share of the way from their tip to the valve plane
_PROFILE = 1 - (_WIDEST**3 + (1 - _WIDEST) ** 3) / (3 * _WIDEST**2)  # integral of the squared profile over [0, 1]
_LENGTH = 1.6  # cavity length at ED over the cube root of its volume
_APICAL_WALL = 0.6  # thickness of the apex over that of the wall
_RV_TIP = 0.18  # height of the RV's tip over that of the valve plane
_RV_HALF_ANGLE = np.radians(82.0)
_RV_WALL_MM = 3.0
# Depth in mm, at ED, in which the share of trabeculae falls to 1/e; as the signals below, fitted to healthy patients.
_TRABECULAE_MM = 2.1
_THICKNESS = 0.8  # slice thickness over slice distance
_SYSTOLE = 0.36  # end systole as a share of the cycle
_GREY = 400.0  # stored grey value of blood before the coil's shading
# Signals in shares of LV blood's.
_BLOOD, _RV_BLOOD, _MYO, _RV_WALL = 1.0, 0.74, 0.31, 0.2
_FAT, _LUNG, _LIVER, _MUSCLE, _SPLEEN = 1.2, 0.06, 0.26, 0.24, 0.33


@dataclass(frozen=True)
class PhantomConfig:
    """What the phantom is to be.

    Attributes:
        frames: phases of one RR interval.
        slices: slices of the stack; the basal one lies above the valve plane, in the atria.
        size: pixels ``(y, x)``.
        spacing: mm ``(z, y, x)``, z the distance of slices (thickness and gap).
        edv_ml, ef: LV end-diastolic volume in mL and ejection fraction (0 to 1).
        rv_edv_ml, rv_ef: the same of the RV.
        wall_mm: thickness of the LV wall at its widest, at ED.
        shortening_mm: way of the valve plane towards the apex in systole. By default one slice distance, so that
            slices are wholly inside or outside the ventricle at both ED and ES.
        ed_index: index (from 0) of the end-diastolic frame: the cine's trigger comes that many frames early.
        heart_rate_bpm: beats per minute.
        noise: SD of the noise in each of the two channels, as a share of blood's signal (Rician magnitude).
        bias: strength of the coil's shading (natural logarithm, about ± this over the field).
        breathing_mm: SD of the shift of heart and organs from slice to slice, in plane.
        rv_angle_deg: direction in the image from LV to RV, from the x axis towards the y axis (180 is left,
            90 down); 150 is the middle of ACDC.
        heart_axis: LPS direction of the long axis, base to apex; the stack's normal is its opposite.
        seed: of everything random.
    """

    frames: int = 20
    slices: int = 11
    size: tuple[int, int] = (240, 208)
    spacing: tuple[float, float, float] = (10.0, 1.5, 1.5)
    edv_ml: float = 140.0
    ef: float = 0.60
    rv_edv_ml: float = 150.0
    rv_ef: float = 0.55
    wall_mm: float = 8.0
    shortening_mm: float = 10.0
    ed_index: int = 3
    heart_rate_bpm: float = 65.0
    noise: float = 0.025
    bias: float = 0.3
    breathing_mm: float = 1.5
    rv_angle_deg: float = 150.0
    heart_axis: tuple[float, float, float] = (0.65, -0.66, -0.38)
    seed: int = 0

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not np.all(np.isfinite(getattr(self, entry.name))):
                raise StudyError(f"The phantom's {entry.name} must be a number, not {getattr(self, entry.name)}.")
        for name, low, high in (
            ("frames", 2, 200), ("slices", 3, 200), ("edv_ml", 20, 500), ("ef", 0.02, 0.85), ("rv_edv_ml", 20, 500),
            ("rv_ef", 0.02, 0.85), ("wall_mm", 3, 25), ("shortening_mm", 0, 20), ("ed_index", 0, self.frames - 1),
            ("heart_rate_bpm", 20, 240), ("noise", 0, 1), ("bias", 0, 1), ("breathing_mm", 0, 20), ("seed", 0, 2**63),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise StudyError(f"The phantom's {name} must lie in {low} to {high}, not be {getattr(self, name)}.")
        axis = np.asarray(self.heart_axis, float)
        if np.hypot(axis[0], axis[1]) < 0.1 * np.linalg.norm(axis) or not axis.any():
            raise StudyError("The phantom's heart_axis must not run from head to foot; a usual heart lies obliquely.")


@dataclass(frozen=True)
class Phantom:
    """A cine and all that is true of it.

    Attributes:
        study: the cine, int16, kind ``"phantom"``; its ``ed`` and ``es`` are left open, so that finding them can be
            tried; ``study.with_phases(phantom.ed, phantom.es)`` states them.
        labels: truth per frame, on the study's grid: what fills most of each voxel.
        volumes_ml: volume per frame in mL of LV, RV and MYO: of the bodies themselves, not of counted voxels.
        ed, es: indexes (from 0) of end diastole and end systole.
    """

    study: CineStudy
    labels: tuple[LabelMap, ...]
    volumes_ml: dict[Label, np.ndarray]
    ed: int
    es: int


@dataclass(frozen=True)
class _Heart:
    """Sizes in mm of the ventricles, each an array over frames."""

    config: PhantomConfig
    base: np.ndarray  # height of the valve plane
    endo: np.ndarray  # largest radius of the LV cavity
    epi: np.ndarray
    rv: np.ndarray  # largest depth of the RV crescent
    apex: float  # thickness of the apical wall
    lv_ml: np.ndarray
    rv_ml: np.ndarray
    myo_ml: float

    @property
    def size(self) -> float:
        """Size of the atria: 1 for an LV of 27 mm radius."""
        return float(self.endo.max()) / 27

    def reach(self) -> tuple[float, float, float, float]:
        """Least and largest y, least and largest x in mm from the long axis, of all that belongs to the heart."""
        angle = np.radians(np.arange(-180, 180, 2))
        ventricles = _outline(angle) * (self.epi.max() + self.rv.max() * _crescent(angle, 1.0)[0]) + _RV_WALL_MM
        radius = np.maximum(ventricles, self.size * np.where(np.abs(angle) < 1.6, 60, 42)) + 8
        turned = angle + np.radians(self.config.rv_angle_deg)
        y, x = radius * np.sin(turned), radius * np.cos(turned)
        return float(y.min()), float(y.max()), float(x.min()), float(x.max())


def make_phantom(config: PhantomConfig | None = None) -> Phantom:
    """Draw a phantom; the same configuration gives the same arrays (to one grey value between versions of numpy).

    Raises:
        StudyError: the heart does not fit into the field of view.
    """
    config = config or PhantomConfig()
    geometry = _geometry(config)
    ed, es, fill = _cycle(config)
    heart = _heart(config, fill)
    field_mm = min(n * s for n, s in zip(config.size, config.spacing[1:]))
    needed_mm = 2.2 * max(map(abs, heart.reach())) + 4 * config.breathing_mm
    if field_mm < needed_mm:
        raise StudyError(
            f"The phantom's field of view ({field_mm:.0f} mm) is too small for this heart, which needs "
            f"{needed_mm:.0f} mm: choose more or larger pixels, or smaller ventricles."
        )
    image, truth = _draw(heart, np.random.default_rng(config.seed))
    beat_ms = 60000.0 / config.heart_rate_bpm
    study = CineStudy(
        image=image,
        geometry=geometry,
        name="phantom",
        times_ms=tuple(float(t) for t in np.arange(config.frames) * beat_ms / config.frames),
        patient=Patient(height_cm=175.0, weight_kg=75.0, age_years=45.0, heart_rate_bpm=config.heart_rate_bpm),
        kind="phantom",
    )
    if _heights(heart)[0] > config.spacing[0] / 2:
        study = study.with_warnings("The phantom's stack ends above the apex: true volumes are of the whole heart.")
    volumes = {Label.LV: heart.lv_ml, Label.RV: heart.rv_ml, Label.MYO: np.full(config.frames, heart.myo_ml)}
    return Phantom(study, tuple(LabelMap(frame, geometry) for frame in truth), volumes, ed, es)


def _geometry(config: PhantomConfig) -> Geometry:
    """Oblique right-handed grid: z against the heart's axis, y as far towards the feet as it can."""
    z = -np.asarray(config.heart_axis, float) / np.linalg.norm(config.heart_axis)
    y = np.array([0.0, 0.0, -1.0]) + z[2] * z
    y /= np.linalg.norm(y)
    direction = np.column_stack([np.cross(y, z), y, z])
    shape = (config.slices, *config.size)
    middle = direction @ ((np.asarray(shape[::-1]) - 1) / 2 * np.asarray(config.spacing[::-1]))
    return Geometry(
        shape=shape,
        spacing=tuple(float(s) for s in config.spacing),  # type: ignore[arg-type]
        origin=tuple(float(v) for v in np.array([40.0, -30.0, 0.0]) - middle),  # type: ignore[arg-type]
        direction=tuple(tuple(float(v) for v in row) for row in direction),  # type: ignore[misc]
    )


def _ease(x: Any) -> Any:
    """From 0 to 1 with level ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _cycle(config: PhantomConfig) -> tuple[int, int, np.ndarray]:
    """ED and ES index, and the share of the stroke volume that is in the ventricle at each frame.

    Ejection, fast filling, diastasis, atrial kick. ED and ES fall on frames.
    """
    n = config.frames
    systole = max(1, round(_SYSTOLE * n))
    after = (np.arange(n) - config.ed_index) % n / n
    end = systole / n
    filling = 0.70 * _ease((after - end) / 0.26) + 0.24 * _ease((after - 0.82) / 0.18)
    filling += 0.06 * (after - end) / (1 - end)
    return config.ed_index, (config.ed_index + systole) % n, np.where(after < end, 1 - _ease(after / end), filling)


def _profile(share: Any) -> Any:
    """Radius of an ellipsoid over its largest, at a share of the way from its tip to the valve plane."""
    return np.sqrt(np.clip(1 - ((_WIDEST - share) / _WIDEST) ** 2, 0, None))


def _outline(angle: Any) -> Any:
    """Radius over angle from the septum, its mean square 1: hearts are not quite round."""
    a, b = 0.025, 0.012
    return (1 + a * np.cos(2 * angle) + b * np.cos(3 * angle + 1)) / np.sqrt(1 + (a * a + b * b) / 2)


def _crescent(angle: Any, height: Any) -> tuple[Any, Any]:
    """Depth of the RV over its largest at an angle from the septum's middle, and its derivative by the angle.

    ``height`` is that above the apex as a share of the ED valve plane's: the crescent is narrower at the apex.
    """
    half = _RV_HALF_ANGLE * (0.62 + 0.38 * np.clip(height, 0, 1))
    x = np.clip(angle / half, -1, 1)
    arch, lean = 1 - np.abs(x) ** 3, 1 - 0.2 * x
    return arch * lean, (np.abs(x) < 1) * (-3 * np.sign(x) * x**2 * lean - 0.2 * arch) / half


def _rv_share(height: Any, base: Any) -> Any:
    """Depth of the RV at a height over that at the base."""
    return np.clip((height / base - _RV_TIP) / (1 - _RV_TIP), 0, 1) ** 0.6


def _heart(config: PhantomConfig, fill: np.ndarray) -> _Heart:
    """Sizes that give the volumes asked for."""
    lv = config.edv_ml * (1 - config.ef * (1 - fill))
    rv = config.rv_edv_ml * (1 - config.rv_ef * (1 - fill))
    length = _LENGTH * np.cbrt(1000 * config.edv_ml)
    apex = _APICAL_WALL * config.wall_mm
    base = length + apex - config.shortening_mm * (1 - fill)
    endo = np.sqrt(1000 * lv / (np.pi * _PROFILE * (base - apex)))
    # The myocardium is what lies between cavity and epicardium at ED; other frames are fitted to it.
    widest = np.sqrt(1000 * config.edv_ml / (np.pi * _PROFILE * length)) + config.wall_mm
    myo = np.pi * _PROFILE * widest**2 * (length + apex) / 1000 - config.edv_ml
    epi = np.sqrt(1000 * (lv + myo) / (np.pi * _PROFILE * base))
    # RV: area of a section is the integral of (epi + depth)^2 / 2 - epi^2 / 2 over the angle, quadratic in the depth.
    share = (np.arange(200) + 0.5) / 200
    angle = np.radians(np.arange(-90, 90) + 0.5)
    linear, square = np.empty_like(base), np.empty_like(base)
    for t, top in enumerate(base):
        h = top * (_RV_TIP + (1 - _RV_TIP) * share)
        depth = _rv_share(h, top)[:, None] * _crescent(angle, h[:, None] / (length + apex))[0] * _outline(angle)
        cell = np.radians(1.0) * top * (1 - _RV_TIP) / len(share)
        linear[t] = (depth * _outline(angle) * epi[t] * _profile(h / top)[:, None]).sum() * cell
        square[t] = (depth**2).sum() * cell / 2
    depth = (np.sqrt(linear**2 + 4000 * square * rv) - linear) / (2 * square)
    return _Heart(config, base, endo, epi, depth, apex, lv, rv, float(myo))


def _heights(heart: _Heart) -> np.ndarray:
    """Height in mm of each slice above the apex: the last lies just above the valve plane of ED."""
    step = heart.config.spacing[0]
    return heart.base.max() + step / 2 - step * np.arange(heart.config.slices)[::-1]


class _Picture:
    """Tissues laid over each other: their light, and the share of the background that still shows."""

    def __init__(self, like: np.ndarray) -> None:
        self.light, self.shown = np.zeros_like(like), np.ones_like(like)

    def lay(self, cover: np.ndarray, value: Any) -> None:
        """Lay a tissue on top where it covers (0 to 1)."""
        bare = 1 - cover
        self.light = self.light * bare + value * cover
        self.shown *= bare


def _draw(heart: _Heart, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Image ``(t, z, y, x)`` int16 and labels of the same shape."""
    config = heart.config
    (ny, nx), (_, dy, dx) = config.size, config.spacing
    y, x = np.meshgrid((np.arange(ny) - 0.48 * ny) * dy, (np.arange(nx) - 0.47 * nx) * dx, indexing="ij")
    y, x = y.astype(np.float32), x.astype(np.float32)
    top, bottom, left, right = heart.reach()
    image = np.empty((config.frames, config.slices, ny, nx), np.float32)
    truth = np.zeros(image.shape, np.uint8)
    for z, height in enumerate(_heights(heart)):
        way = float(np.clip(1 - height / heart.base.max(), 0, 1))  # 0 at the base, 1 at the apex
        down, aside = (float(v) for v in rng.normal(0, 1, 2) * config.breathing_mm * (1.0, 0.4))
        image[:, z] = _body(y, x, (down, aside), way, rng)
        # The long axis is not quite the stack's.
        cy, cx = down + 6 * way - 3, aside + 4 * way - 2
        rows = np.flatnonzero((y[:, 0] > cy + top) & (y[:, 0] < cy + bottom))
        columns = np.flatnonzero((x[0] > cx + left) & (x[0] < cx + right))
        part = (slice(None), z, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        _draw_heart(heart, float(height), y[part[2:]] - cy, x[part[2:]] - cx, image[part], truth[part], rng)
    image *= _GREY * _shading(y, x, config.bias, rng)
    return _rician(image, _GREY * config.noise, rng), truth


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
    heart: _Heart, height: float, y: np.ndarray, x: np.ndarray, image: np.ndarray, truth: np.ndarray,
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
        self, heart: _Heart, height: float, radius: np.ndarray, angle: np.ndarray, pixel: float,
        textures: tuple[np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        self.heart, self.height, self.pixel = heart, height, pixel
        self.grain, self.mottle = textures
        self.outline = _outline(angle)
        self.radius = radius / self.outline
        self.depth, slope = _crescent(angle, height / float(heart.base.max()))
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
        r_epi = float(heart.epi[t] * _profile(h / base))
        epi = self._cover((r_epi - self.radius) * self.outline)
        covers[Label.MYO] += epi
        deep = float(heart.rv[t] * _rv_share(h, base))
        to_edge = (r_epi + deep * self.depth - self.radius) * self.outline
        if deep > 0:
            to_edge /= np.sqrt(1 + (deep * self.slope) ** 2)
        to_skin = to_edge + np.minimum(_RV_WALL_MM, 0.5 * deep * self.depth)
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
            r_endo = float(heart.endo[t] * _profile((h - heart.apex) / (base - heart.apex)))
            inside = (r_endo - self.radius) * self.outline
            endo = self._cover(inside)
            covers[Label.LV] += endo
            covers[Label.MYO] -= endo
            picture.lay(endo, self._cavity(inside, heart.lv_ml, t, _BLOOD * flow))
            for direction, size in ((np.pi - 0.75, 0.24), (np.pi + 1.25, 0.21)):
                thick = size * float(heart.endo.max() * _ease(1 - abs(h / base - 0.5) / 0.38) ** 0.5)
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
