"""Sights by lakes, rivers and the sea. One function per sight, each drawing on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import Canvas, shade
from aistudio.demo.elements import (
    SAND,
    boat,
    palm,
    ridge,
    roof,
    scatter,
    water,
)


def west_lake(c: Canvas) -> None:
    """Lake, soft hills, a pavilion on an islet, willow branches."""
    y = c.view.horizon
    ridge(c, y, 0.22, (96, 138, 128), 0.5)
    ridge(c, y, 0.12, (70, 122, 92), 0.2)
    water(c, y, (88, 148, 150))
    p = c.subject(y + 0.16)
    p.oval(0, 0.0, 0.75, 0.1, (84, 128, 72))
    for x in (-0.24, -0.08, 0.08, 0.24):
        p.rect(x - 0.025, 0, x + 0.025, 0.42, (150, 44, 40))
    roof(p, 0.38, 0.44, 0.26, (70, 84, 84), 0.3)
    roof(p, 0.58, 0.26, 0.3, (70, 84, 84), 0.08)
    for _ in range(9):
        x = c.rng.uniform(0, 0.34)
        willow = c.pen(x, -0.02, 1.0)
        tip = (c.rng.uniform(-0.04, 0.06), -c.rng.uniform(0.2, 0.5))
        willow.line(willow.curve((0, 0), (0.03, tip[1] / 2), tip), 0.011, (104, 156, 62))
    boat(c.pen(c.rng.uniform(0.55, 0.9), y + 0.3, 0.16))


def beach(c: Canvas) -> None:
    """Sand, surf, palms and a parasol."""
    y = c.view.horizon * 0.85
    water(c, y, (34, 164, 190))
    surf = [(i / 20, y + 0.2 + 0.05 * math.sin(i / 20 * 4 + c.view.cx * 9)) for i in range(21)]
    c.area([(x, v - 0.025) for x, v in surf], (244, 250, 250))
    c.area(surf, c.covered(SAND))
    palm(c.pen(c.view.cx - 0.28, y + 0.32, c.view.size * 1.1), 0.25)
    palm(c.pen(c.view.cx - 0.36, y + 0.36, c.view.size * 0.9), -0.12)
    p = c.pen(c.view.cx + 0.12, 0.9, c.view.size * 0.7)
    p.line([(0, 0), (0, 0.9)], 0.03, (240, 240, 240))
    for i in range(6):
        a, b = math.pi * i / 6, math.pi * (i + 1) / 6
        wedge = [
            (0, 0.96),
            (0.5 * math.cos(a), 0.62 + 0.3 * math.sin(a)),
            (0.5 * math.cos(b), 0.62 + 0.3 * math.sin(b)),
        ]
        p.poly([*wedge, (0, 0.62)], (232, 74, 62) if i % 2 else (250, 246, 236))
    p.poly([(0.1, 0), (0.7, 0), (0.8, 0.16), (0.2, 0.16)], (70, 130, 190))


def lighthouse(c: Canvas) -> None:
    """Red-striped lighthouse on a cliff."""
    water(c, c.view.horizon, (40, 104, 160))
    side = 1 if c.view.cx > 0.5 else -1
    edge = c.view.cx - side * 0.24
    base = c.view.horizon + 0.14
    cliff = [
        (edge - side * 0.05, 1.0),
        (edge, base + 0.12),
        (edge + side * 0.06, base),
        (0.5 + side * 0.7, base - 0.03),
    ]
    cliff = [*cliff, (0.5 + side * 0.7, 1.0)]
    c.draw.polygon([(a * c.w, b * c.h) for a, b in cliff], fill=c.lit((112, 100, 88)))
    c.draw.polygon(
        [(a * c.w, (b + (0.02 if 0 < i < 4 else 0)) * c.h) for i, (a, b) in enumerate(cliff)],
        fill=c.lit(c.covered((116, 146, 84))),
    )
    p = c.subject(base + 0.02).at(0, 0, 1.25)
    for i in range(5):
        a, b = 0.15 - 0.014 * i, 0.15 - 0.014 * (i + 1)
        rgb = (206, 54, 48) if i % 2 else (246, 244, 238)
        p.poly([(-a, i * 0.15), (a, i * 0.15), (b, i * 0.15 + 0.15), (-b, i * 0.15 + 0.15)], rgb)
        p.poly([(a * 0.4, i * 0.15), (a, i * 0.15), (b, i * 0.15 + 0.15), (b * 0.4, i * 0.15 + 0.15)], shade(rgb, 0.8))
    p.rect(-0.11, 0.75, 0.11, 0.77, (60, 60, 66))
    p.rect(-0.06, 0.77, 0.06, 0.87, (255, 232, 150), glow=True)
    p.poly([(-0.09, 0.87), (0.09, 0.87), (0, 0.98)], (176, 44, 42))
    if c.light.lamps:
        for dx in (-1.6, 1.6):
            p.poly([(0, 0.82), (dx, 0.98), (dx, 0.7)], (255, 240, 180), glow=True, alpha=70)


def waterfall(c: Canvas) -> None:
    """White water between dark cliffs, a pool below."""
    ridge(c, 0.3, 0.15, (70, 112, 70), 0.1)
    c.gradient(0.27, 0.8, (96, 104, 84), (58, 66, 60))
    half, x0 = 0.1 + 0.2 * c.view.size, c.view.cx
    for _ in range(16):
        x = c.rng.random()
        c.pen(x, c.rng.uniform(0.35, 0.8), 0.2).oval(0, 0, 0.3, 0.14, (72, 116, 62))
    fall = c.pen(x0, 0.82, 1.0)
    wide = half * c.w / min(c.w, c.h)
    fall.poly([(-wide, 0.56), (wide, 0.56), (wide * 1.15, 0), (-wide * 1.15, 0)], (214, 232, 242))
    for _ in range(26):
        x = c.rng.uniform(-1, 1) * wide
        fall.line([(x, 0.56), (x * 1.15, 0.0)], 0.012, (250, 253, 255) if c.rng.random() < 0.6 else (160, 196, 216))
    water(c, 0.8, (64, 150, 150))
    for _ in range(14):
        fall.oval(c.rng.uniform(-1.3, 1.3) * wide, c.rng.uniform(-0.02, 0.06), 0.14, 0.05, (246, 250, 252), alpha=110)


def li_river(c: Canvas) -> None:
    """Karst cones mirrored in a green river, a bamboo raft."""
    y = c.view.horizon
    for haze, count, tall in ((0.6, 7, 0.34), (0.35, 5, 0.45), (0.1, 3, 0.62)):
        for i in range(count):
            x = (i + c.rng.uniform(0.2, 0.8)) / count
            p = c.pen(x, y + 0.01, tall * c.rng.uniform(0.6, 1.0) * (0.55 + 0.6 * c.view.size))
            cone = p.curve((-0.34, 0), (-0.22, 1.2), (0.03, 1.0)) + p.curve((0.03, 1.0), (0.24, 0.9), (0.36, 0))
            p.poly(cone, (62, 112, 84), haze)
    water(c, y, (72, 142, 110))
    p = c.pen(c.view.cx, y + 0.26, 0.2 + 0.15 * c.view.size)
    for i in range(4):
        p.line([(-0.6, 0.03 * i), (0.5, 0.03 * i), (0.62, 0.03 * i + 0.06)], 0.03, (186, 160, 84))
    p.poly([(-0.08, 0.08), (0.06, 0.08), (0.02, 0.42), (-0.06, 0.42)], (60, 70, 96))
    p.poly([(-0.16, 0.46), (0.12, 0.46), (-0.02, 0.6)], (206, 170, 98))
    p.line([(0.1, -0.15), (0.0, 0.75)], 0.018, (150, 120, 60))


def sailing_harbour(c: Canvas) -> None:
    """Sailing boats on blue water."""
    y = c.view.horizon
    ridge(c, y, 0.08, (96, 130, 110), 0.4)
    water(c, y, (30, 100, 176))
    sails = ((250, 250, 246), (232, 90, 66), (252, 206, 84), (66, 150, 208))
    for i, (x, depth, near) in enumerate(scatter(c, y + 0.06, 0.95, 7)):
        p = c.pen(x if i < 6 else c.view.cx, depth, (0.2 + 0.5 * c.view.size) * near)
        p.poly([(0.03, 0.14), (0.03, 1.0), (0.42, 0.14)], c.rng.choice(sails))
        p.poly([(-0.03, 0.16), (-0.03, 0.86), (-0.3, 0.16)], (244, 242, 236))
        p.line([(0, 0.06), (0, 1.02)], 0.022, (90, 70, 56))
        p.poly([(-0.36, 0.09), (0.44, 0.09), (0.3, -0.03), (-0.26, -0.03)], (240, 240, 244))
        p.poly([(-0.36, 0.09), (0.44, 0.09), (0.42, 0.05), (-0.33, 0.05)], (38, 60, 120))


def undersea_world(c: Canvas) -> None:
    """Coral reef under water: light shafts, fish, coral."""
    c.gradient(0, 1, (60, 178, 214), (10, 56, 120))
    beam = c.pen(c.view.cx, -0.1, 1.0)
    for i in range(-3, 4):
        beam.poly(
            [(i * 0.12, 0), (i * 0.12 + 0.06, 0), (i * 0.34 + 0.2, -1.1), (i * 0.34 - 0.06, -1.1)],
            (220, 250, 255),
            alpha=34,
        )
    c.area([(0, 0.88), (0.3, 0.84), (0.6, 0.9), (1, 0.85)], (196, 184, 140))
    for _ in range(11):
        p = c.pen(c.rng.random(), c.rng.uniform(0.86, 1.0), c.rng.uniform(0.1, 0.24))
        rgb = c.rng.choice(((240, 98, 110), (250, 160, 70), (190, 90, 190), (250, 210, 90)))
        for a in (-0.5, -0.25, 0.0, 0.25, 0.5):
            p.line(p.curve((0, 0), (a * 0.4, 0.5), (a, 0.8 + 0.2 * math.cos(a * 3))), 0.11, rgb)
    for i in range(12):
        near = c.view.size * 0.5 if i == 11 else c.rng.uniform(0.05, 0.12)
        x, y = (c.view.cx, 0.48) if i == 11 else (c.rng.random(), c.rng.uniform(0.1, 0.75))
        p = c.pen(x, y, near)
        rgb = (255, 130, 40) if i == 11 else c.rng.choice(((255, 210, 60), (90, 220, 230), (255, 120, 100)))
        p.poly([(0.4, 0), (0.8, 0.26), (0.8, -0.26)], rgb)
        p.oval(0, 0, 0.52, 0.3, rgb)
        for x0 in (-0.16, 0.18):
            p.rect(x0, -0.26, x0 + 0.09, 0.26, (250, 250, 250))
        p.oval(-0.34, 0.06, 0.05, 0.05, (20, 20, 30))


def glacier(c: Canvas) -> None:
    """Blue ice cliffs and floating ice."""
    y = c.view.horizon
    water(c, y, (34, 110, 150))
    for i in range(9):
        x = i / 8
        p = c.pen(x, y + 0.01, c.view.size * c.rng.uniform(0.45, 0.8))
        top = c.rng.uniform(0.75, 1.0)
        p.poly([(-0.3, 0), (-0.22, top * 0.8), (-0.05, top), (0.14, top * 0.86), (0.3, 0)], (222, 240, 250))
        p.poly([(0.0, 0), (-0.05, top), (0.14, top * 0.86), (0.3, 0)], (150, 206, 236))
        p.line([(-0.12, 0), (-0.1, top * 0.75)], 0.02, (96, 176, 222))
    for x, depth, near in scatter(c, y + 0.08, 0.98, 9):
        p = c.pen(x, depth, 0.24 * near)
        p.poly([(-0.6, 0), (-0.3, 0.34), (0.1, 0.26), (0.3, 0.42), (0.62, 0)], (236, 248, 254))
        p.poly([(0.1, 0.26), (0.3, 0.42), (0.62, 0), (0.2, 0)], (166, 214, 238))


def torii_gate(c: Canvas) -> None:
    """Vermilion gate standing in shallow water."""
    y = c.view.horizon
    ridge(c, y, 0.16, (72, 110, 110), 0.45)
    water(c, y, (70, 120, 150))
    p = c.subject(y + 0.22).at(0, 0, 1.15)
    red = (222, 70, 38)
    for x in (-0.36, 0.36):
        p.poly([(x * 1.12 - 0.05, 0), (x * 1.12 + 0.05, 0), (x + 0.045, 0.85), (x - 0.045, 0.85)], red)
        p.poly([(x * 1.12, 0), (x * 1.12 + 0.05, 0), (x + 0.045, 0.85), (x, 0.85)], shade(red, 0.8))
    p.rect(-0.5, 0.6, 0.5, 0.67, red)
    p.rect(-0.05, 0.67, 0.05, 0.8, (60, 60, 60))
    top = p.curve((-0.66, 0.96), (0, 0.84), (0.66, 0.96))
    p.poly([*top, (0.6, 0.84), (-0.6, 0.84)], red)
    p.line(top, 0.05, (44, 42, 50))
    for x in (-0.4, 0.4):
        p.poly([(x - 0.06, -0.02), (x + 0.06, -0.02), (x + 0.03, -0.3), (x - 0.03, -0.3)], red, alpha=80)
