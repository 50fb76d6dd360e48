"""Plots as SVG text, written by hand: agreement, curves over time, the course of a training run.

Every function returns one whole SVG document that a browser, a word processor or an HTML report can show. All texts are
escaped; values that are not finite are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from CardiacSegLib.errors import StudyError, TrainingError
from CardiacSegLib.metrics.agreement import agreement
from CardiacSegLib.report.pictures import STRUCTURE_COLOURS
from CardiacSegLib.writers import write_text

#: Lines without a colour of their own take these in turn.
LINE_COLOURS = ("#000000", "#0072B2", "#CC79A7", "#009E73", "#E69F00")
#: Curves of structures are told apart without colour too.
STRUCTURE_DASHES = {"LV": "", "RV": "9 4", "MYO": "2 3"}
#: The x and the y values of a curve.
Points = tuple[Sequence[float], Sequence[float]]

_INK, _GRID, _GREY = "#222222", "#E4E4E4", "#777777"
_CHAR_PX = 6.3  # mean width of a character of 12 px text
_FONT = 'font-family="Helvetica, Arial, sans-serif"'


def clean(text: str) -> str:
    """Text as it may stand in XML: escaped, without control characters."""
    return escape("".join(c for c in text if c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff"))


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12, extra: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="{size}" fill="{_INK}"{extra}>{clean(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _number(value: float, decimals: int) -> str:
    """A number with a real minus sign, never "-0"."""
    text = f"{value:.{decimals}f}"
    return text.replace("-", "" if float(text) == 0 else "\N{MINUS SIGN}")


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers (steps of 1, 2 or 5 times a power of ten) that lie in ``[low, high]``, about ``count`` of them."""
    power = math.floor(math.log10((high - low) / max(count, 1)))
    steps = [m * 10.0**p for p in (power, power + 1) for m in (1, 2, 5)]
    all_ticks = [
        [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)] for step in steps
    ]
    return min(all_ticks, key=lambda ticks: abs(len(ticks) - count))


