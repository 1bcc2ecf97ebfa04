"""Sights by the water. One function per sight, each drawing on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import Canvas, mix, shade
from aistudio.demo.elements import (
    GRASS,
    SAND,
    SEA,
    STONE,
    boat,
    foliage,
    ground,
    house,
    palm,
    pine,
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
