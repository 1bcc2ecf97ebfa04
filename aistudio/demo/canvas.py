"""The drawing surface of the demo: light, weather, sky, and a pen with a place and a unit.

Everything is drawn at twice the final size and reduced at the end (that is the anti-aliasing). Colours are
given as they look at noon; the canvas tints them by the hour and the weather. The motifs are in elements.py and
scenes_*.py.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

SUPERSAMPLING = 2
SKY_WIDTH = 96  # the sky is painted this small and enlarged: smooth, and a hundred times cheaper
Colour = tuple[int, int, int]
Point = tuple[float, float]
LAMP: Colour = (255, 214, 128)


@dataclass(frozen=True)
class Light:
    """An hour of the day: sky colours at the zenith and the horizon, tint of everything below, lamps on or off."""

    name: str
    top: Colour
    bottom: Colour
    tint: tuple[float, float, float]
    lamps: bool = False


LIGHTS: tuple[Light, ...] = (
    Light("day", (72, 148, 226), (206, 232, 250), (1.0, 1.0, 1.0)),
    Light("morning", (120, 170, 222), (255, 228, 190), (1.0, 0.95, 0.86)),
    Light("sunset", (98, 84, 158), (255, 160, 96), (0.98, 0.76, 0.64)),
    Light("dusk", (38, 48, 104), (214, 136, 140), (0.58, 0.54, 0.68), lamps=True),
    Light("night", (9, 14, 42), (44, 58, 108), (0.46, 0.5, 0.66), lamps=True),
)
WEATHERS: tuple[str, ...] = ("clear", "cloudy", "rain", "snow", "fog")
_SKY_GREY = {"clear": 0.0, "cloudy": 0.35, "rain": 0.75, "snow": 0.65, "fog": 0.6}  # how far the sky turns grey
_DIMMING = {"clear": 1.0, "cloudy": 0.94, "rain": 0.76, "snow": 0.96, "fog": 0.92}


def mix(a: Sequence[float], b: Sequence[float], share: float) -> Colour:
    """Colour between `a` (share 0) and `b` (share 1)."""
    return (
        int(a[0] + (b[0] - a[0]) * share),
        int(a[1] + (b[1] - a[1]) * share),
        int(a[2] + (b[2] - a[2]) * share),
    )


def shade(rgb: Colour, factor: float) -> Colour:
    """A darker (factor < 1) or lighter shade of the same colour."""
    return (min(255, int(rgb[0] * factor)), min(255, int(rgb[1] * factor)), min(255, int(rgb[2] * factor)))


@dataclass(frozen=True)
class View:
    """Composition: where the subject stands (share of the width), how tall it is, where the horizon lies."""

    cx: float
    size: float
    horizon: float


class Canvas:
    """One picture while it is drawn. Frame coordinates: x and y in 0..1, y downwards."""

    def __init__(
        self, width: int, height: int, light: Light, weather: str, view: View, rng: random.Random, sky: bool = True
    ) -> None:
        self.w, self.h = width * SUPERSAMPLING, height * SUPERSAMPLING
        self.light, self.weather, self.view, self.rng = light, weather, view, rng
        grey = mix(light.top, light.bottom, 0.6)
        level = int(sum(grey) / 3)
        self.sky_top = mix(light.top, (level, level, level + 6), _SKY_GREY[weather])
        self.sky_bottom = mix(light.bottom, (level + 8, level + 8, level + 12), _SKY_GREY[weather])
        dim = _DIMMING[weather]
        self.tint = (light.tint[0] * dim, light.tint[1] * dim, light.tint[2] * dim)
        self.img = self._sky() if sky else Image.new("RGB", (self.w, self.h), self.sky_top)
        self.draw = ImageDraw.Draw(self.img, "RGBA")

    def lit(self, rgb: Colour, haze: float = 0.0) -> Colour:
        """The colour under this light, faded into the horizon by `haze` (0 near, 1 gone)."""
        tinted = (rgb[0] * self.tint[0], rgb[1] * self.tint[1], rgb[2] * self.tint[2])
        return mix(tinted, self.sky_bottom, min(1.0, haze * (1.6 if self.weather == "fog" else 1.0)))

    def covered(self, rgb: Colour) -> Colour:
        """Colour of open ground: white under snow."""
        return mix(rgb, (238, 242, 248), 0.82) if self.weather == "snow" else rgb

    def gradient(self, y0: float, y1: float, top: Colour, bottom: Colour, raw: bool = False) -> None:
        """Fill the frame between two heights with a vertical gradient; `raw` colours are not tinted."""
        a, b = (top, bottom) if raw else (self.lit(top), self.lit(bottom))
        p0, p1 = max(0, int(y0 * self.h)), min(self.h, int(y1 * self.h) + 1)
        if p1 > p0:
            strip = Image.new("RGB", (1, 2))
            strip.putdata([a, b])
            self.img.paste(strip.resize((1, p1 - p0), Image.Resampling.BILINEAR).resize((self.w, p1 - p0)), (0, p0))

    def area(self, line: Sequence[Point], rgb: Colour, haze: float = 0.0) -> None:
        """Fill everything below a line of frame points (left to right)."""
        points = [(x * self.w, y * self.h) for x, y in line]
        self.draw.polygon([*points, (points[-1][0], self.h), (points[0][0], self.h)], fill=self.lit(rgb, haze))

    def pen(self, x: float, y: float, height: float) -> "Pen":
        """A pen whose origin is frame point (x, y) and whose unit is `height` of the frame."""
        return Pen(self, x * self.w, y * self.h, height * min(self.h, self.w))

    def subject(self, y: float) -> "Pen":
        """The pen of the picture's subject, standing at frame height y."""
        return self.pen(self.view.cx, y, self.view.size)

    def _sky(self) -> Image.Image:
        """Gradient, sun or moon, stars, clouds: (h, w) RGB."""
        w, h = SKY_WIDTH, max(8, SKY_WIDTH * self.h // self.w)
        strip = Image.new("RGB", (1, 3))
        strip.putdata([self.sky_top, mix(self.sky_top, self.sky_bottom, 0.45), self.sky_bottom])
        sky = strip.resize((1, h), Image.Resampling.BILINEAR).resize((w, h))
        draw = ImageDraw.Draw(sky, "RGBA")
        disc = self._sun(draw, w, h) if self.weather in ("clear", "cloudy") else None
        if self.weather != "clear" or self.rng.random() < 0.5:
            self._clouds(draw, w, h)
        large = sky.resize((self.w, self.h), Image.Resampling.BICUBIC)
        if disc:
            x, y, r = disc[0] * self.w, disc[1] * self.h, 0.027 * self.w
            ImageDraw.Draw(large, "RGBA").ellipse((x - r, y - r, x + r, y + r), fill=(*disc[2], 210))
        if self.light.name == "night" and self.weather == "clear":
            stars = ImageDraw.Draw(large, "RGBA")
            for _ in range(50):
                x, y, r = (
                    self.rng.random() * self.w,
                    self.rng.random() ** 1.5 * self.h * 0.6,
                    self.rng.uniform(0.8, 2.2),
                )
                stars.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 240, 190))
        return large

    def _sun(self, draw: ImageDraw.ImageDraw, w: int, h: int) -> tuple[float, float, Colour]:
        """The glow; returns where the disc belongs, which needs the full resolution."""
        low = self.light.name in ("sunset", "morning", "dusk")
        x = self.rng.uniform(0.1, 0.9) * w
        y = (self.rng.uniform(0.3, 0.5) if low else self.rng.uniform(0.08, 0.22)) * h
        core: Colour = (236, 240, 255) if self.light.name == "night" else (255, 246, 214)
        for i in range(28, 0, -1):  # many faint discs: a glow without rings
            radius = 2.6 + 0.03 * i * i
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*core, 5 + 260 // (i * i + 12)))
        return x / w, y / h, core

    def _clouds(self, draw: ImageDraw.ImageDraw, w: int, h: int) -> None:
        base = mix(self.sky_bottom, (255, 255, 255), 0.25 if self.light.lamps else 0.6)
        for _ in range(self.rng.randint(2, 4) if self.weather == "clear" else self.rng.randint(5, 8)):
            x, y, size = self.rng.uniform(0, w), self.rng.uniform(0.05, 0.42) * h, self.rng.uniform(3, 8)
            for _ in range(6):
                dx, dy, r = (
                    self.rng.uniform(-2, 2) * size,
                    self.rng.uniform(-0.3, 0.25) * size,
                    size * self.rng.uniform(0.4, 0.9),
                )
                draw.ellipse((x + dx - r, y + dy - r * 0.45, x + dx + r, y + dy + r * 0.45), fill=(*base, 70))


