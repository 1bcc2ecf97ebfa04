"""Draws one picture of a sight from a seed: hour, weather, composition, people, grading and what it measures.

`draw_image(sight, seed, index)` is a pure function of its arguments (and of the Pillow version).
The motifs are in scenes_*.py; what people think of a picture is in preference.py.
"""

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from aistudio.demo.canvas import LIGHTS, SUPERSAMPLING, WEATHERS, Canvas, Colour, View
from aistudio.demo.elements import person
from aistudio.demo.sights import Sight

_ASPECTS = (4 / 3, 4 / 3, 3 / 2, 1.0, 16 / 9, 4 / 5)
_COATS: tuple[Colour, ...] = (
    (186, 60, 60),
    (50, 70, 120),
    (230, 200, 80),
    (70, 110, 90),
    (220, 220, 224),
    (50, 48, 54),
)


@dataclass(frozen=True)
class Attributes:
    """What a picture is like. Shares are 0..1; brightness and saturation are measured on the finished picture."""

    light: str
    weather: str
    brightness: float  # mean luma
    saturation: float  # mean of (max - min) of the channels
    subject_size: float  # height of the subject, share of the shorter side
    off_centre: float  # distance of the subject from the middle, 0..0.5 of the width
    num_people: int  # passers-by in the foreground
    badge: bool  # a merchant's sale badge is pasted over the corner


def draw_image(sight: Sight, seed: int, index: int, long_side: int | None = None) -> tuple[Image.Image, Attributes]:
    """One picture and its attributes, decided by (seed, sight, index) alone.

    Args:
        sight: what to draw.
        seed: a catalogue's or training set's seed; different seeds share no picture.
        index: number of the picture within the sight, 0 or more.
        long_side: pixels of the longer side; None: varied between 320 and 560. The picture's contents do not
            depend on it.

    Returns:
        An RGB image and what it shows.
    """
    rng = random.Random(f"{seed}/{sight.key}/{index}")
    light = rng.choices(LIGHTS, (4, 2, 2, 1.4, 1.4))[0]
    weather = rng.choices(WEATHERS, (5, 2.4, 1.2, 1.2, 1.2))[0]
    view = View(cx=rng.uniform(0.3, 0.7), size=rng.uniform(0.34, 0.72), horizon=rng.uniform(0.48, 0.62))
    side, aspect = rng.choice((320, 360, 400, 440, 480, 560)), rng.choice(_ASPECTS)
    side = long_side or side
    width, height = (side, round(side / aspect)) if aspect >= 1 else (round(side * aspect), side)
    canvas = Canvas(width, height, light, weather, view, rng)
    sight.draw(canvas)
    _weather(canvas)
    num_people = rng.choices((0, 1, 2, 3, 4), (6, 2, 1.4, 0.8, 0.5))[0]
    _passers_by(canvas, num_people)
    badge = rng.random() < 0.2
    image = canvas.img.reduce(SUPERSAMPLING)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = _grade(image, rng)
    if badge:
        image = _badge(image, rng)
    brightness, saturation = _measure(image)
    shown = Attributes(light.name, weather, brightness, saturation, view.size, abs(view.cx - 0.5), num_people, badge)
    return image, shown


def _weather(c: Canvas) -> None:
    """Fog, rain or snow in front of everything drawn so far."""
    rng = c.rng
    if c.weather == "fog":
        veil = Image.new("L", (1, 4))
        veil.putdata([60, 150, 140, 90])
        mask = veil.resize((1, c.h), Image.Resampling.BICUBIC).resize((c.w, c.h))
        c.img.paste(Image.new("RGB", (c.w, c.h), c.sky_bottom), (0, 0), mask)
    elif c.weather == "rain":
        slant = rng.uniform(-0.25, 0.25)
        for _ in range(150):
            x, y, length = rng.random() * c.w, rng.random() * c.h, rng.uniform(0.04, 0.09) * c.h
            c.draw.line((x, y, x + slant * length, y + length), fill=(226, 234, 244, 120), width=max(1, c.h // 300))
    elif c.weather == "snow":
        for _ in range(130):
            x, y, r = rng.random() * c.w, rng.random() * c.h, rng.uniform(0.002, 0.007) * c.h
            c.draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255, 215))


def _passers_by(c: Canvas, count: int) -> None:
    """People who walked into the picture, seen from behind."""
    for _ in range(count):
        pen = c.pen(c.rng.uniform(0.04, 0.96), 1.02, c.rng.uniform(0.22, 0.36))
        person(pen, c.rng.choice(_COATS), c.rng.choice(((52, 40, 36), (96, 66, 40), (30, 28, 30))))


def _grade(image: Image.Image, rng: random.Random) -> Image.Image:
    """Camera and taste: saturation, exposure, warmth."""
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.55, 1.3))
    gain, gamma, warmth = rng.uniform(0.84, 1.14), rng.uniform(0.8, 1.18), rng.uniform(-0.05, 0.05)
    table: list[int] = []
    for factor in (1 + warmth, 1.0, 1 - warmth):
        table += [min(255, int(255 * (v / 255) ** gamma * gain * factor + 0.5)) for v in range(256)]
    return image.point(table)


def _badge(image: Image.Image, rng: random.Random) -> Image.Image:
    """A round sale badge and a strip, as merchants paste them on."""
    w, h = image.size
    unit = min(w, h)
    layer = image.resize((w * 2, h * 2), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(layer, "RGBA")
    colour = rng.choice(((230, 40, 50), (250, 120, 20), (210, 30, 110)))
    draw.rectangle((0, 2 * h - 0.2 * unit, 2 * w, 2 * h), fill=(*colour, 205))
    for i in range(3):
        x = (0.16 + 0.3 * i) * w * 2
        draw.rounded_rectangle(
            (x, 2 * h - 0.13 * unit, x + 0.2 * w, 2 * h - 0.07 * unit), 0.03 * unit, fill=(255, 255, 255, 235)
        )
    r, cx, cy = 0.26 * unit, 2 * w - 0.34 * unit, 0.34 * unit
    draw.ellipse(
        (cx - r, cy - r, cx + r, cy + r), fill=(*colour, 240), outline=(255, 240, 150), width=max(2, unit // 50)
    )
    for dy, half in ((-0.3, 0.4), (0.05, 0.6), (0.4, 0.3)):
        draw.rounded_rectangle(
            (cx - half * r, cy + (dy - 0.1) * r, cx + half * r, cy + (dy + 0.1) * r), 0.1 * r, fill=(255, 250, 220)
        )
    return layer.reduce(2)


def _measure(image: Image.Image) -> tuple[float, float]:
    """Mean luma and mean channel spread of an RGB image, both 0..1."""
    pixels = np.asarray(image.resize((32, 32), Image.Resampling.BOX), dtype=np.float64) / 255
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    return float(luma.mean()), float((pixels.max(axis=2) - pixels.min(axis=2)).mean())
