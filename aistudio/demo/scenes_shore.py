"""Towns, ponds, bridges, springs, northern lights. One function per sight, on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import Canvas, mix, shade
from aistudio.demo.elements import (
    GRASS,
    SEA,
    STONE,
    boat,
    foliage,
    ground,
    house,
    pine,
    ridge,
    roof,
    scatter,
    water,
)


def crescent_spring(c: Canvas) -> None:
    """A crescent of water between high dunes."""
    y = c.view.horizon
    for k, haze in ((0.3, 0.35), (0.12, 0.1)):
        ridge(c, y + 0.12 - k * 0.2, k + 0.1, (222, 176, 112), haze, 0.6)
    ground(c, y + 0.06, (230, 188, 124))
    p = c.pen(c.view.cx, 0.78, 0.5 + 0.6 * c.view.size)
    outer = p.curve((-0.75, 0.12), (0, -0.42), (0.75, 0.12), 20)
    inner = p.curve((0.75, 0.12), (0, -0.1), (-0.75, 0.12), 20)
    p.poly(outer + inner, (104, 140, 76))
    p.poly(
        [(x * 0.93, v * 0.93 - 0.005) for x, v in outer] + [(x * 0.93, v * 0.93 - 0.005) for x, v in inner],
        (44, 128, 168),
    )
    q = c.pen(c.view.cx + 0.16, 0.74, 0.26)
    q.rect(-0.3, 0, 0.3, 0.36, (170, 90, 60))
    roof(q, 0.36, 0.5, 0.3, (84, 78, 74))
    foliage(c, 0.75, 4, 0.1, (84, 132, 66))


def hot_spring(c: Canvas) -> None:
    """Round turquoise pools among rocks, steam rising."""
    ridge(c, c.view.horizon, 0.2, (80, 116, 84), 0.3)
    ground(c, c.view.horizon, (136, 128, 116))
    for i, (x, depth, near) in enumerate(scatter(c, c.view.horizon + 0.12, 0.86, 4)):
        p = c.pen(c.view.cx if i == 3 else x, depth, (0.25 + 0.55 * c.view.size) * near)
        p.oval(0, 0, 0.66, 0.27, (232, 200, 120))
        p.oval(0, 0.0, 0.58, 0.22, (246, 160, 80))
        p.oval(0, 0.0, 0.5, 0.18, (92, 206, 196))
        p.oval(0, 0.0, 0.34, 0.11, (36, 158, 190))
        for k in range(7):
            p.oval(c.rng.uniform(-0.35, 0.35), 0.1 + 0.12 * k, 0.16 + 0.02 * k, 0.1, (255, 255, 255), alpha=52)


def water_town(c: Canvas) -> None:
    """Canal between white houses, an arched bridge, a covered boat."""
    y = c.view.horizon + 0.1
    c.area([(0, y), (1, y)], STONE)
    for side in (-1, 1):
        for i in range(4):
            x = 0.5 + side * (0.16 + 0.13 * i)
            p = c.pen(x, y + 0.05 * i, 0.26 + 0.07 * i)
            p.rect(-0.4, -0.3, 0.4, 0.6, (240, 238, 230))
            for wx in (-0.22, 0.12):
                lamp = c.light.lamps
                p.rect(wx, 0.2, wx + 0.14, 0.42, (255, 190, 90) if lamp else (96, 70, 54), glow=lamp)
            p.poly([(-0.5, 0.56), (0.5, 0.56), (0.36, 0.86), (-0.36, 0.86)], c.covered((62, 64, 70)))
            p.oval(-0.32, 0.48, 0.06, 0.08, (220, 50, 40), glow=c.light.lamps)
    p = c.pen(0.5, y + 0.16, 0.32 + 0.25 * c.view.size)
    c.gradient(y + 0.14, 1.0, (120, 146, 132), (66, 100, 92))
    arch = [(0.62 * math.cos(math.pi * i / 16), 0.5 * math.sin(math.pi * i / 16)) for i in range(17)]
    hole = [(0.36 * math.cos(math.pi * i / 16), 0.34 * math.sin(math.pi * i / 16)) for i in range(16, -1, -1)]
    p.poly(arch + hole, (172, 166, 152))
    p.line(arch, 0.035, (128, 122, 112))
    boat(c.pen(c.view.cx, 0.9, 0.3))


def lotus_pond(c: Canvas) -> None:
    """Large leaves and pink flowers filling the frame."""
    y = 0.22 + 0.1 * c.view.horizon
    ridge(c, y, 0.1, (80, 130, 90), 0.4)
    water(c, y, (70, 124, 108))
    for x, depth, near in scatter(c, y + 0.05, 1.0, 46):
        p = c.pen(x, depth, 0.2 * near)
        p.oval(0, 0, 0.6, 0.26, (58, 140, 76) if c.rng.random() < 0.6 else (84, 160, 84))
        p.line([(-0.4, 0), (0.4, 0.02)], 0.03, (120, 184, 110))
    for x, depth, near in scatter(c, y + 0.2, 0.95, 8):
        p = c.pen(x, depth, (0.12 + 0.3 * c.view.size) * near)
        p.line([(0, -0.4), (0, 0)], 0.04, (70, 128, 66))
        for a in (-0.5, 0.5, -0.3, 0.3, 0.0):
            p.poly(
                [(0, 0), (a * 0.7 - 0.13, 0.34), (a, 0.66 - abs(a) * 0.4), (a * 0.7 + 0.13, 0.34)],
                (246, 140 + int(abs(a) * 90), 180),
            )
        p.oval(0, 0.12, 0.1, 0.07, (250, 214, 90))


def santorini(c: Canvas) -> None:
    """White cubes and blue domes on a slope above the sea."""
    water(c, c.view.horizon * 0.8, (30, 96, 180))
    slope = [(0, 0.92), (0.3, 0.78), (0.65, 0.6), (1, 0.5)]
    c.area(slope if c.view.cx > 0.5 else [(1 - x, y) for x, y in slope[::-1]], (186, 160, 136))
    for i in range(17):
        x = c.rng.random()
        level = 0.92 - 0.4 * (x if c.view.cx > 0.5 else 1 - x) + c.rng.uniform(-0.03, 0.2) * (i / 17)
        p = c.pen(x, level + 0.04, (0.11 + 0.16 * c.view.size) * (0.7 + 0.5 * i / 17))
        p.rect(-0.5, -0.2, 0.5, 0.55, (248, 248, 246))
        p.rect(0.18, -0.2, 0.5, 0.55, (216, 220, 230))
        lamp = c.light.lamps
        p.rect(-0.3, 0.1, -0.1, 0.36, (255, 206, 110) if lamp else (50, 104, 170), glow=lamp)
        if i % 3 == 0:
            dome = [(0.36 * math.cos(math.pi * k / 12), 0.55 + 0.36 * math.sin(math.pi * k / 12)) for k in range(13)]
            p.poly(dome, (30, 98, 196))
            p.line([(0, 0.9), (0, 1.06)], 0.03, (250, 250, 250))


def northern_lights(c: Canvas) -> None:
    """Green curtains of light over a snowy forest; always at night."""
    c.gradient(0, 1, (8, 14, 44), (24, 44, 84), raw=True)
    for k in range(3):
        phase, base = c.rng.uniform(0, 6), 0.2 + 0.13 * k
        for i in range(70):
            t = i / 69
            x, y = t * c.w, (base + 0.07 * math.sin(t * 6 + phase)) * c.h
            rgb = mix((60, 240, 150), (150, 90, 230), 0.5 + 0.5 * math.sin(t * 4 + phase))
            for rise, alpha in ((0.3, 16), (0.2, 26), (0.1, 44)):
                c.draw.rectangle((x, y - rise * c.h, x + c.w / 66, y + 0.02 * c.h), fill=(*rgb, alpha))
    c.gradient(c.view.horizon + 0.12, 1, (120, 150, 190), (196, 214, 236), raw=True)
    for i in range(12):
        x = (i + c.rng.random()) / 12
        pine(c.pen(x, c.view.horizon + 0.16, c.rng.uniform(0.12, 0.3) * (0.5 + c.view.size)), (30, 60, 62))
    house(c.pen(c.view.cx, c.view.horizon + 0.3, 0.16 + 0.14 * c.view.size), (120, 84, 60), (230, 236, 246))


def terraces(c: Canvas) -> None:
    """Rice terraces: curved steps of green and mirroring water."""
    ridge(c, 0.3, 0.16, (96, 140, 110), 0.5)
    bend, phase = 0.04 + 0.06 * c.view.size, c.rng.uniform(0, 6)
    for i in range(12):
        y = 0.27 + 0.75 * (i / 12) ** 1.25
        line = [(t / 24, y + bend * math.sin(t / 24 * 5 + phase + i * 0.18) * (0.4 + i / 12)) for t in range(25)]
        c.area(line, (190, 214, 216) if i % 3 == 1 else mix(GRASS, (176, 196, 74), 0.5 * (i % 2)))
        c.area([(x, v + 0.028) for x, v in line], shade(GRASS, 0.62))
    house(c.pen(c.view.cx, 0.62, 0.07 + 0.08 * c.view.size), (150, 104, 66), (110, 92, 74))


def stone_bridge(c: Canvas) -> None:
    """Ancient stone bridge: one wide arch with small arches beside it."""
    y = c.view.horizon
    foliage(c, y + 0.02, 9, 0.2, haze=0.25)
    water(c, y, SEA)
    p = c.subject(y + 0.2).at(0, 0, 1.15)
    deck = p.curve((-1.1, 0.2), (0, 0.78), (1.1, 0.2), 20)
    p.poly([*deck, (1.1, 0), (-1.1, 0)], (186, 178, 160))
    arch = [(0.62 * math.cos(math.pi * i / 16), 0.4 * math.sin(math.pi * i / 16)) for i in range(17)]
    p.poly(arch, mix((46, 110, 140), (190, 220, 230), 0.35))
    p.line(arch, 0.04, (136, 128, 114))
    for x in (-0.84, -0.68, 0.68, 0.84):
        p.oval(x, 0.2 if abs(x) > 0.7 else 0.26, 0.065, 0.11, (84, 120, 136))
    p.line([(x, v + 0.05) for x, v in deck], 0.03, (214, 206, 190))
    for x, v in deck[::2]:
        p.line([(x, v), (x, v + 0.08)], 0.02, (214, 206, 190))
    p.rect(-1.6, -0.04, -1.05, 0.2, GRASS)
    p.rect(1.05, -0.04, 1.6, 0.2, GRASS)
