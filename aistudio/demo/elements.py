"""Motifs that several sights share: ridges, water, ground, trees, houses, roofs, windows, boats, people.

Each function draws on a canvas or with a pen; sizes are in the units of what it is given.
"""

import math

from aistudio.demo.canvas import LAMP, Canvas, Colour, Pen, mix, shade

GRASS: Colour = (112, 160, 78)
SEA: Colour = (46, 128, 176)
STONE: Colour = (150, 148, 140)
SAND: Colour = (232, 208, 160)
WOOD: Colour = (122, 84, 54)
LEAF: Colour = (60, 122, 62)


def ridge(c: Canvas, y: float, amp: float, rgb: Colour, haze: float = 0.0, waves: float = 1.0) -> None:
    """A hill line across the frame around height y, filled below."""
    p, q, r = (c.rng.uniform(0, 6.3) for _ in range(3))
    line = []
    for i in range(41):
        t = i / 40
        v = math.sin(t * 5 * waves + p) + 0.5 * math.sin(t * 11 * waves + q) + 0.22 * math.sin(t * 23 * waves + r)
        line.append((t, y - amp * (0.5 + 0.3 * v)))
    c.area(line, c.covered(rgb), haze)


def peaks(c: Canvas, y: float, amp: float, rgb: Colour, haze: float, count: int) -> None:
    """Jagged mountains across the frame, filled below."""
    line = [(-0.05, y)]
    for i in range(count):
        x = (i + 0.5 + c.rng.uniform(-0.25, 0.25)) / count
        line += [(x, y - amp * c.rng.uniform(0.6, 1.0)), (x + 0.5 / count, y - amp * c.rng.uniform(0.05, 0.4))]
    c.area([*line, (1.05, y)], c.covered(rgb), haze)


def ground(c: Canvas, y: float, rgb: Colour) -> None:
    """Flat ground from height y to the bottom edge."""
    rgb = c.covered(rgb)
    c.gradient(y, 1.0, mix(rgb, (255, 255, 255), 0.12), shade(rgb, 0.82))


def water(c: Canvas, y: float, rgb: Colour = SEA, bottom: float = 1.0) -> None:
    """Water from height y down: the sky's colour at the far end, its own near by, with ripples."""
    near = c.lit(shade(rgb, 0.85))
    c.gradient(y, bottom, mix(c.lit(rgb), c.sky_bottom, 0.55), near, raw=True)
    gleam = mix(c.sky_bottom, (255, 255, 255), 0.3)
    for _ in range(26):
        t = c.rng.random() ** 1.4
        py, px, half = (y + (bottom - y) * t) * c.h, c.rng.random() * c.w, (0.015 + 0.05 * t) * c.w
        c.draw.line((px - half, py, px + half, py), fill=(*gleam, 80), width=max(1, round(0.004 * c.h)))


def pine(p: Pen, rgb: Colour = (44, 96, 66), haze: float = 0.0) -> None:
    """Conifer one unit tall."""
    p.rect(-0.04, 0, 0.04, 0.2, WOOD, haze)
    rgb = mix(rgb, (240, 245, 250), 0.55) if p.c.weather == "snow" else rgb
    for base, half, top in ((0.12, 0.26, 0.55), (0.36, 0.21, 0.78), (0.58, 0.15, 1.0)):
        p.poly([(-half, base), (half, base), (0, top)], rgb, haze)
        p.poly([(0, base), (half, base), (0, top)], shade(rgb, 0.84), haze)


def tree(p: Pen, rgb: Colour = LEAF, haze: float = 0.0) -> None:
    """Broad-leaved tree one unit tall."""
    p.poly([(-0.05, 0), (0.05, 0), (0.03, 0.5), (-0.03, 0.5)], WOOD, haze)
    rng = p.c.rng
    for shade_by, lift in ((0.8, 0.0), (1.0, 0.05), (1.14, 0.1)):
        for _ in range(3):
            x, y = rng.uniform(-0.2, 0.2), 0.62 + lift + rng.uniform(-0.1, 0.14)
            p.oval(x, y, 0.2, 0.17, shade(rgb, shade_by), haze)


def palm(p: Pen, lean: float = 0.2) -> None:
    """Palm tree one unit tall."""
    trunk = p.curve((0, 0), (lean * 0.1, 0.55), (lean, 0.86))
    p.line(trunk, 0.05, (140, 104, 70))
    for tip in ((-0.42, 0.68), (-0.34, 0.95), (-0.1, 1.06), (0.2, 1.05), (0.38, 0.9), (0.4, 0.64)):
        mid = (lean + tip[0] * 0.6, max(tip[1], 0.86) + 0.14)
        leaf = p.curve((lean, 0.86), mid, (lean + tip[0], tip[1]), 6)
        back = p.curve((lean + tip[0], tip[1]), (mid[0], mid[1] - 0.11), (lean, 0.84), 6)
        p.poly(leaf + back, (54, 128, 66))


