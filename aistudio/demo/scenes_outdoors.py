"""Sports, camping, animals and other outings. One function per sight, each drawing on a canvas whose sky is painted."""

from aistudio.demo.canvas import LAMP, Canvas, Colour, Pen, shade
from aistudio.demo.elements import (
    GRASS,
    SAND,
    WOOD,
    ground,
    peaks,
    person,
    pine,
    ridge,
    scatter,
    water,
)

SNOW: Colour = (244, 247, 252)


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
