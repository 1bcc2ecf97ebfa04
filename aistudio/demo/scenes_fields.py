"""Fields and forests. One function per sight, each drawing on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import Canvas, Colour, mix, shade
from aistudio.demo.elements import (
    ground,
    house,
    ridge,
    scatter,
    tree,
)

SNOW: Colour = (244, 247, 252)


def grassland_yurts(c: Canvas) -> None:
    """Round white tents on rolling grass, sheep."""
    y = c.view.horizon
    ridge(c, y + 0.02, 0.14, (124, 176, 96), 0.35, 0.6)
    ridge(c, y + 0.08, 0.08, (116, 172, 82), 0.1, 0.5)
    ground(c, y + 0.1, (104, 164, 70))
    for x, size in ((c.view.cx - 0.3, 0.5), (c.view.cx + 0.32, 0.6), (c.view.cx, 1.0)):
        p = c.pen(x, y + 0.12 + 0.16 * size, c.view.size * 0.75 * size)
        p.rect(-0.5, 0, 0.5, 0.42, (248, 246, 240))
        p.poly([(-0.56, 0.42), (0.56, 0.42), (0.1, 0.78), (-0.1, 0.78)], (236, 232, 224))
        p.rect(-0.5, 0.34, 0.5, 0.42, (44, 104, 186))
        p.rect(-0.11, 0, 0.11, 0.32, (206, 86, 50))
        p.oval(0, 0.78, 0.1, 0.03, (180, 70, 50))
    for x, depth, near in scatter(c, y + 0.2, 0.97, 9):
        p = c.pen(x, depth, 0.08 * near)
        p.oval(0, 0.35, 0.5, 0.32, (246, 244, 238))
        p.oval(0.5, 0.42, 0.16, 0.16, (60, 54, 50))


def bamboo_forest(c: Canvas) -> None:
    """Tall jointed stems, filtered light, a path."""
    c.gradient(0, 1, (190, 224, 140), (92, 150, 84))
    c.area([(0, 0.84), (1, 0.84)], c.covered((120, 118, 76)))
    path = c.pen(c.view.cx, 1.0, 1.0)
    path.poly([(-0.34, 0), (0.34, 0), (0.04, 0.24), (-0.04, 0.24)], (206, 190, 150))
    for haze, count, width in ((0.45, 16, 0.018), (0.2, 12, 0.03), (0.0, 7, 0.03 + 0.04 * c.view.size)):
        for i in range(count):
            p = c.pen((i + c.rng.random()) / count, 0.84 + 0.16 * (1 - haze * 2) * c.rng.random(), 1.0)
            lean, rgb = c.rng.uniform(-0.05, 0.05), mix((70, 140, 66), (128, 176, 72), c.rng.random())
            p.poly([(-width / 2, 0), (width / 2, 0), (width / 2 + lean, 1.2), (-width / 2 + lean, 1.2)], rgb, haze)
            for k in range(1, 9):
                p.line(
                    [(-width / 2 + lean * k / 8, k * 0.14), (width / 2 + lean * k / 8, k * 0.14)],
                    0.008,
                    shade(rgb, 0.65),
                    haze,
                )
    for _ in range(60):
        p = c.pen(c.rng.random(), c.rng.uniform(-0.05, 0.3), 0.1)
        p.poly([(0, 0), (c.rng.uniform(-0.9, 0.9), -0.5), (0.12, -0.1)], (84, 156, 66))


def maple_forest(c: Canvas) -> None:
    """Red and orange trees around a path covered with leaves."""
    ridge(c, c.view.horizon, 0.2, (186, 92, 54), 0.35)
    ground(c, c.view.horizon, (190, 132, 66))
    path = c.pen(c.view.cx, 1.0, 1.0)
    path.poly([(-0.4, 0), (0.4, 0), (0.03, 0.5), (-0.03, 0.5)], (220, 190, 150))
    for x, depth, near in scatter(c, c.view.horizon + 0.03, 0.98, 16):
        if abs(x - c.view.cx) > 0.16 * near:
            tree(
                c.pen(x, depth, (0.3 + 0.5 * c.view.size) * near),
                c.rng.choice(((206, 52, 34), (232, 106, 36), (240, 160, 48))),
            )


def cherry_blossom(c: Canvas) -> None:
    """An avenue of pink trees, petals on the ground."""
    ground(c, c.view.horizon, (158, 184, 120))
    road = c.pen(c.view.cx, 1.0, 1.0)
    road.poly([(-0.42, 0), (0.42, 0), (0.02, 1 - c.view.horizon), (-0.02, 1 - c.view.horizon)], (206, 200, 200))
    for i in range(6):
        near = 0.2 + 0.8 * (i / 5) ** 1.6
        for side in (-1, 1):
            x = c.view.cx + side * 0.5 * near
            p = c.pen(x, c.view.horizon + 0.36 * near, (0.45 + 0.5 * c.view.size) * near)
            p.poly([(-0.05, 0), (0.05, 0), (0.02, 0.5), (-0.03, 0.5)], (96, 70, 64))
            for _ in range(12):
                dx, dy = c.rng.uniform(-0.34, 0.34), 0.66 + c.rng.uniform(-0.18, 0.22)
                p.oval(
                    dx,
                    dy,
                    0.15,
                    0.12,
                    c.rng.choice(((250, 178, 200), (255, 204, 218), (244, 152, 182), (255, 226, 234))),
                )
    for x, depth, near in scatter(c, c.view.horizon + 0.15, 1.0, 40):
        c.pen(x, depth, 0.02 * near).oval(0, 0, 0.5, 0.25, (252, 190, 210))


def lavender_field(c: Canvas) -> None:
    """Purple rows running to a farmhouse on the horizon."""
    y = c.view.horizon
    ridge(c, y, 0.1, (120, 140, 130), 0.45)
    c.gradient(y, 1.0, (146, 160, 96), (120, 136, 74))
    p = c.pen(c.view.cx, y, 1.0)
    for i in range(-11, 12):
        far, near, half = i * 0.045, i * 0.3, 0.1
        p.poly([(far - 0.015, 0), (far + 0.015, 0), (near + half, y - 1.02), (near - half, y - 1.02)], (128, 84, 190))
        p.poly(
            [(far - 0.005, 0), (far + 0.01, 0), (near + half * 0.5, y - 1.02), (near - half * 0.3, y - 1.02)],
            (164, 116, 220),
        )
    house(c.pen(c.view.cx + 0.1, y + 0.02, 0.1 + 0.22 * c.view.size), (236, 216, 180), (190, 104, 70), 1.4)
    tree(c.pen(c.view.cx - 0.14, y + 0.02, 0.16 + 0.2 * c.view.size), (84, 128, 70))


def sunflower_field(c: Canvas) -> None:
    """Large sunflowers, row behind row."""
    ground(c, c.view.horizon, (112, 146, 56))
    for x, depth, near in scatter(c, c.view.horizon + 0.02, 1.1, 34):
        p = c.pen(x, depth, (0.1 + 0.34 * c.view.size) * near**1.4)
        p.line([(0, -0.7), (0, 0.5)], 0.06, (74, 128, 50))
        p.oval(-0.16, 0.0, 0.2, 0.08, (84, 146, 58))
        for k in range(12):
            a = k * math.pi / 6
            tip, left, right = 0.42, a - 0.3, a + 0.3
            p.poly(
                [
                    (0.18 * math.cos(left), 0.5 + 0.18 * math.sin(left)),
                    (tip * math.cos(a), 0.5 + tip * math.sin(a)),
                    (0.18 * math.cos(right), 0.5 + 0.18 * math.sin(right)),
                ],
                (252, 198 + 12 * (k % 3), 34),
            )
        p.oval(0, 0.5, 0.2, 0.2, (104, 62, 28))
        p.oval(0, 0.5, 0.11, 0.11, (72, 42, 22))
