"""City, bridges and amusements. One function per sight, each drawing on a canvas whose sky is painted."""

import math

from aistudio.demo.canvas import LAMP, Canvas, Colour, Pen, mix, shade
from aistudio.demo.elements import WOOD, foliage, ground, peaks, person, pine, ridge, water, windows


def _skyline(c: Canvas, y: float, count: int, tall: float, haze: float) -> None:
    for i in range(count):
        p = c.pen((i + c.rng.random()) / count, y + 0.01, tall * c.rng.uniform(0.4, 1.0))
        rgb = mix((110, 124, 146), (170, 160, 150), c.rng.random())
        half = c.rng.uniform(0.14, 0.26)
        p.rect(-half, 0, half, 1, rgb, haze)
        windows(p, -half * 0.9, 0.05, half * 0.9, 0.95, 3, 8, shade(rgb, 0.75))


def ferris_wheel(c: Canvas) -> None:
    """Great wheel with coloured cabins, lit at night."""
    foliage(c, c.view.horizon + 0.12, 10, 0.16, haze=0.2)
    ground(c, c.view.horizon + 0.12, (150, 160, 130))
    p = c.subject(c.view.horizon + 0.24).at(0, 0, 1.15)
    frame: Colour = (250, 120, 200) if c.light.lamps else (236, 240, 246)
    p.line([(-0.3, 0), (0, 0.52), (0.3, 0)], 0.035, (210, 214, 224))
    for radius in (0.44, 0.38):
        p.ring(0, 0.54, radius, 0.02, frame, glow=c.light.lamps)
    turn = c.rng.random()
    colours: tuple[Colour, ...] = (
        (232, 60, 60),
        (250, 190, 40),
        (60, 160, 220),
        (110, 190, 90),
        (240, 120, 40),
        (170, 90, 200),
    )
    for k in range(14):
        a = (k + turn) * math.pi / 7
        x, y = 0.44 * math.cos(a), 0.54 + 0.44 * math.sin(a)
        p.line([(0, 0.54), (x, y)], 0.009, frame, glow=c.light.lamps)
        p.oval(x, y - 0.03, 0.042, 0.042, colours[k % 6], glow=c.light.lamps)
    p.oval(0, 0.54, 0.05, 0.05, (226, 70, 80))


def oriental_pearl(c: Canvas) -> None:
    """Television tower of spheres above a river skyline."""
    y = c.view.horizon + 0.16
    _skyline(c, y, 13, 0.36, 0.3)
    p = c.subject(y + 0.02).at(0, 0, 1.25)
    lit = c.light.lamps
    ball: Colour = (244, 80, 170) if lit else (196, 70, 110)
    column = (190, 190, 200)
    for x in (-0.05, 0.0, 0.05):
        p.rect(x - 0.014, 0, x + 0.014, 0.62, column)
    p.line([(-0.22, 0), (-0.03, 0.22)], 0.03, column)
    p.line([(0.22, 0), (0.03, 0.22)], 0.03, column)
    for height, radius in ((0.24, 0.115), (0.62, 0.085), (0.78, 0.035)):
        p.oval(0, height, radius, radius, ball, glow=lit)
        p.oval(
            -radius * 0.25,
            height + radius * 0.3,
            radius * 0.5,
            radius * 0.35,
            mix(ball, (255, 255, 255), 0.35),
            glow=lit,
        )
        p.line([(-radius, height), (radius, height)], 0.016, shade(ball, 0.6), glow=lit)
    p.rect(-0.014, 0.7, 0.014, 0.82, column)
    p.line([(0, 0.8), (0, 1.06)], 0.012, (220, 80, 90))
    water(c, y, (70, 100, 130))