class Pen:
    """Draws shapes in units of a height, x to the right, y upwards from its origin."""

    def __init__(self, canvas: Canvas, x: float, y: float, unit: float) -> None:
        self.c, self.x, self.y, self.unit = canvas, x, y, unit

    def at(self, dx: float, dy: float, scale: float = 1.0) -> "Pen":
        """A pen moved by (dx, dy) units, with its unit scaled."""
        return Pen(self.c, self.x + dx * self.unit, self.y - dy * self.unit, self.unit * scale)

    def _map(self, points: Sequence[Point]) -> list[Point]:
        return [(self.x + px * self.unit, self.y - py * self.unit) for px, py in points]

    def _fill(self, rgb: Colour, haze: float, glow: bool, alpha: int) -> tuple[int, int, int, int]:
        return (*(rgb if glow else self.c.lit(rgb, haze)), alpha)

    def poly(
        self, points: Sequence[Point], rgb: Colour, haze: float = 0.0, glow: bool = False, alpha: int = 255
    ) -> None:
        """Filled polygon; `glow` colours shine by themselves and are not tinted."""
        self.c.draw.polygon(self._map(points), fill=self._fill(rgb, haze, glow, alpha))

    def rect(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        rgb: Colour,
        haze: float = 0.0,
        glow: bool = False,
        alpha: int = 255,
    ) -> None:
        """Filled rectangle between two corners."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], rgb, haze, glow, alpha)

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        rgb: Colour,
        haze: float = 0.0,
        glow: bool = False,
        alpha: int = 255,
    ) -> None:
        """Filled ellipse around (x, y)."""
        (left, top), (right, bottom) = self._map([(x - rx, y + ry), (x + rx, y - ry)])
        self.c.draw.ellipse((left, top, right, bottom), fill=self._fill(rgb, haze, glow, alpha))

    def line(
        self,
        points: Sequence[Point],
        width: float,
        rgb: Colour,
        haze: float = 0.0,
        glow: bool = False,
        alpha: int = 255,
    ) -> None:
        """Polyline of a width in units (never thinner than one drawn pixel)."""
        self.c.draw.line(
            self._map(points),
            fill=self._fill(rgb, haze, glow, alpha),
            width=max(1, round(width * self.unit)),
            joint="curve",
        )

    def curve(self, start: Point, control: Point, end: Point, steps: int = 12) -> list[Point]:
        """Points of a quadratic Bezier curve, for `line` and `poly`."""
        ts = [i / steps for i in range(steps + 1)]
        return [
            (
                (1 - t) ** 2 * start[0] + 2 * t * (1 - t) * control[0] + t * t * end[0],
                (1 - t) ** 2 * start[1] + 2 * t * (1 - t) * control[1] + t * t * end[1],
            )
            for t in ts
        ]

    def ring(self, x: float, y: float, radius: float, width: float, rgb: Colour, glow: bool = False) -> None:
        """Circle outline."""
        points = [(x + radius * math.cos(a * math.pi / 24), y + radius * math.sin(a * math.pi / 24)) for a in range(49)]
        self.line(points, width, rgb, glow=glow)
