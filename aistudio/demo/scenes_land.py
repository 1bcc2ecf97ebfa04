"""Mountains, fields, forests and animals. One function per sight, each drawing on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import LAMP, Canvas, Colour, Pen, mix, shade
from aistudio.demo.elements import (
    GRASS,
    SAND,
    WOOD,
    foliage,
    ground,
    house,
    peaks,
    person,
    pine,
    ridge,
    scatter,
    tree,
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


def ski_resort(c: Canvas) -> None:
    """White piste, slalom flags, skiers, firs."""
    peaks(c, c.view.horizon, 0.25, (170, 186, 210), 0.3, 6)
    c.gradient(c.view.horizon, 1, (250, 252, 255), (206, 220, 240))
    slope = [(0, c.view.horizon + 0.22), (0.5, c.view.horizon + 0.05), (1, c.view.horizon - 0.1)]
    c.area(slope, (246, 249, 254))
    for side in (0.03, 0.12, 0.2, 0.8, 0.9, 0.97):
        pine(c.pen(side, c.view.horizon + 0.2 + 0.1 * c.rng.random(), 0.2 + 0.16 * c.rng.random()), (40, 92, 72))
    for i, (x, depth, near) in enumerate(scatter(c, c.view.horizon + 0.16, 0.94, 9)):
        p = c.pen(0.24 + 0.55 * x, depth, 0.16 * near)
        p.line([(0, 0), (0, 0.8)], 0.05, (60, 60, 70))
        p.poly([(0, 0.8), (0.5, 0.68), (0, 0.5)], (226, 50, 50) if i % 2 else (40, 90, 210))
    for dx, near in ((-0.14, 0.6), (0.0, 1.0)):
        p = c.pen(c.view.cx + dx, 0.72 + 0.1 * near, c.view.size * 0.42 * near)
        p.line([(-0.5, -0.02), (0.6, -0.16)], 0.05, (220, 60, 50))
        p.line([(-0.04, 0), (0.12, 0.3), (-0.02, 0.42)], 0.13, (36, 46, 80))
        p.line([(-0.02, 0.4), (0.12, 0.74)], 0.22, c.rng.choice(((250, 130, 30), (40, 160, 220), (230, 60, 120))))
        p.oval(0.17, 0.92, 0.11, 0.12, (250, 214, 60))
        p.line([(0.12, 0.66), (0.42, 0.5), (0.3, -0.1)], 0.035, (60, 60, 66))


def camp_site(c: Canvas) -> None:
    """Bright tents and a fire by the forest."""
    for i in range(13):
        pine(c.pen((i + c.rng.random()) / 13, c.view.horizon + 0.06, c.rng.uniform(0.24, 0.46)), haze=0.15)
    ground(c, c.view.horizon + 0.05, (104, 136, 74))
    for x, size, rgb in ((-0.27, 0.65, (52, 140, 200)), (0.28, 0.7, (246, 196, 50)), (0.02, 1.0, (240, 110, 50))):
        p = c.pen(c.view.cx + x, c.view.horizon + 0.12 + 0.2 * size, c.view.size * 0.75 * size)
        p.poly([(-0.75, 0), (-0.1, 0.72), (0.75, 0)], rgb)
        p.poly([(-0.1, 0.72), (0.75, 0), (0.42, 0)], shade(rgb, 0.75))
        lamp = c.light.lamps
        p.poly([(-0.36, 0), (-0.1, 0.56), (0.08, 0)], LAMP if lamp else (84, 62, 54), glow=lamp)
    p = c.pen(c.view.cx - 0.06, 0.94, 0.13 + 0.06 * c.view.size)
    p.oval(0, 0.2, 0.7, 0.5, (255, 170, 60), glow=True, alpha=60)
    p.poly([(-0.24, 0), (-0.14, 0.44), (0, 0.8), (0.16, 0.4), (0.24, 0)], (250, 124, 30), glow=True)
    p.poly([(-0.12, 0), (0.02, 0.46), (0.12, 0)], (255, 222, 90), glow=True)
    p.line([(-0.36, -0.02), (0.36, 0.06)], 0.1, WOOD)
    p.line([(-0.36, 0.06), (0.36, -0.02)], 0.1, WOOD)


def panda_base(c: Canvas) -> None:
    """A giant panda eating bamboo."""
    c.gradient(0, 0.75, (170, 210, 130), (120, 174, 96))
    for i in range(14):
        x = (i + c.rng.random()) / 14
        c.pen(x, 0.78, 0.9).line([(0, 0), (c.rng.uniform(-0.05, 0.05), 1)], 0.02, (84, 146, 70), 0.15)
    ground(c, 0.74, (110, 156, 72))
    p = c.subject(0.92)
    black, white = (36, 34, 38), (246, 244, 240)
    p.oval(0, 0.3, 0.42, 0.34, white)
    for s in (-1, 1):
        p.oval(s * 0.34, 0.05, 0.17, 0.13, black)
        p.oval(s * 0.36, 0.36, 0.12, 0.24, black)
        p.oval(s * 0.27, 0.98, 0.11, 0.11, black)
    p.oval(0, 0.76, 0.34, 0.28, white)
    for s in (-1, 1):
        p.oval(s * 0.14, 0.78, 0.085, 0.1, black)
        p.oval(s * 0.13, 0.8, 0.028, 0.028, (250, 250, 250))
    p.oval(0, 0.67, 0.06, 0.04, black)
    p.line([(-0.5, 0.3), (0.5, 0.56)], 0.05, (120, 176, 70))
    for x in (0.36, 0.46, 0.54):
        p.poly([(x, 0.5), (x + 0.2, 0.68), (x + 0.04, 0.56)], (84, 156, 60))


def _giraffe(p: Pen) -> None:
    coat, spots = (214, 156, 70), (128, 72, 34)
    for x in (-0.2, -0.13, 0.1, 0.17):
        p.line([(x, 0), (x, 0.4)], 0.045, coat)
    p.oval(-0.01, 0.45, 0.25, 0.12, coat)
    p.poly([(0.12, 0.46), (0.24, 0.5), (0.36, 0.92), (0.29, 0.94)], coat)
    p.oval(0.37, 0.95, 0.1, 0.045, coat)
    p.line([(0.3, 0.97), (0.29, 1.04)], 0.025, spots)
    for x, y in ((-0.14, 0.5), (-0.04, 0.43), (0.06, 0.5), (0.14, 0.43), (0.2, 0.58), (0.25, 0.68), (0.28, 0.78)):
        p.oval(x, y, 0.034, 0.034, spots)


def safari_park(c: Canvas) -> None:
    """Savannah: giraffes and flat-topped acacias."""
    y = c.view.horizon
    ridge(c, y, 0.06, (176, 164, 110), 0.4)
    ground(c, y, (206, 190, 122))
    for i in range(3):
        p = c.pen((i + c.rng.uniform(0.1, 0.9)) / 3, y + 0.05, 0.3)
        p.line([(0, 0), (0.05, 0.6), (-0.25, 0.85)], 0.05, WOOD)
        p.line([(0.05, 0.6), (0.3, 0.85)], 0.05, WOOD)
        p.oval(0, 0.92, 0.6, 0.13, (104, 132, 60))
    for dx, near in ((-0.28, 0.6), (0.26, 0.7), (0.0, 1.0)):
        _giraffe(c.pen(c.view.cx + dx, y + 0.12 + 0.22 * near, c.view.size * 1.05 * near))


def moai(c: Canvas) -> None:
    """A row of stone heads on a green slope."""
    water(c, c.view.horizon * 0.9, (40, 110, 170))
    c.area([(0, c.view.horizon + 0.05), (0.5, c.view.horizon), (1, c.view.horizon + 0.06)], c.covered(GRASS))
    for i, dx in enumerate((-0.44, 0.42, -0.22, 0.22, 0.0)):
        near = 0.6 + 0.1 * i
        p = c.pen(c.view.cx + dx, c.view.horizon + 0.1 + 0.2 * near, c.view.size * near)
        rock = (140, 134, 124)
        p.poly([(-0.2, 0), (-0.19, 0.8), (-0.14, 1.0), (0.14, 1.0), (0.19, 0.8), (0.2, 0)], rock)
        p.poly([(0.05, 0), (0.08, 1.0), (0.14, 1.0), (0.19, 0.8), (0.2, 0)], shade(rock, 0.8))
        p.poly([(-0.2, 0.76), (0.2, 0.76), (0.16, 0.68), (-0.16, 0.68)], shade(rock, 0.5))
        p.poly([(-0.04, 0.74), (0.04, 0.74), (0.08, 0.48), (-0.08, 0.48)], shade(rock, 1.16))
        p.line([(-0.1, 0.38), (0.1, 0.38)], 0.04, shade(rock, 0.5))


def hot_air_balloons(c: Canvas) -> None:
    """Many balloons over a rocky valley."""
    ridge(c, 0.85, 0.16, (200, 160, 124), 0.3, 1.5)
    ground(c, 0.84, SAND)
    for i in range(7):
        p = c.pen(0.1 + 0.13 * i, 0.9, 0.16)
        p.poly([(-0.3, 0), (0, 1.0), (0.3, 0)], (206, 168, 132))
        p.poly([(0.02, 0), (0, 1.0), (0.3, 0)], (176, 138, 108))
    colours: tuple[Colour, ...] = (
        (226, 60, 56),
        (250, 190, 50),
        (60, 130, 210),
        (120, 190, 90),
        (170, 90, 190),
        (250, 130, 50),
    )
    for i in range(9):
        last = i == 8
        x, y = (c.view.cx, 0.62) if last else (c.rng.random(), c.rng.uniform(0.2, 0.6))
        p = c.pen(x, y, c.view.size * 0.8 if last else c.rng.uniform(0.08, 0.2))
        a, b = c.rng.sample(colours, 2)
        p.poly([(-0.36, 0.55), (0.36, 0.55), (0.08, 0.14), (-0.08, 0.14)], shade(a, 0.9))
        for k, half in enumerate((0.4, 0.28, 0.14)):
            p.oval(0, 0.66, half, 0.36, a if k % 2 == 0 else b)
        p.line([(-0.08, 0.14), (-0.05, 0.06)], 0.012, WOOD)
        p.line([(0.08, 0.14), (0.05, 0.06)], 0.012, WOOD)
        p.rect(-0.06, -0.03, 0.06, 0.06, (136, 92, 56))
        if last:
            person(p.at(0, 0.05, 0.1), (60, 80, 140))