def golden_gate(c: Canvas) -> None:
    """Red suspension bridge across a strait."""
    y = c.view.horizon
    ridge(c, y, 0.16, (130, 136, 100), 0.4)
    water(c, y, (46, 106, 142))
    p = c.subject(y + 0.16).at(0, 0, 1.15)
    red = (208, 72, 44)
    for a, b in ((-2.2, -0.55), (-0.55, 0.55), (0.55, 2.2)):
        sag = p.curve(
            (a, 0.92 if abs(a) < 1 else 0.3),
            ((a + b) / 2, 0.06 if abs(a + b) < 0.1 else 0.3),
            (b, 0.92 if abs(b) < 1 else 0.3),
            16,
        )
        p.line(sag, 0.022, red)
        for x, v in sag[1::2]:
            p.line([(x, v), (x, 0.28)], 0.008, red)
    p.rect(-2.4, 0.22, 2.4, 0.29, red)
    p.rect(-2.4, 0.22, 2.4, 0.235, shade(red, 0.6))
    for s in (-0.55, 0.55):
        for dx in (-0.07, 0.04):
            p.rect(s + dx, -0.04, s + dx + 0.035, 0.98, red)
        for h in (0.42, 0.6, 0.78, 0.94):
            p.rect(s - 0.07, h, s + 0.075, h + 0.045, red)
        p.rect(s - 0.13, -0.1, s + 0.13, -0.02, (150, 146, 140))


def roller_coaster(c: Canvas) -> None:
    """Loop and hills of a red track on white supports."""
    foliage(c, c.view.horizon + 0.16, 9, 0.16)
    ground(c, c.view.horizon + 0.16, (134, 176, 100))
    p = c.subject(c.view.horizon + 0.26).at(0, 0, 1.1)
    track = [(-1.3 + 0.06 * i, 0.46 + 0.3 * math.sin(i * 0.36 + 1.0)) for i in range(15)]
    loop = [(0.0 + 0.34 * math.sin(a * math.pi / 12), 0.5 - 0.38 * math.cos(a * math.pi / 12)) for a in range(25)]
    after = [(0.42 + 0.06 * i, 0.4 - 0.3 * math.cos(i * 0.42)) for i in range(16)]
    for x, y in track[::2] + after[::2]:
        p.line([(x, 0), (x, y)], 0.016, (238, 240, 244))
        p.line([(x - 0.06, 0), (x, y)], 0.01, (224, 228, 234))
    for dy, rgb in ((0.0, (220, 44, 56)), (-0.045, (250, 200, 60))):
        for path in (track, loop, after):
            p.line([(x, y + dy) for x, y in path], 0.024, rgb)
    for i in range(4):
        x, y = track[5 + i]
        p.at(x, y + 0.05, 0.1).rect(-0.3, -0.1, 0.28, 0.4, (40, 110, 210))
        p.at(x, y + 0.1, 0.1).oval(0, 0.25, 0.14, 0.16, (240, 200, 160))


def lantern_street(c: Canvas) -> None:
    """Old street hung with red lanterns."""
    c.gradient(c.view.horizon, 1, (170, 160, 148), (120, 112, 106))
    street = c.pen(0.5, c.view.horizon, 1.0)
    for side in (-1, 1):
        for i in range(4):
            near = 0.3 + 0.35 * i
            p = c.pen(0.5 + side * (0.14 + 0.15 * i), c.view.horizon + 0.13 * near + 0.08 * i, 0.36 * near + 0.1)
            p.rect(-0.34, -0.5, 0.34, 0.8, (134, 78, 50))
            windows(p, -0.3, 0.1, 0.3, 0.7, 3, 2, (84, 50, 38))
            p.poly([(-0.48, 0.72), (0.48, 0.72), (0.36, 1.0), (-0.36, 1.0)], c.covered((66, 62, 66)))
    street.poly([(-0.05, 0), (0.05, 0), (0.5, -0.7), (-0.5, -0.7)], (186, 178, 168))
    for row in range(5):
        near = 0.3 + 0.25 * row * (0.5 + c.view.size)
        y = c.view.horizon - 0.04 - 0.09 * row
        for k in range(-3, 4):
            p = c.pen(c.view.cx * 0.2 + 0.4 + k * 0.13 * (0.5 + near), y - 0.02 * abs(k) + 0.05, 0.1 * near)
            if c.light.lamps:
                p.oval(0, 0, 1.1, 1.0, (255, 120, 60), glow=True, alpha=46)
            p.line([(0, 0.9), (0, -0.8)], 0.06, (250, 200, 80))
            p.oval(0, 0, 0.56, 0.5, (226, 40, 34), glow=c.light.lamps)
            p.rect(-0.26, 0.42, 0.26, 0.56, (250, 196, 70))
            p.rect(-0.26, -0.56, 0.26, -0.42, (250, 196, 70))


