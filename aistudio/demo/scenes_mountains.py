"""Mountains, rocks and deserts. One function per sight, each drawing on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import Canvas, Colour, mix, shade
from aistudio.demo.elements import (
    WOOD,
    foliage,
    ground,
    peaks,
    pine,
    ridge,
    scatter,
    water,
)

SNOW: Colour = (244, 247, 252)


def snow_mountain(c: Canvas) -> None:
    """Jagged snow peaks over a dark conifer forest."""
    peaks(c, c.view.horizon + 0.1, 0.4, (132, 150, 178), 0.35, 5)
    p = c.pen(c.view.cx, c.view.horizon + 0.12, c.view.size * 1.15)
    p.poly([(-0.95, 0), (-0.4, 0.55), (-0.28, 0.5), (0, 1.0), (0.2, 0.68), (0.34, 0.74), (0.95, 0)], (96, 108, 132))
    p.poly([(-0.4, 0.55), (-0.28, 0.5), (0, 1.0), (-0.06, 0.62), (-0.2, 0.4), (-0.26, 0.46), (-0.5, 0.36)], SNOW)
    p.poly(
        [(0, 1.0), (0.2, 0.68), (0.34, 0.74), (0.56, 0.48), (0.36, 0.5), (0.22, 0.42), (0.06, 0.6), (-0.06, 0.62)],
        (206, 218, 236),
    )
    ground(c, c.view.horizon + 0.11, (86, 124, 80))
    for x, depth, near in scatter(c, c.view.horizon + 0.14, 1.02, 26):
        pine(c.pen(x, depth, 0.3 * near))


def mount_fuji(c: Canvas) -> None:
    """One concave white-capped cone, a lake, a cherry branch."""
    y = c.view.horizon
    p = c.pen(c.view.cx, y + 0.01, c.view.size)
    left, right = p.curve((-1.3, 0), (-0.4, 0.2), (-0.12, 0.86)), p.curve((0.12, 0.86), (0.4, 0.2), (1.3, 0))
    p.poly(left + right, (88, 104, 156))
    cap = [
        (-0.37, 0.44),
        (-0.28, 0.5),
        (-0.2, 0.4),
        (-0.1, 0.52),
        (0, 0.4),
        (0.1, 0.5),
        (0.2, 0.4),
        (0.27, 0.5),
        (0.37, 0.44),
    ]
    p.poly(
        [
            *p.curve((-0.37, 0.44), (-0.2, 0.6), (-0.12, 0.86), 6),
            *p.curve((0.12, 0.86), (0.2, 0.6), (0.37, 0.44), 6),
            *cap[::-1],
        ],
        SNOW,
    )
    ridge(c, y + 0.02, 0.04, (60, 100, 84), 0.2)
    water(c, y + 0.02, (60, 110, 160))
    b = c.pen(0.0, 0.04, 1.0)
    b.line(b.curve((-0.05, -0.12), (0.3, 0.0), (0.62, -0.16)), 0.02, WOOD)
    for _ in range(60):
        t = c.rng.random()
        b.oval(
            0.64 * t,
            -0.07 - 0.09 * t * t + c.rng.uniform(-0.07, 0.07),
            0.018,
            0.018,
            c.rng.choice(((252, 190, 208), (248, 164, 190), (255, 224, 232))),
        )


def volcano(c: Canvas) -> None:
    """Dark cone with a lava stream and a plume of smoke."""
    p = c.pen(c.view.cx, c.view.horizon + 0.16, c.view.size * 1.05)
    for k in range(12):
        rgb = mix((96, 88, 92), (190, 186, 190), k / 12)
        p.oval(0.05 * k + c.rng.uniform(-0.06, 0.06), 0.84 + 0.075 * k, 0.12 + 0.022 * k, 0.1, rgb, alpha=190)
    p.poly([(-1.0, 0), (-0.17, 0.8), (-0.06, 0.76), (0.07, 0.77), (0.17, 0.8), (1.0, 0)], (80, 66, 64))
    p.poly([(0.05, 0), (0.07, 0.77), (0.17, 0.8), (1.0, 0)], (60, 50, 52))
    p.poly(
        [(-0.12, 0.77), (0.12, 0.77), (0.1, 0.5), (0.22, 0.25), (0.14, 0.0), (0.0, 0.0), (0.08, 0.3), (0.0, 0.5)],
        (240, 84, 30),
        glow=True,
    )
    p.line([(0, 0.76), (0.06, 0.5), (0.15, 0.27), (0.08, 0.02)], 0.04, (255, 206, 80), glow=True)
    ground(c, c.view.horizon + 0.15, (74, 70, 60))
    foliage(c, c.view.horizon + 0.2, 7, 0.1, (70, 96, 56))


def rainbow_mountains(c: Canvas) -> None:
    """Rolling hills in bands of red, orange, yellow and grey-blue."""
    bands: tuple[Colour, ...] = (
        (196, 84, 60),
        (230, 140, 78),
        (240, 196, 116),
        (170, 120, 104),
        (214, 104, 70),
        (120, 132, 140),
    )
    top = c.view.horizon - 0.12 - 0.2 * c.view.size
    for layer in range(3):
        p, q = c.rng.uniform(0, 6), c.rng.uniform(0, 6)
        for i in range(8):
            y = top + 0.2 * layer + 0.045 * i
            amp = (0.1 + 0.04 * layer) * (1 - i * 0.07)
            line = [(t / 24, y - amp * (math.sin(t / 24 * 6 + p) + 0.5 * math.sin(t / 24 * 13 + q))) for t in range(25)]
            c.area(
                line, c.covered(bands[(i + layer * 2) % 6]) if i < 2 else bands[(i + layer * 2) % 6], 0.3 - 0.13 * layer
            )


def desert_camels(c: Canvas) -> None:
    """Sharp-edged dunes and a string of camels."""
    y = c.view.horizon
    ridge(c, y + 0.05, 0.2, (226, 180, 116), 0.3, 0.5)
    crest = [(0, y + 0.1), (0.3, y - 0.02), (0.62, y + 0.1), (1.0, y + 0.02)]
    c.area(crest, c.covered((236, 190, 120)))
    c.area([(0.3, y - 0.02), (0.42, y + 0.2), (0.36, 0.8), (0.62, 1.0), (1.0, 1.0)], (196, 142, 84))
    c.area([(0, 0.8), (0.4, 0.74), (1, 0.84)], c.covered((242, 200, 134)))
    for i in range(4):
        p = c.pen(c.view.cx + (i - 1.5) * 0.2 * (0.5 + c.view.size), 0.8, 0.14 + 0.16 * c.view.size)
        coat = (140, 92, 56)
        for x in (-0.26, -0.16, 0.14, 0.24):
            p.line([(x, 0), (x, 0.4)], 0.06, shade(coat, 0.85))
        p.oval(0, 0.46, 0.34, 0.16, coat)
        for x in (-0.12, 0.12):
            p.oval(x, 0.62, 0.1, 0.14, coat)
        p.line(p.curve((0.28, 0.46), (0.5, 0.4), (0.46, 0.78)), 0.09, coat)
        p.oval(0.53, 0.8, 0.12, 0.07, coat)
        p.rect(-0.06, 0.5, 0.06, 0.66, (200, 60, 50))


def heavens_gate(c: Canvas) -> None:
    """A cliff with a natural arch, stairs leading up to it."""
    ridge(c, c.view.horizon, 0.2, (96, 130, 110), 0.5)
    p = c.subject(c.view.horizon + 0.2).at(0, 0, 1.25)
    rock = [
        (-0.8, 0),
        (-0.62, 0.5),
        (-0.5, 0.62),
        (-0.42, 0.9),
        (-0.1, 1.0),
        (0.3, 0.95),
        (0.46, 0.7),
        (0.66, 0.5),
        (0.8, 0),
    ]
    p.poly(rock, (150, 136, 118))
    p.poly([(0.16, 0), (0.3, 0.95), (0.46, 0.7), (0.66, 0.5), (0.8, 0)], (122, 110, 98))
    hole = [(0.2 * math.cos(math.pi * i / 12), 0.42 + 0.24 * math.sin(math.pi * i / 12)) for i in range(13)]
    p.poly([*hole, (-0.17, 0.22), (0.17, 0.22)], c.sky_bottom, glow=True)
    ground(c, c.view.horizon + 0.19, (82, 126, 74))
    for i in range(14):
        half, y = 0.28 - 0.016 * i, -0.34 + 0.042 * i
        p.rect(-half, y, half, y + 0.03, (206, 200, 188) if i % 2 else (176, 170, 158))
    for _ in range(14):
        p.oval(c.rng.choice((-1, 1)) * c.rng.uniform(0.3, 0.7), c.rng.uniform(0, 0.4), 0.08, 0.05, (88, 132, 70))


def stone_forest(c: Canvas) -> None:
    """Grey limestone pillars, close together."""
    ground(c, c.view.horizon + 0.1, (128, 156, 92))
    for haze, count, tall in ((0.4, 14, 0.4), (0.2, 10, 0.6), (0.0, 6, 0.8)):
        for i in range(count):
            p = c.pen(
                (i + c.rng.random()) / count,
                c.view.horizon + 0.2 - haze * 0.2,
                tall * (0.5 + 0.6 * c.view.size) * c.rng.uniform(0.6, 1.0),
            )
            tip, half = c.rng.uniform(-0.05, 0.05), c.rng.uniform(0.09, 0.16)
            p.poly(
                [(-half, 0), (-half * 0.8, 0.7), (tip - 0.03, 1.0), (tip + 0.03, 0.97), (half * 0.7, 0.74), (half, 0)],
                (150, 152, 156),
                haze,
            )
            p.poly([(half * 0.2, 0), (tip + 0.03, 0.97), (half * 0.7, 0.74), (half, 0)], (112, 114, 122), haze)
            for k in (0.3, 0.5, 0.66):
                p.line([(-half * 0.9, k), (half * 0.8, k - 0.03)], 0.012, (120, 122, 128), haze)
    foliage(c, 0.98, 5, 0.12, (90, 134, 72))
