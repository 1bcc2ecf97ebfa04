"""Famous buildings of other countries. One function per sight, each drawing on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import LAMP, Canvas, Colour, mix, shade
from aistudio.demo.elements import (
    GRASS,
    SAND,
    STONE,
    foliage,
    ground,
    ridge,
    water,
    windows,
)

GOLD: Colour = (236, 176, 60)
RED: Colour = (178, 46, 40)


def eiffel_tower(c: Canvas) -> None:
    """Iron lattice tower above lawns."""
    foliage(c, c.view.horizon + 0.1, 12, 0.15, (80, 120, 72), 0.25)
    ground(c, c.view.horizon + 0.1, (124, 168, 86))
    p = c.subject(c.view.horizon + 0.2).at(0, 0, 1.25)
    iron: Colour = (236, 180, 96) if c.light.lamps else (124, 96, 74)
    lit = c.light.lamps
    for s in (-1, 1):
        outer = p.curve((s * 0.34, 0), (s * 0.1, 0.3), (s * 0.025, 0.92))
        inner = p.curve((s * 0.004, 0.92), (s * 0.02, 0.4), (s * 0.2, 0), 12)
        p.poly(outer + inner, iron, glow=lit)
        for i in range(9):
            a, b = outer[i], inner[12 - i - 1]
            p.line([a, b], 0.008, shade(iron, 0.6), glow=lit)
    p.rect(-0.23, 0.2, 0.23, 0.235, shade(iron, 0.85), glow=lit)
    p.rect(-0.14, 0.4, 0.14, 0.43, shade(iron, 0.85), glow=lit)
    arch = [(0.16 * math.cos(math.pi * i / 10), 0.08 + 0.11 * math.sin(math.pi * i / 10)) for i in range(11)]
    p.line(arch, 0.022, iron, glow=lit)
    p.rect(-0.035, 0.88, 0.035, 0.91, iron, glow=lit)
    p.line([(0, 0.9), (0, 1.04)], 0.014, iron, glow=lit)


def leaning_tower(c: Canvas) -> None:
    """White round tower of arcades, leaning."""
    foliage(c, c.view.horizon + 0.06, 8, 0.16, haze=0.3)
    ground(c, c.view.horizon + 0.06, (118, 172, 84))
    p = c.subject(c.view.horizon + 0.2).at(0, 0, 1.2)

    def lean(x: float, y: float) -> tuple[float, float]:
        return (x + 0.17 * y, y - 0.1 * x)

    marble = (244, 238, 226)
    for i in range(8):
        half, y0, y1 = (0.19 if i < 7 else 0.14), 0.12 * i, 0.12 * i + 0.11
        p.poly([lean(-half, y0), lean(half, y0), lean(half, y1), lean(-half, y1)], marble)
        p.poly([lean(half * 0.4, y0), lean(half, y0), lean(half, y1), lean(half * 0.4, y1)], shade(marble, 0.82))
        for k in range(6):
            x = -half + half * 2 * (k + 0.5) / 6
            q = lean(x, y0 + 0.04)
            p.oval(q[0], q[1] + 0.01, 0.016, 0.038, LAMP if c.light.lamps else (140, 124, 108), glow=c.light.lamps)
        p.line([lean(-half - 0.02, y1), lean(half + 0.02, y1)], 0.022, shade(marble, 0.9))


def pyramids(c: Canvas) -> None:
    """Three pyramids in the sand, a palm."""
    y = c.view.horizon + 0.1
    ridge(c, y, 0.05, (222, 184, 128), 0.4)
    ground(c, y, (234, 200, 140))
    for dx, size in ((0.5, 0.55), (-0.42, 0.7), (0.02, 1.0)):
        p = c.pen(c.view.cx + dx * c.view.size, y + 0.14 * size, c.view.size * size)
        p.poly([(-0.85, 0), (0.12, 1.0), (0.3, -0.04)], (232, 190, 124))
        p.poly([(0.3, -0.04), (0.12, 1.0), (0.9, 0)], (170, 128, 80))
        for k in range(1, 7):
            t = k / 7
            p.line([(-0.85 + 0.97 * t, t), (0.3 - 0.18 * t, -0.04 + 1.04 * t)], 0.008, (204, 160, 100))


def windmills(c: Canvas) -> None:
    """Dutch windmills over rows of tulips."""
    ground(c, c.view.horizon, (120, 172, 84))
    for i, rgb in enumerate(((230, 50, 60), (252, 200, 50), (244, 120, 170), (250, 130, 40), (200, 60, 160))):
        y = c.view.horizon + 0.13 + 0.07 * i
        c.gradient(y, y + 0.045, rgb, shade(rgb, 0.85))
    for dx, size in ((0.36, 0.55), (-0.02, 1.0)):
        p = c.pen(c.view.cx + dx, c.view.horizon + 0.08 + 0.1 * size, c.view.size * size)
        p.poly([(-0.2, 0), (0.2, 0), (0.13, 0.62), (-0.13, 0.62)], (150, 84, 58))
        p.poly([(0.04, 0), (0.2, 0), (0.13, 0.62), (0.03, 0.62)], (120, 64, 46))
        p.poly([(-0.16, 0.6), (0.16, 0.6), (0.06, 0.8), (-0.06, 0.8)], (84, 70, 60))
        p.rect(-0.24, 0.22, 0.24, 0.25, (240, 236, 226))
        windows(p, -0.1, 0.28, 0.1, 0.52, 2, 2, (244, 240, 224))
        turn = c.rng.uniform(0, math.pi / 2)
        for k in range(4):
            a = turn + k * math.pi / 2
            ux, uy = math.cos(a), math.sin(a)
            p.line([(0, 0.66), (0.5 * ux, 0.66 + 0.5 * uy)], 0.025, (90, 66, 50))
            p.poly(
                [
                    (0.1 * ux, 0.66 + 0.1 * uy),
                    (0.5 * ux, 0.66 + 0.5 * uy),
                    (0.5 * ux - 0.12 * uy, 0.66 + 0.5 * uy + 0.12 * ux),
                    (0.1 * ux - 0.12 * uy, 0.66 + 0.1 * uy + 0.12 * ux),
                ],
                (246, 240, 226),
            )


def fairy_castle(c: Canvas) -> None:
    """White castle with blue pointed towers."""
    ridge(c, c.view.horizon, 0.16, (110, 150, 110), 0.4)
    ground(c, c.view.horizon + 0.12, (118, 172, 92))
    p = c.subject(c.view.horizon + 0.22).at(0, 0, 1.15)
    wall, spire = (240, 232, 236), (70, 96, 190)
    for x, half, tall in (
        (-0.42, 0.09, 0.46),
        (0.42, 0.09, 0.46),
        (-0.2, 0.08, 0.64),
        (0.22, 0.08, 0.6),
        (0.02, 0.1, 0.78),
    ):
        p.rect(x - half, 0, x + half, tall, wall)
        p.rect(x + half * 0.3, 0, x + half, tall, shade(wall, 0.84))
        p.poly([(x - half * 1.3, tall), (x + half * 1.3, tall), (x, tall + 0.28)], spire)
        p.poly([(x, tall), (x + half * 1.3, tall), (x, tall + 0.28)], shade(spire, 0.75))
        windows(p, x - half * 0.7, tall - 0.16, x + half * 0.7, tall - 0.03, 2, 1, (110, 100, 140))
        p.poly([(x, tall + 0.28), (x + 0.1, tall + 0.32), (x, tall + 0.36)], (236, 80, 120))
    p.rect(-0.52, 0, 0.52, 0.3, shade(wall, 0.95))
    for k in range(9):
        p.rect(-0.52 + 0.12 * k, 0.3, -0.45 + 0.12 * k, 0.36, shade(wall, 0.95))
    windows(p, -0.48, 0.12, 0.48, 0.28, 7, 1, (120, 104, 140))
    p.rect(-0.1, 0, 0.1, 0.14, (120, 74, 54))
    p.oval(0, 0.14, 0.1, 0.09, (120, 74, 54))


def taj_mahal(c: Canvas) -> None:
    """White marble dome with four minarets and a reflecting pool."""
    foliage(c, c.view.horizon + 0.07, 14, 0.1, (70, 118, 70), 0.25)
    ground(c, c.view.horizon + 0.07, (120, 164, 90))
    p = c.subject(c.view.horizon + 0.16).at(0, 0, 1.05)
    marble = (250, 244, 238)
    q = c.pen(c.view.cx, c.view.horizon + 0.17, 1.0)
    q.poly([(-0.1, 0), (0.1, 0), (0.26, -0.6), (-0.26, -0.6)], (90, 160, 190))
    for s in (-0.78, -0.6, 0.6, 0.78):
        p.rect(s - 0.03, 0, s + 0.03, 0.66, marble)
        p.oval(s, 0.7, 0.05, 0.07, shade(marble, 0.9))
        p.rect(s - 0.045, 0.4, s + 0.045, 0.43, shade(marble, 0.85))
    p.rect(-0.86, -0.05, 0.86, 0.05, shade(marble, 0.9))
    p.rect(-0.45, 0.05, 0.45, 0.42, marble)
    p.rect(0.3, 0.05, 0.45, 0.42, shade(marble, 0.85))
    p.rect(-0.16, 0.42, 0.16, 0.54, shade(marble, 0.93))
    dome = p.curve((-0.2, 0.54), (-0.36, 0.8), (0, 0.98)) + p.curve((0, 0.98), (0.36, 0.8), (0.2, 0.54))
    p.poly(dome, marble)
    p.poly([*p.curve((0.02, 0.98), (0.36, 0.8), (0.2, 0.54)), (0.08, 0.54)], shade(marble, 0.86))
    for s in (-0.32, 0.32):
        p.oval(s, 0.48, 0.08, 0.1, shade(marble, 0.96))
    for x, w, h in ((0.0, 0.12, 0.28), (-0.31, 0.06, 0.12), (0.31, 0.06, 0.12)):
        arch = [(x - w, 0.05), (x - w, 0.05 + h * 0.7), (x, 0.05 + h * 1.15), (x + w, 0.05 + h * 0.7), (x + w, 0.05)]
        p.poly(arch, LAMP if c.light.lamps else (150, 140, 146), glow=c.light.lamps)
    p.line([(0, 0.97), (0, 1.06)], 0.018, GOLD)


def opera_house(c: Canvas) -> None:
    """White shells on a harbour podium."""
    y = c.view.horizon
    for i in range(16):
        b = c.pen(i / 15, y + 0.01, c.rng.uniform(0.08, 0.2))
        b.rect(-0.25, 0, 0.25, 1, (150, 160, 176), 0.4)
    water(c, y, (36, 104, 160))
    p = c.subject(y + 0.16).at(0, 0, 1.2)
    p.rect(-0.95, -0.06, 0.95, 0.12, (190, 150, 124))
    windows(p, -0.92, -0.02, 0.92, 0.1, 18, 1, (110, 84, 74))
    for x, size in ((-0.72, 0.5), (-0.44, 0.72), (-0.1, 0.95), (0.34, 0.72), (0.66, 0.46)):
        s = 1 if x < 0.2 else -1
        shell = p.curve(
            (x - s * 0.22 * size, 0.12), (x - s * 0.1, 0.12 + size * 0.7), (x + s * 0.3 * size, 0.12 + size * 0.72), 10
        )
        back = p.curve(
            (x + s * 0.3 * size, 0.12 + size * 0.72), (x + s * 0.12 * size, 0.3), (x + s * 0.2 * size, 0.12), 8
        )
        p.poly(shell + back, (248, 246, 240))
        p.poly(
            [(x + s * 0.02 * size, 0.12), (x + s * 0.3 * size, 0.12 + size * 0.72), *back], shade((248, 246, 240), 0.8)
        )


def clock_tower(c: Canvas) -> None:
    """Gothic clock tower by a river."""
    y = c.view.horizon + 0.16
    p = c.pen(c.view.cx, y, c.view.size * 0.34)
    p.rect(-6, 0, 6, 0.8, (196, 166, 112), 0.2)
    for i in range(24):
        p.rect(
            -6 + 0.5 * i, 0.1, -5.75 + 0.5 * i, 0.66, LAMP if c.light.lamps else (120, 98, 70), 0.2, glow=c.light.lamps
        )
        p.poly([(-6 + 0.5 * i, 0.8), (-5.88 + 0.5 * i, 1.1), (-5.76 + 0.5 * i, 0.8)], (176, 146, 96), 0.2)
    p = c.subject(y).at(0, 0, 1.25)
    stone = (214, 178, 112)
    p.rect(-0.12, 0, 0.12, 0.6, stone)
    p.rect(0.04, 0, 0.12, 0.6, shade(stone, 0.8))
    for x in (-0.07, 0.0, 0.07):
        p.line([(x, 0.04), (x, 0.56)], 0.018, shade(stone, 0.66))
    p.rect(-0.15, 0.58, 0.15, 0.8, shade(stone, 1.06))
    p.oval(0, 0.69, 0.105, 0.105, (250, 248, 236), glow=c.light.lamps)
    p.ring(0, 0.69, 0.105, 0.018, (50, 44, 40))
    p.line([(0, 0.69), (0.0, 0.77)], 0.016, (30, 30, 40))
    p.line([(0, 0.69), (0.055, 0.66)], 0.016, (30, 30, 40))
    p.poly([(-0.16, 0.8), (0.16, 0.8), (0.05, 0.94), (-0.05, 0.94)], (80, 84, 84))
    p.poly([(-0.05, 0.94), (0.05, 0.94), (0, 1.1)], (80, 84, 84))
    water(c, y, (90, 110, 120))


def colosseum(c: Canvas) -> None:
    """Oval ruin of stacked arches."""
    foliage(c, c.view.horizon + 0.08, 9, 0.2, (70, 110, 66), 0.25)
    ground(c, c.view.horizon + 0.08, (180, 170, 140))
    p = c.subject(c.view.horizon + 0.24).at(0, 0, 1.05)
    stone = (218, 184, 138)
    p.poly([(-1.0, 0), (-1.0, 0.5), (-0.8, 0.58), (-0.4, 0.62), (-0.1, 0.9), (0.9, 0.86), (1.0, 0.78), (1.0, 0)], stone)
    p.poly([(0.5, 0), (0.5, 0.88), (0.9, 0.86), (1.0, 0.78), (1.0, 0)], shade(stone, 0.84))
    lamps = c.light.lamps
    for row, y in enumerate((0.04, 0.27, 0.5, 0.72)):
        for k in range(15):
            x = math.sin((k - 7) / 7.6 * math.pi / 2) * 0.97
            w = 0.046 * math.cos((k - 7) / 9 * math.pi / 2) + 0.012
            if (y < 0.3) or x > -0.28 or (y < 0.4):
                dark = LAMP if lamps else (112, 84, 62)
                p.rect(x - w, y, x + w, y + (0.1 if row < 3 else 0.06), dark, glow=lamps)
                if row < 3:
                    p.oval(x, y + 0.1, w, 0.045, dark, glow=lamps)
        p.line([(-1.0 if y < 0.4 else -0.3, y + 0.18), (1.0, y + 0.18)], 0.014, shade(stone, 0.7))


def european_church(c: Canvas) -> None:
    """Onion domes in many colours."""
    ground(c, c.view.horizon + 0.1, (176, 166, 160))
    foliage(c, c.view.horizon + 0.12, 8, 0.1, haze=0.2)
    p = c.subject(c.view.horizon + 0.24).at(0, 0, 1.15)
    brick = (188, 78, 60)
    p.rect(-0.6, 0, 0.6, 0.3, brick)
    windows(p, -0.56, 0.04, 0.56, 0.26, 8, 1, (250, 240, 226))
    pairs: tuple[tuple[Colour, Colour], ...] = (
        ((40, 130, 90), (240, 200, 60)),
        ((60, 100, 200), (250, 250, 250)),
        ((220, 60, 60), (60, 150, 90)),
        ((250, 180, 50), (60, 140, 190)),
        ((240, 200, 70), (250, 230, 150)),
    )
    for (x, tall, size), (a, b) in zip(
        ((-0.46, 0.42, 0.8), (0.46, 0.44, 0.8), (-0.23, 0.54, 0.9), (0.24, 0.52, 0.9), (0.0, 0.66, 1.05)),
        pairs,
        strict=True,
    ):
        half = 0.085 * size
        p.rect(x - half, 0.2, x + half, tall, shade(brick, 1.1))
        p.rect(x - half, tall - 0.05, x + half, tall - 0.02, (250, 244, 234))
        for k in range(5):
            w = half * (1.35 - 0.27 * k)
            p.oval(x, tall + 0.09 * size, w, 0.1 * size, a if k % 2 == 0 else b)
        p.poly([(x - half * 0.5, tall + 0.16 * size), (x + half * 0.5, tall + 0.16 * size), (x, tall + 0.29 * size)], a)
        p.line([(x, tall + 0.28 * size), (x, tall + 0.36 * size)], 0.012, GOLD)
    ground(c, c.view.horizon + 0.235, SAND if c.weather != "snow" else mix(STONE, GRASS, 0.0))