def _cabin(p: Pen, rgb: Colour) -> None:
    p.line([(0, 0.5), (0, 0.9)], 0.06, (60, 64, 70))
    p.rect(-0.42, -0.4, 0.42, 0.5, rgb)
    p.rect(-0.42, -0.4, 0.42, -0.22, shade(rgb, 0.75))
    lit = p.c.light.lamps
    for x in (-0.34, 0.03):
        p.rect(x, -0.04, x + 0.3, 0.38, LAMP if lit else (200, 228, 240), glow=lit)


def cable_car(c: Canvas) -> None:
    """Red cabins on a cable above forested mountains."""
    peaks(c, c.view.horizon + 0.16, 0.4, (110, 134, 130), 0.4, 4)
    ridge(c, c.view.horizon + 0.2, 0.16, (84, 128, 84), 0.15)
    for i in range(15):
        pine(c.pen((i + c.rng.random()) / 15, 1.02, c.rng.uniform(0.14, 0.28)))
    slope = 0.3 if c.rng.random() < 0.5 else 0.22
    p = c.pen(c.view.cx, 0.34, 1.0)
    p.line([(-1.2, -1.2 * slope), (1.2, 1.2 * slope)], 0.008, (60, 62, 68))
    for dx, near in ((0.42, 0.5), (-0.36, 0.6), (0.0, 1.0)):
        size = c.view.size * 0.42 * near
        _cabin(p.at(dx, dx * slope - 0.9 * size, size), (222, 46, 42) if near == 1.0 else (240, 176, 40))


def fireworks(c: Canvas) -> None:
    """Fireworks over a bay; always at night."""
    c.gradient(0, 1, (8, 10, 34), (36, 36, 80), raw=True)
    colours: tuple[Colour, ...] = ((255, 90, 90), (255, 214, 90), (110, 230, 150), (120, 170, 255), (250, 130, 240))
    for i in range(5):
        last = i == 4
        x, y = (c.view.cx, 0.32) if last else (c.rng.random(), c.rng.uniform(0.1, 0.45))
        p = c.pen(x, y, c.view.size * 0.6 if last else c.rng.uniform(0.1, 0.24))
        rgb = c.rng.choice(colours)
        p.oval(0, 0, 0.9, 0.9, rgb, glow=True, alpha=26)
        for k in range(22):
            a = k * math.pi / 11
            ux, uy = math.cos(a), math.sin(a)
            p.line(
                p.curve((0.2 * ux, 0.2 * uy), (0.6 * ux, 0.6 * uy), (0.9 * ux, 0.9 * uy - 0.16), 4),
                0.022,
                rgb,
                glow=True,
            )
            p.oval(0.92 * ux, 0.92 * uy - 0.18, 0.03, 0.03, (255, 250, 230), glow=True)
            p.oval(0.5 * ux, 0.5 * uy, 0.018, 0.018, (255, 250, 230), glow=True)
    y = c.view.horizon + 0.2
    for i in range(18):
        b = c.pen((i + c.rng.random()) / 18, y + 0.01, c.rng.uniform(0.06, 0.2))
        b.rect(-0.26, 0, 0.26, 1, (20, 22, 44), glow=True)
        for k in range(5):
            b.rect(-0.16, 0.1 + 0.18 * k, 0.16, 0.16 + 0.18 * k, (250, 210, 120), glow=True, alpha=170)
    c.gradient(y, 1, (30, 32, 74), (10, 12, 36), raw=True)
    for _ in range(40):
        x, v = c.rng.random() * c.w, (y + (1 - y) * c.rng.random()) * c.h
        c.draw.line((x - 0.03 * c.w, v, x + 0.03 * c.w, v), fill=(*c.rng.choice(colours), 70), width=2)


