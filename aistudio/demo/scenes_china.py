"""Famous buildings of China. One function per sight, each drawing on a canvas whose sky is painted."""

from aistudio.demo.canvas import LAMP, Canvas, Colour, shade
from aistudio.demo.elements import (
    foliage,
    ground,
    pagoda,
    pine,
    ridge,
    roof,
    scatter,
    windows,
)

GOLD: Colour = (236, 176, 60)
RED: Colour = (178, 46, 40)


def great_wall(c: Canvas) -> None:
    """Crenellated wall climbing over green ridges, watch towers."""
    ridge(c, c.view.horizon - 0.05, 0.2, (110, 140, 120), 0.55)
    ridge(c, c.view.horizon + 0.05, 0.2, (90, 136, 84), 0.3)
    c.area(
        [(0, c.view.horizon + 0.1), (0.3, c.view.horizon), (0.6, c.view.horizon + 0.14), (1, c.view.horizon + 0.02)],
        c.covered((84, 130, 66)),
    )
    p = c.pen(c.view.cx, c.view.horizon + 0.12, 0.55 + 0.5 * c.view.size)
    path = [
        (1.1, -0.75),
        (0.55, -0.52),
        (0.1, -0.34),
        (-0.28, -0.18),
        (-0.12, 0.04),
        (0.22, 0.12),
        (0.34, 0.24),
        (0.14, 0.34),
    ]
    for i in range(len(path) - 2, -1, -1):
        (x0, y0), (x1, y1) = path[i], path[i + 1]
        near = 0.24 * (1 - i / 8) ** 1.5 + 0.02
        far = 0.24 * (1 - (i + 1) / 8) ** 1.5 + 0.02
        p.poly(
            [(x0, y0 - near * 0.5), (x0, y0 + near * 0.5), (x1, y1 + far * 0.5), (x1, y1 - far * 0.5)], (196, 184, 158)
        )
        p.poly([(x0, y0 - near * 0.5), (x0, y0), (x1, y1), (x1, y1 - far * 0.5)], (150, 138, 118))
        for k in range(5):
            t = k / 5
            x, y, n = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t, near + (far - near) * t
            p.rect(x - n * 0.12, y + n * 0.4, x + n * 0.12, y + n * 0.72, (206, 194, 168))
    for place, size in (((-0.28, -0.14), 0.3), ((0.34, 0.26), 0.15)):
        tower = p.at(*place, size)
        tower.rect(-0.5, -0.2, 0.5, 0.7, (188, 174, 148))
        tower.rect(0.2, -0.2, 0.5, 0.7, (156, 142, 120))
        for door in (-0.3, 0.0, 0.3):
            tower.rect(door - 0.07, 0.2, door + 0.07, 0.46, LAMP if c.light.lamps else (84, 72, 60), glow=c.light.lamps)
        for i in range(5):
            tower.rect(-0.5 + 0.22 * i, 0.7, -0.38 + 0.22 * i, 0.84, (188, 174, 148))


def temple_of_heaven(c: Canvas) -> None:
    """Round hall with three blue roofs on white terraces."""
    foliage(c, c.view.horizon + 0.05, 11, 0.16, (70, 110, 70), 0.3)
    ground(c, c.view.horizon + 0.05, (206, 198, 184))
    p = c.subject(c.view.horizon + 0.24).at(0, 0, 1.15)
    for i in range(3):
        half = 0.74 - 0.1 * i
        p.rect(-half, 0.07 * i, half, 0.07 * i + 0.05, (240, 238, 232))
        p.line([(-half, 0.07 * i + 0.06), (half, 0.07 * i + 0.06)], 0.02, (206, 204, 200))
    for base, half, height in ((0.2, 0.42, 0.17), (0.44, 0.32, 0.13), (0.62, 0.22, 0.1)):
        p.rect(-half * 0.8, base, half * 0.8, base + height, RED)
        windows(p, -half * 0.75, base, half * 0.75, base + height, 7, 1, GOLD)
        p.poly(
            [
                (-half * 1.18, base + height - 0.02),
                (half * 1.18, base + height - 0.02),
                (half * 0.72, base + height + 0.1),
                (-half * 0.72, base + height + 0.1),
            ],
            (40, 72, 150),
        )
        p.line([(-half * 1.18, base + height - 0.02), (half * 1.18, base + height - 0.02)], 0.025, (66, 150, 120))
    p.poly([(-0.18, 0.8), (0.18, 0.8), (0.03, 0.95), (-0.03, 0.95)], (40, 72, 150))
    p.oval(0, 0.97, 0.035, 0.045, GOLD)