def windows(p: Pen, x0: float, y0: float, x1: float, y1: float, cols: int, rows: int, rgb: Colour) -> None:
    """Grid of windows in a wall; some are lit when the lamps are on."""
    lamps, rng = p.c.light.lamps, p.c.rng
    dx, dy = (x1 - x0) / cols, (y1 - y0) / rows
    for i in range(cols):
        for j in range(rows):
            on = lamps and rng.random() < 0.7
            x, y = x0 + dx * (i + 0.25), y0 + dy * (j + 0.2)
            p.rect(x, y, x + dx * 0.5, y + dy * 0.6, LAMP if on else rgb, glow=on)


def roof(p: Pen, y: float, half: float, height: float, rgb: Colour, top: float = 0.55) -> None:
    """Chinese roof with upturned eaves, its eaves at height y."""
    left = p.curve((-half, y + height * 0.28), (-half * 0.75, y + height * 0.1), (-half * top, y + height), 5)
    right = p.curve((half * top, y + height), (half * 0.75, y + height * 0.1), (half, y + height * 0.28), 5)
    p.poly([*left, *right, (half * 0.85, y), (-half * 0.85, y)], rgb)
    p.line([(-half * 0.85, y), (half * 0.85, y)], height * 0.14, shade(rgb, 0.65))


def pagoda(p: Pen, tiers: int, wall: Colour, tiles: Colour, width: float = 0.2) -> None:
    """Tower of `tiers` storeys with eaves, one unit tall."""
    step = 0.86 / tiers
    for i in range(tiers):
        half = width * (1 - 0.5 * i / tiers)
        p.rect(-half, i * step, half, (i + 0.75) * step, wall)
        p.rect(half * 0.45, i * step, half, (i + 0.75) * step, shade(wall, 0.85))
        windows(p, -half * 0.7, i * step, half * 0.7, (i + 0.7) * step, 3, 1, shade(wall, 0.5))
        roof(p, (i + 0.62) * step, half * 1.5, step * 0.42, tiles, 0.5)
    p.line([(0, 0.84), (0, 1.0)], 0.018, (200, 168, 90))
    p.oval(0, 0.93, 0.02, 0.025, (214, 180, 90))


def house(p: Pen, wall: Colour, tiles: Colour, width: float = 1.0) -> None:
    """Small house one unit tall, gable to the side."""
    half = width / 2
    p.rect(-half, 0, half, 0.62, wall)
    windows(p, -half * 0.85, 0.14, half * 0.85, 0.58, 3, 1, shade(wall, 0.5))
    p.poly([(-half * 1.15, 0.6), (half * 1.15, 0.6), (half * 0.85, 1.0), (-half * 0.85, 1.0)], p.c.covered(tiles))


def boat(p: Pen, hull: Colour = (128, 78, 48), cabin: bool = True) -> None:
    """Rowing boat one unit long with a round cabin."""
    if cabin:
        arch = [(0.25 * math.cos(a * math.pi / 8), 0.08 + 0.22 * math.sin(a * math.pi / 8)) for a in range(9)]
        p.poly(arch, (176, 138, 88))
    p.poly([(-0.5, 0.14), (0.5, 0.14), (0.36, -0.02), (-0.36, -0.02)], hull)
    p.line([(-0.5, 0.14), (0.5, 0.14)], 0.03, shade(hull, 1.3))
    p.poly([(-0.36, -0.04), (0.36, -0.04), (0.2, -0.12), (-0.2, -0.12)], shade(hull, 0.5), alpha=90)


def person(p: Pen, coat: Colour, hair: Colour = (52, 40, 36)) -> None:
    """Passer-by seen from behind, one unit tall, cut off by whatever lies below."""
    p.poly([(-0.22, 0), (-0.2, 0.5), (-0.1, 0.66), (0.1, 0.66), (0.2, 0.5), (0.22, 0)], coat)
    p.poly([(0.04, 0), (0.06, 0.66), (0.1, 0.66), (0.2, 0.5), (0.22, 0)], shade(coat, 0.86))
    p.rect(-0.05, 0.62, 0.05, 0.74, (226, 184, 150))
    p.oval(0, 0.84, 0.115, 0.14, hair)


def scatter(c: Canvas, y0: float, y1: float, count: int) -> list[tuple[float, float, float]]:
    """Places on a plain, far ones first: (x, y, size factor 0.25..1 by distance)."""
    depths = sorted(c.rng.random() for _ in range(count))
    return [(c.rng.random(), y0 + (y1 - y0) * t, 0.25 + 0.75 * t) for t in depths]


def foliage(c: Canvas, y: float, count: int, height: float, rgb: Colour = LEAF, haze: float = 0.0) -> None:
    """A row of trees along height y."""
    for i in range(count):
        x = (i + c.rng.uniform(0.1, 0.9)) / count
        tree(c.pen(x, y + c.rng.uniform(-0.01, 0.01), height * c.rng.uniform(0.7, 1.1)), rgb, haze)