def carousel(c: Canvas) -> None:
    """Merry-go-round with a striped tent and horses."""
    foliage(c, c.view.horizon + 0.14, 10, 0.22, haze=0.15)
    ground(c, c.view.horizon + 0.14, (206, 186, 160))
    p = c.subject(c.view.horizon + 0.28).at(0, 0, 1.1)
    p.oval(0, 0.06, 0.62, 0.07, (176, 84, 90))
    p.rect(-0.09, 0.06, 0.09, 0.62, (250, 220, 150))
    for i, x in enumerate((-0.5, -0.3, 0.3, 0.5, -0.14, 0.16)):
        y = 0.26 + 0.05 * (i % 2)
        p.line([(x, 0.06), (x, 0.62)], 0.016, (236, 190, 80))
        coat: Colour = ((250, 250, 250), (240, 200, 160), (150, 100, 70))[i % 3]
        p.oval(x, y, 0.1, 0.05, coat)
        p.line([(x + 0.07, y), (x + 0.12, y + 0.1), (x + 0.16, y + 0.07)], 0.035, coat)
        for dx in (-0.06, 0.05):
            p.line([(x + dx, y), (x + dx - 0.02, y - 0.12)], 0.02, coat)
        p.rect(x - 0.03, y + 0.03, x + 0.03, y + 0.065, (226, 60, 90))
    for k in range(10):
        x0, x1 = -0.7 + 0.14 * k, -0.56 + 0.14 * k
        rgb = (232, 66, 84) if k % 2 else (252, 244, 230)
        p.poly([(x0, 0.62), (x1, 0.62), (x1 * 0.06, 0.96), (x0 * 0.06, 0.96)], rgb)
        p.oval((x0 + x1) / 2, 0.62, 0.07, 0.045, rgb)
        p.oval(x0, 0.655, 0.016, 0.016, LAMP, glow=c.light.lamps)
    p.line([(0, 0.94), (0, 1.06)], 0.014, (236, 190, 80))
    p.poly([(0, 1.06), (0.12, 1.02), (0, 0.98)], (70, 120, 210))


def night_market(c: Canvas) -> None:
    """Stalls with striped awnings and people."""
    c.gradient(0.1 + 0.2 * c.view.horizon, 0.75, (120, 100, 96), (84, 72, 78))
    ground(c, 0.72, (146, 136, 128))
    stripes: tuple[Colour, ...] = ((226, 62, 56), (44, 130, 190), (250, 170, 40), (70, 150, 90))
    for i, dx in enumerate((-0.5, 0.5, 0.0)):
        p = c.pen(c.view.cx + dx, 0.84, c.view.size * (1.0 if i == 2 else 0.8))
        p.rect(-0.42, 0, 0.42, 0.3, WOOD)
        p.rect(-0.4, 0.3, 0.4, 0.62, (255, 226, 160) if c.light.lamps else (206, 190, 166), glow=c.light.lamps)
        for k in range(7):
            x = -0.36 + 0.12 * k
            p.oval(x, 0.35, 0.05, 0.05, c.rng.choice(((230, 60, 50), (250, 180, 40), (110, 180, 60))))
        for k in range(8):
            x0, x1 = -0.52 + 0.13 * k, -0.39 + 0.13 * k
            rgb = stripes[(i + c.rng.randint(0, 0)) % 4] if k % 2 else (250, 246, 238)
            p.poly([(x0, 0.6), (x1, 0.6), (x1 * 0.85, 0.86), (x0 * 0.85, 0.86)], rgb)
            p.oval((x0 + x1) / 2, 0.6, 0.065, 0.04, rgb)
    for k in range(14):
        lamp = c.pen(k / 13, 0.2 + 0.05 * math.sin(k * 0.9), 0.03)
        lamp.oval(0, 0, 0.9, 0.9, (255, 190, 90), glow=True, alpha=70)
        lamp.oval(0, 0, 0.42, 0.42, (255, 230, 160), glow=True)
    for dx in (-0.3, -0.2, 0.26, 0.36):
        coat = c.rng.choice(((60, 70, 110), (150, 60, 60), (80, 110, 90), (200, 180, 150)))
        person(c.pen(c.view.cx + dx, 0.98, 0.34), coat)