def wild_goose_pagoda(c: Canvas) -> None:
    """Square brick pagoda tapering upwards, no curved eaves."""
    foliage(c, c.view.horizon + 0.06, 10, 0.2, (84, 128, 70), 0.2)
    ground(c, c.view.horizon + 0.06, (190, 180, 160))
    p = c.subject(c.view.horizon + 0.2).at(0, 0, 1.2)
    brick = (196, 156, 110)
    for i in range(7):
        half, y = 0.25 - 0.025 * i, 0.06 + 0.125 * i
        p.poly([(-half, y), (half, y), (half - 0.015, y + 0.11), (-half + 0.015, y + 0.11)], brick)
        p.poly([(half * 0.4, y), (half, y), (half - 0.015, y + 0.11), (half * 0.4, y + 0.11)], shade(brick, 0.8))
        p.rect(-half - 0.02, y + 0.1, half + 0.02, y + 0.125, shade(brick, 0.68))
        lamps = c.light.lamps
        p.rect(-0.03, y + 0.02, 0.03, y + 0.085, LAMP if lamps else (78, 56, 40), glow=lamps)
    p.rect(-0.4, 0, 0.4, 0.06, (168, 160, 146))
    p.poly([(-0.09, 0.935), (0.09, 0.935), (0, 1.02)], shade(brick, 0.7))


def leifeng_pagoda(c: Canvas) -> None:
    """Pagoda with wide curved eaves on a wooded hill."""
    ridge(c, c.view.horizon, 0.14, (96, 130, 120), 0.5)
    c.area(
        [
            (0, c.view.horizon + 0.2),
            (c.view.cx - 0.25, c.view.horizon + 0.12),
            (c.view.cx, c.view.horizon + 0.08),
            (c.view.cx + 0.25, c.view.horizon + 0.12),
            (1, c.view.horizon + 0.22),
        ],
        c.covered((76, 118, 66)),
    )
    pagoda(c.subject(c.view.horizon + 0.12).at(0, 0, 1.15), 5, (206, 130, 70), (64, 74, 78), 0.24)
    for x, depth, near in scatter(c, c.view.horizon + 0.2, 1.0, 18):
        pine(c.pen(x, depth, 0.16 * near), (64, 116, 62))


def forbidden_city(c: Canvas) -> None:
    """Wide red hall under golden double roof, white stairs."""
    y = c.view.horizon + 0.2
    ground(c, y - 0.03, (196, 186, 172))
    c.area([(0, y - 0.12), (1, y - 0.12)], RED)
    c.pen(0, y - 0.12, 0.04).rect(0, 0, 60, 1, GOLD)
    ground(c, y, (206, 196, 182))
    p = c.subject(y + 0.02)
    p.rect(-1.05, 0, 1.05, 0.14, (238, 234, 226))
    for i in range(14):
        p.rect(-1.0 + 0.15 * i, 0.1, -0.96 + 0.15 * i, 0.2, (250, 248, 242))
    p.rect(-0.84, 0.14, 0.84, 0.46, RED)
    windows(p, -0.8, 0.14, 0.8, 0.46, 11, 1, (110, 30, 34))
    roof(p, 0.44, 1.06, 0.2, GOLD, 0.78)
    p.rect(-0.66, 0.62, 0.66, 0.72, (40, 90, 120))
    roof(p, 0.7, 0.88, 0.26, GOLD, 0.7)
    for i in range(6):
        p.rect(
            -0.26 - 0.02 * i,
            0.12 - 0.03 * i,
            0.26 + 0.02 * i,
            0.15 - 0.03 * i,
            (226, 220, 210) if i % 2 else (204, 198, 188),
        )


def potala_palace(c: Canvas) -> None:
    """White and dark-red palace stepped up a hill, mountains behind."""
    ridge(c, c.view.horizon, 0.25, (150, 140, 130), 0.45, 1.4)
    p = c.subject(c.view.horizon + 0.26).at(0, 0, 1.2)
    p.poly([(-1.3, 0), (-0.8, 0.26), (0.85, 0.28), (1.35, 0)], c.covered((146, 132, 104)))
    for x0, x1, y0, y1 in ((-0.86, -0.3, 0.14, 0.56), (0.25, 0.88, 0.16, 0.52), (-0.5, 0.5, 0.12, 0.5)):
        p.poly([(x0 - 0.04, y0), (x1 + 0.04, y0), (x1, y1), (x0, y1)], (244, 240, 230))
        windows(p, x0 + 0.04, y0 + 0.1, x1 - 0.04, y1 - 0.03, 7, 3, (70, 56, 52))
        p.line([(x0, y1), (x1, y1)], 0.035, (110, 36, 36))
    p.poly([(-0.34, 0.48), (0.34, 0.48), (0.31, 0.88), (-0.31, 0.88)], (134, 42, 40))
    windows(p, -0.28, 0.52, 0.28, 0.84, 7, 3, (230, 214, 190))
    p.line([(-0.32, 0.88), (0.32, 0.88)], 0.04, (70, 24, 26))
    for x in (-0.2, 0.0, 0.2):
        roof(p.at(x, 0.9), 0.0, 0.1, 0.08, GOLD, 0.3)
    for i in range(7):
        p.line([(0.5 - 0.2 * (i % 2) - 0.05 * i, 0.02 * i), (0.0 - 0.02 * i, 0.03 + 0.03 * i)], 0.025, (230, 226, 216))
    ground(c, c.view.horizon + 0.25, (122, 146, 84))