def _tick_decimals(ticks: Sequence[float]) -> int:
    if len(ticks) < 2:
        return 2
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _span(values: Sequence[float], pad: float = 0.05) -> tuple[float, float]:
    """Range of an axis that holds all values with some room; never empty."""
    finite = [float(v) for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    flat = high - low <= 1e-9 * max(1.0, abs(low), abs(high))
    room = max(abs(high) * pad, 0.5) if flat else (high - low) * pad
    return low - room, high + room


@dataclass
class _Axes:
    """A frame in px with its data ranges; collects SVG elements. The y axis points up, as in print."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    parts: list[str] = field(default_factory=list)

    def px(self, value: float) -> float:
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * self.width

    def py(self, value: float) -> float:
        return self.top + self.height - (value - self.y[0]) / (self.y[1] - self.y[0]) * self.height

    def draw_frame(self, xlabel: str, ylabel: str, whole_x: bool = False) -> None:
        bottom, right = self.top + self.height, self.left + self.width
        xticks = nice_ticks(*self.x, count=max(3, int(self.width / 70)))
        if whole_x:
            xticks = [t for t in xticks if abs(t - round(t)) < 1e-9]
        yticks = nice_ticks(*self.y, count=max(3, int(self.height / 45)))
        for t in xticks:
            self.parts.append(_line(self.px(t), self.top, self.px(t), bottom, _GRID))
            self.parts.append(
                _text(self.px(t), bottom + 17, _number(t, 0 if whole_x else _tick_decimals(xticks)), "middle")
            )
        for t in yticks:
            self.parts.append(_line(self.left, self.py(t), right, self.py(t), _GRID))
            self.parts.append(_text(self.left - 7, self.py(t) + 4, _number(t, _tick_decimals(yticks)), "end"))
        self.parts.append(
            f'<rect x="{self.left:.1f}" y="{self.top:.1f}" width="{self.width:.1f}" height="{self.height:.1f}" '
            f'fill="none" stroke="{_INK}"/>'
        )
        self.parts.append(_text(self.left + self.width / 2, bottom + 37, xlabel, "middle", 13))
        x, y = self.left - 48, self.top + self.height / 2
        self.parts.append(_text(x, y, ylabel, "middle", 13, f' transform="rotate(-90 {x:.1f} {y:.1f})"'))

    def draw_dots(self, xs: np.ndarray, ys: np.ndarray, colour: str, radius: float) -> None:
        self.parts += [
            f'<circle cx="{self.px(a):.1f}" cy="{self.py(b):.1f}" r="{radius}" fill="{colour}" fill-opacity="0.75"/>'
            for a, b in zip(xs.tolist(), ys.tolist())
        ]

    def draw_curve(self, xs: np.ndarray, ys: np.ndarray, colour: str, dash: str = "") -> None:
        pairs = zip(xs.tolist(), ys.tolist())
        points = " ".join(f"{self.px(a):.1f},{self.py(b):.1f}" for a, b in pairs)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-linejoin="round"{dashed}/>'
        )

    def draw_level(self, value: float, name: str, decimals: int, text_y: float, dash: str = "") -> None:
        """A horizontal line through the frame; its name and value to the right, at ``text_y`` px."""
        y, right = self.py(value), self.left + self.width
        self.parts.append(_line(self.left, y, right, y, "#0072B2" if dash else "#D55E00", 1.6, dash))
        self.parts.append(_text(right + 6, text_y - 3, name))
        self.parts.append(_text(right + 6, text_y + 12, _number(value, decimals)))


def _document(width: float, height: float, parts: Sequence[str], title: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" {_FONT}>'
    )
    ground = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#FFFFFF"/>'
    return "\n".join([head, f"<title>{clean(title)}</title>", ground, *parts, "</svg>", ""])


def _fit(text: str, width: float, size: int) -> str:
    """Text shortened to about so many px."""
    most = max(4, int(width / (_CHAR_PX * size / 12)))
    return text if len(text) <= most else text[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _finite_pairs(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(a, float), np.asarray(b, float)
    if x.shape != y.shape or x.ndim != 1:
        raise StudyError(f"A plot needs pairs: two lists of equal length, not of shapes {x.shape} and {y.shape}.")
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def bland_altman_svg(automatic: Sequence[float], manual: Sequence[float], title: str, unit: str) -> str:
    """Bland–Altman plot: automatic − manual over the mean of both, with bias and limits of agreement.

    Args:
        automatic, manual: paired values, in ``unit``; pairs that are not finite are left out.
        title: for example "LV ejection fraction".
        unit: for example "mL".

    The limits are bias ± 1.96 SD of the differences: Bland and Altman, The Lancet 327:307–310, 1986.
    """
    x, y = _finite_pairs(automatic, manual)
    mean, difference = (x + y) / 2, x - y
    found = agreement(x, y)
    levels = [v for v in (found.bias, found.loa_low, found.loa_high) if math.isfinite(v)]
    axes = _Axes(70, 58, 400, 300, _span(mean), _span([*difference, *levels, 0.0], 0.12))
    axes.draw_frame(f"Mean of automatic and manual ({unit})", f"Automatic \N{MINUS SIGN} manual ({unit})")
    axes.parts.append(_line(axes.left, axes.py(0), axes.left + axes.width, axes.py(0), _GREY, 1.0))
    axes.draw_dots(mean, difference, _INK, 3.2)
    if len(levels) == 3:
        decimals = 2 if max(abs(v) for v in levels) < 10 else 1
        y_bias, y_low, y_high = (axes.py(v) for v in levels)
        axes.draw_level(found.bias, "bias", decimals, y_bias)
        axes.draw_level(found.loa_low, "\N{MINUS SIGN}1.96 SD", decimals, max(y_low, y_bias + 30), "6 4")
        axes.draw_level(found.loa_high, "+1.96 SD", decimals, min(y_high, y_bias - 30), "6 4")
    heads = [_text(270, 26, _fit(title, 530, 16), "middle", 16), _text(270, 46, f"n = {len(x)}", "middle")]
    return _document(560, 415, heads + axes.parts, title)


def scatter_svg(
    automatic: Sequence[float],
    manual: Sequence[float],
    title: str,
    unit: str,
    sides: tuple[str, str] = ("Automatic", "Manual"),
) -> str:
    """Automatic over manual values with the line of identity, the correlation r and n; equal scales on both axes.

    Args:
        automatic, manual: paired values, in ``unit``; pairs that are not finite are left out.
        title, unit: as in :func:`bland_altman_svg`.
        sides: what the two are called.
    """
    x, y = _finite_pairs(automatic, manual)
    both = _span([*x, *y])
    axes = _Axes(70, 58, 320, 320, both, both)
    axes.draw_frame(f"{sides[1]} ({unit})", f"{sides[0]} ({unit})")
    axes.parts.append(_line(axes.px(both[0]), axes.py(both[0]), axes.px(both[1]), axes.py(both[1]), _GREY, 1.3, "6 4"))
    axes.draw_dots(y, x, "#0072B2", 3.2)
    r = agreement(x, y).r
    shown = _number(r, 3) if math.isfinite(r) else "\N{EM DASH}"
    text = f"r = {shown}, n = {len(x)}; dashed: identity"
    heads = [_text(215, 26, _fit(title, 420, 16), "middle", 16), _text(230, 46, text, "middle")]
    return _document(430, 435, heads + axes.parts, title)


@dataclass(frozen=True)
class Panel:
    """One frame of curves: series by name, labels of the axes, and what is marked on the x axis (name → x).

    ``dots`` are drawn as dots alone, in the colour of the series of that name; without any, the series have dots.
    """

    series: Mapping[str, Points]
    xlabel: str
    ylabel: str
    title: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)
    whole_x: bool = False  # ticks at whole numbers only
    dots: Mapping[str, Points] = field(default_factory=dict)


def series_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each series: those named as a structure (LV, RV, MYO) have the structure's."""
    known = {label.name: colour for label, colour in STRUCTURE_COLOURS.items()}
    others = [name for name in names if name not in known]
    return {**known, **{name: LINE_COLOURS[i % len(LINE_COLOURS)] for i, name in enumerate(others)}}


def curves_svg(
    series: Mapping[str, Points], title: str, xlabel: str, ylabel: str, marks: Mapping[str, float] | None = None
) -> str:
    """Curves over one axis, for example volumes (mL) over time (ms).

    Args:
        series: name → (x values, y values); a series named LV, RV or MYO takes the structure's colour.
        title, xlabel, ylabel: with units where there are any.
        marks: name → x, drawn as a vertical line, for example ``{"ED": 0.0, "ES": 310.0}``.
    """
    return panels_svg([Panel(series, xlabel, ylabel, marks=marks or {})], title)


def panels_svg(panels: Sequence[Panel], title: str, width: float = 640, height: float = 260) -> str:
    """Several frames of curves beneath each other, ``width`` px wide with frames of ``height`` px."""
    parts = [_text(width / 2, 26, _fit(title, width - 30, 16), "middle", 16)] if title else []
    y = 40.0 if title else 4.0
    for panel in panels:
        y = _draw_panel(parts, panel, y, width, height)
    return _document(width, y, parts, title)


def _draw_panel(parts: list[str], panel: Panel, y: float, width: float, height: float) -> float:
    """Draw one panel from ``y`` px on; returns where the next may begin."""
    if panel.title:
        parts.append(_text(width / 2, y + 14, _fit(panel.title, width - 30, 13), "middle", 13))
        y += 20
    colours = series_colours(list(panel.series))
    y = _draw_legend(parts, list(panel.series), colours, y, width) + (16 if panel.marks else 4)
    curves = {name: _finite_pairs(*points) for name, points in panel.series.items()}
    dots = {name: _finite_pairs(*points) for name, points in panel.dots.items()}
    shown = [*curves.values(), *dots.values()]
    every_x = [v for xs, _ in shown for v in xs] + [v for v in panel.marks.values() if math.isfinite(v)]
    every_y = [v for _, ys in shown for v in ys]
    axes = _Axes(70, y, width - 95, height, _span(every_x, 0.02), _span(every_y))
    axes.draw_frame(panel.xlabel, panel.ylabel, panel.whole_x)
    for name, x in panel.marks.items():
        if math.isfinite(x):
            axes.parts.append(_line(axes.px(x), y, axes.px(x), y + height, _GREY, 1.2, "3 3"))
            axes.parts.append(_text(axes.px(x), y - 4, name, "middle"))
    if not every_y:
        axes.parts.append(_text(70 + axes.width / 2, y + height / 2, "no values", "middle"))
    for name, (xs, ys) in curves.items():
        if len(xs):
            axes.draw_curve(xs, ys, colours[name], STRUCTURE_DASHES.get(name, ""))
    for name, (xs, ys) in (dots or {n: c for n, c in curves.items() if len(c[0]) <= 40}).items():
        axes.draw_dots(xs, ys, colours.get(name, _INK), 3)
    parts += axes.parts
    return y + height + 52


def _draw_legend(parts: list[str], names: Sequence[str], colours: Mapping[str, str], y: float, width: float) -> float:
    """Names with a stroke of their colour, in as many lines as they need; returns the y below them."""
    x = 70.0
    for name in names:
        shown = _fit(name, width - 130, 12)
        need = 34 + _CHAR_PX * len(shown) + 16
        if x + need > width and x > 70:
            x, y = 70.0, y + 18
        parts.append(_line(x, y + 10, x + 26, y + 10, colours[name], 3, STRUCTURE_DASHES.get(name, "")))
        parts.append(_text(x + 32, y + 14, shown))
        x += need
    return y + 20


def read_log(path: Path) -> list[dict]:
    """The epochs of a trainer's JSON-lines log, in order; of an epoch that was run twice, the later one.

    A last line that was cut off (the run was killed while it wrote) is left out.

    Raises:
        TrainingError: it cannot be read, a line is no epoch, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"The training log '{path}' cannot be read: {error}.") from error
    lines = [line for line in lines if line.strip()]
    epochs: dict[int, dict] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            epochs[int(entry["epoch"])] = entry
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise TrainingError(f"Line {number} of the training log '{path}' is not an epoch.") from error
    if not epochs:
        raise TrainingError(f"The training log '{path}' holds no finished epoch yet.")
    return [epochs[number] for number in sorted(epochs)]


def _over_epochs(log: Sequence[Mapping], value: str, structure: str | None = None) -> Points:
    found = [(e["epoch"], e.get(value) if structure is None else (e.get(value) or {}).get(structure)) for e in log]
    kept = [(float(epoch), float(v)) for epoch, v in found if v is not None]
    return [epoch for epoch, _ in kept], [v for _, v in kept]


def training_picture(log_jsonl: Path, output_svg: Path) -> Path:
    """Draw the course of a training run: loss, and Dice on the validation patients, over epochs.

    Args:
        log_jsonl: one object per epoch: ``epoch`` (from 1), ``loss``, ``val_dice`` and ``val`` (Dice by structure),
            the last two null where nothing was validated.
        output_svg: file to write, with its folder.

    Raises:
        TrainingError: the log cannot be read or holds no epoch.
    """
    log = read_log(log_jsonl)
    dice = {"mean": _over_epochs(log, "val_dice")}
    dice.update({label.name: _over_epochs(log, "val", label.name) for label in STRUCTURE_COLOURS})
    best = max(filter(math.isfinite, dice["mean"][1]), default=None)
    title = "Dice on the validation patients" + ("" if best is None else f" (best mean {best:.3f})")
    panels = [
        Panel({"training loss": _over_epochs(log, "loss")}, "Epoch", "Loss", whole_x=True),
        Panel({name: points for name, points in dice.items() if points[0]}, "Epoch", "Dice", title, whole_x=True),
    ]
    write_text(output_svg, panels_svg(panels, f"Training, {len(log)} epochs"))
    return output_svg
