"""The 32 things that appear in the scenes: a pen for a unit frame and one small function per fine class.

Every function draws into x, y in about [-1, 1] (x to the right, y down, the thing looks to the left).  It may
use the five colours of the pen in any role, since the palette is drawn without regard to the class: the parts
and the patterns tell the classes apart, the colours do not.
"""

import numpy as np
from PIL import Image, ImageDraw

_STEPS = np.linspace(0.0, 1.0, 6, endpoint=False)
_SPLINE = np.stack([_STEPS**0, _STEPS, _STEPS**2, _STEPS**3], axis=1) @ (
    0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=float)
)
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 28)), np.sin(np.linspace(0, 2 * np.pi, 28))], axis=1)


def smooth(points, closed=True):
    """Catmull-Rom curve through the points (n, 2), six samples a piece; returns (m, 2)."""
    points = np.asarray(points, dtype=float)
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
    pieces = len(padded) - 3
    windows = np.stack([padded[i : i + pieces] for i in range(4)], axis=1)  # (pieces, 4, 2)
    curve = (_SPLINE @ windows).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


class Pen:
    """Draws in the unit frame on a transparent RGBA canvas of side x side pixels.

    matrix (2, 2) and offset (2,) take unit coordinates to canvas pixels; colours are RGB tuples in 0..255:
    main, second, third, pale and ink (the outline).  rng gives small variations of the drawing itself.
    """

    def __init__(self, side, matrix, offset, colours, rng):
        self.image = Image.new("RGBA", (side, side))
        self.draw = ImageDraw.Draw(self.image)
        self.matrix, self.offset, self.rng = np.asarray(matrix, dtype=float).T.copy(), np.asarray(offset), rng
        self.main, self.second, self.third, self.pale, self.ink = colours
        self.scale = float(np.sqrt(abs(np.linalg.det(self.matrix))))  # canvas pixels per unit
        self.edge = max(2, round(0.042 * self.scale))

    def at(self, points):
        """Unit coordinates (n, 2) as a flat list of canvas coordinates."""
        return (np.asarray(points, dtype=float) @ self.matrix + self.offset).ravel().tolist()

    def shape(self, points, fill, line=True):
        """Filled polygon with an ink outline."""
        flat = self.at(points)
        self.draw.polygon(flat, fill=fill)
        if line:
            self.draw.line(flat + flat[:4], fill=self.ink, width=self.edge)

    def blob(self, points, fill, line=True):
        """Filled smooth closed curve through the points."""
        self.shape(smooth(points), fill, line)

    def oval(self, x, y, rx, ry, fill, line=True):
        """Filled ellipse with the half axes rx, ry."""
        self.shape(_CIRCLE * (rx, ry) + (x, y), fill, line)

    def box(self, x0, y0, x1, y1, fill, line=True):
        """Filled rectangle."""
        self.shape([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, line)

    def disc(self, x, y, r, fill):
        """Filled circle that stays a circle under shear and has no outline (quick)."""
        cx, cy = self.at([(x, y)])
        r = r * self.scale
        self.draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=fill)

    def line(self, points, width, fill):
        """Polyline of a width in units."""
        self.draw.line(self.at(points), fill=fill, width=max(2, round(width * self.scale)), joint="curve")

    def limb(self, points, width, fill):
        """Outlined polyline with round ends, for legs, arms and poles."""
        edge = 2 * self.edge / self.scale
        for wide, colour in ((width + edge, self.ink), (width, fill)):
            self.line(points, wide, colour)
            for x, y in (points[0], points[-1]):
                self.disc(x, y, wide / 2, colour)

    def tube(self, points, radii, fill):
        """Outlined smooth tube whose radius follows radii; returns its centre line (m, 3) as x, y, radius."""
        spine = smooth(points, closed=False)
        radius = np.interp(np.linspace(0, 1, len(spine)), np.linspace(0, 1, len(radii)), radii)
        centres = (spine @ self.matrix + self.offset).tolist()
        for grow, colour in ((self.edge, self.ink), (0, fill)):
            widths = [r * self.scale + grow for r in radius]
            for i, ((x, y), r) in enumerate(zip(centres, widths, strict=True)):
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
                if i:
                    flat = [*centres[i - 1], x, y]
                    self.draw.line(flat, fill=colour, width=max(2, round(r + widths[i - 1])))
        return np.column_stack([spine, radius])

    def clipped(self, points, fill, paint):
        """Filled outline whose inside is then decorated by paint(), which cannot spill over the outline."""
        self.shape(points, fill, line=False)
        before = self.image.copy()
        paint()
        outside = Image.new("L", self.image.size, 255)
        ImageDraw.Draw(outside).polygon(self.at(points), fill=0)
        self.image.paste(before, mask=outside)
        self.shape_line(points)

    def shape_line(self, points):
        """The ink outline alone."""
        flat = self.at(points)
        self.draw.line(flat + flat[:4], fill=self.ink, width=self.edge)

    def eye(self, x, y, r=0.09):
        """Round eye: white, dark pupil, a glint."""
        self.disc(x, y, r + 0.03, (15, 15, 18))
        self.disc(x, y, r, (250, 250, 245))
        self.disc(x - 0.2 * r, y, 0.6 * r, (15, 15, 18))

    def dots(self, xs, ys, r, fill):
        """Circles of radius r at the given places."""
        for x, y in zip(xs, ys, strict=True):
            self.disc(x, y, r, fill)


# fmt: off (outlines stay readable as runs of points, not one point a line)

# fish: fins, gill lines and an eye


def _gills(pen, x, y, height):
    for at in (x, x + 0.09, x + 0.18):
        pen.line([(at, y - height), (at + 0.04, y), (at, y + height)], 0.03, pen.ink)


def shark(pen):
    pen.shape([(0.62, 0.0), (1.0, -0.62), (0.86, -0.02), (0.98, 0.38)], pen.main)
    pen.shape([(-0.22, -0.25), (0.14, -0.82), (0.26, -0.2)], pen.main)
    pen.shape([(0.38, 0.1), (0.58, 0.34), (0.58, 0.06)], pen.main)
    body = smooth(
        [
            (-1, -0.04),
            (-0.62, -0.26),
            (-0.1, -0.36),
            (0.4, -0.18),
            (0.75, -0.04),
            (0.75, 0.05),
            (0.35, 0.18),
            (-0.1, 0.3),
            (-0.6, 0.26),
            (-0.86, 0.12),
        ]
    )
    belly = [(-1, 0.06), (-0.5, 0.1), (0.8, 0.02), (0.8, 0.5), (-1, 0.5)]
    pen.clipped(body, pen.main, lambda: pen.shape(belly, pen.pale, line=False))
    teeth = [(-0.88, 0.1), (-0.8, 0.17), (-0.74, 0.08), (-0.67, 0.18), (-0.6, 0.08), (-0.55, 0.17), (-0.5, 0.06)]
    pen.shape(teeth, (250, 250, 250))
    _gills(pen, -0.36, -0.02, 0.11)
    pen.shape([(-0.2, 0.14), (0.12, 0.7), (0.16, 0.16)], pen.main)
    pen.eye(-0.66, -0.08, 0.07)


def ray(pen):
    pen.tube([(0, 0.3), (0.1, 0.6), (-0.05, 0.82), (0.08, 1.05)], [0.08, 0.05, 0.03, 0.02], pen.main)
    pen.shape([(-0.22, 0.3), (-0.34, 0.55), (-0.05, 0.45)], pen.main)
    pen.shape([(0.22, 0.3), (0.34, 0.55), (0.05, 0.45)], pen.main)
    half = [(0.0, -0.72), (0.22, -0.62), (0.5, -0.4), (1.02, -0.12), (0.75, 0.14), (0.4, 0.3), (0.14, 0.46)]
    pen.blob(half + [(-x, y) for x, y in half[:0:-1]], pen.main)
    for side in (-1, 1):
        pen.dots([side * x for x in (0.3, 0.55, 0.5, 0.25, 0.75)], [-0.22, -0.16, 0.08, 0.18, -0.02], 0.065, pen.second)
        pen.eye(side * 0.15, -0.5, 0.07)
        for i in range(3):
            y = -0.28 + 0.09 * i
            pen.line([(side * 0.08, y), (side * 0.18, y + 0.02)], 0.03, pen.ink)


def seahorse(pen):
    pen.blob([(0.2, -0.2), (0.52, -0.22), (0.58, 0.02), (0.46, 0.2), (0.2, 0.15)], pen.second)
    for y in (-0.1, 0.0, 0.1):
        pen.line([(0.25, y), (0.52, y * 1.2)], 0.03, pen.ink)
    for x, y in ((-0.12, -0.98), (0.04, -1.02), (0.2, -0.95)):
        pen.shape([(x - 0.07, -0.8), (x, y), (x + 0.09, -0.8)], pen.second)
    path = [
        (0.02, -0.72),
        (0.2, -0.46),
        (0.04, -0.08),
        (0.1, 0.28),
        (0.26, 0.56),
        (0.14, 0.84),
        (-0.14, 0.84),
        (-0.2, 0.64),
        (-0.04, 0.62),
    ]
    pen.tube([(-0.15, -0.7), (-0.4, -0.62), (-0.62, -0.56)], [0.12, 0.07, 0.09], pen.main)
    spine = pen.tube(path, [0.22, 0.19, 0.3, 0.22, 0.15, 0.11, 0.08, 0.07, 0.05], pen.main)
    for x, y, r in spine[8:-12:3]:
        pen.line([(x - 0.85 * r, y + 0.03), (x + 0.85 * r, y - 0.03)], 0.04, pen.second)
    pen.shape([(0.0, -0.42), (0.16, -0.3), (0.02, -0.2)], pen.second)
    pen.eye(-0.06, -0.74, 0.09)


def angelfish(pen):
    pen.shape([(0.4, -0.08), (0.92, -0.4), (0.82, 0.0), (0.92, 0.4), (0.4, 0.1)], pen.third)
    for side in (-1, 1):
        pen.blob(
            [(-0.3, side * 0.3), (0.05, side * 0.68), (0.62, side * 1.02), (0.45, side * 0.6), (0.42, side * 0.1)],
            pen.third,
        )
        pen.line([(0.02, side * 0.4), (0.42, side * 0.86)], 0.03, pen.ink)
        pen.line([(0.2, side * 0.35), (0.44, side * 0.7)], 0.03, pen.ink)
    body = smooth(
        [
            (-0.85, 0.04),
            (-0.5, -0.3),
            (-0.1, -0.5),
            (0.3, -0.36),
            (0.56, -0.06),
            (0.56, 0.08),
            (0.3, 0.38),
            (-0.1, 0.52),
            (-0.5, 0.34),
        ]
    )

    def stripes():
        for x in (-0.42, -0.02, 0.34):
            pen.line([(x, -0.6), (x + 0.06, 0), (x, 0.6)], 0.15, pen.second)

    pen.clipped(body, pen.main, stripes)
    pen.eye(-0.57, -0.06, 0.09)
    _gills(pen, -0.29, 0.06, 0.1)
    pen.line([(-0.83, 0.06), (-0.7, 0.13)], 0.04, pen.ink)
    pen.line([(-0.12, 0.28), (-0.06, 0.72)], 0.05, pen.ink)


# birds: a beak, a wing with feathers, two legs


def _wing(pen, x, y, length, fill):
    tip = (x + length, y + 0.18 * length)
    pen.blob(
        [
            (x, y),
            (x + 0.3 * length, y - 0.28 * length),
            (x + 0.75 * length, y - 0.12 * length),
            tip,
            (x + 0.6 * length, y + 0.3 * length),
            (x + 0.2 * length, y + 0.34 * length),
        ],
        fill,
    )
    for i in range(3):
        fx = x + (0.35 + 0.17 * i) * length
        pen.line([(fx, y + 0.02 * length), (fx + 0.14 * length, y + 0.2 * length)], 0.035, pen.ink)


def _foot(pen, x, y, fill):
    pen.shape([(x - 0.2, y + 0.06), (x, y - 0.08), (x + 0.12, y + 0.06)], fill)


def flamingo(pen):
    pen.limb([(0.12, 0.15), (-0.1, 0.5), (0.26, 0.6)], 0.06, pen.third)
    _foot(pen, 0.3, 0.95, pen.third)
    pen.limb([(0.3, 0.15), (0.34, 0.55), (0.3, 0.95)], 0.06, pen.third)
    pen.shape([(0.5, -0.15), (0.85, 0.2), (0.45, 0.12)], pen.main)
    pen.oval(0.2, -0.02, 0.46, 0.27, pen.main)
    pen.tube(
        [(-0.16, 0.0), (-0.4, -0.08), (-0.44, -0.32), (-0.16, -0.52), (-0.14, -0.78), (-0.36, -0.88)],
        [0.13, 0.11, 0.09, 0.085, 0.09, 0.1],
        pen.main,
    )
    pen.oval(-0.38, -0.85, 0.17, 0.14, pen.main)
    pen.blob([(-0.5, -0.92), (-0.7, -0.82), (-0.78, -0.56), (-0.66, -0.6), (-0.5, -0.74)], pen.third)
    pen.shape([(-0.76, -0.72), (-0.78, -0.54), (-0.66, -0.6)], pen.ink)
    pen.eye(-0.38, -0.88, 0.05)
    _wing(pen, 0.02, -0.05, 0.62, pen.second)


def owl(pen):
    for x in (-0.2, 0.2):
        _foot(pen, x + 0.04, 0.93, pen.third)
    pen.blob(
        [(-0.5, -0.5), (0, -0.66), (0.5, -0.5), (0.6, 0.2), (0.4, 0.78), (0, 0.92), (-0.4, 0.78), (-0.6, 0.2)], pen.main
    )
    for side in (-1, 1):
        pen.shape([(side * 0.56, -0.95), (side * 0.14, -0.66), (side * 0.54, -0.4)], pen.main)
        pen.blob([(side * 0.5, -0.15), (side * 0.74, 0.2), (side * 0.58, 0.74), (side * 0.4, 0.4)], pen.second)
        pen.line([(side * 0.64, 0.1), (side * 0.54, 0.5)], 0.035, pen.ink)
    pen.oval(0, 0.32, 0.36, 0.45, pen.pale)
    for row, xs in enumerate(((-0.15, 0.15), (-0.22, 0.0, 0.22), (-0.14, 0.14))):
        for x in xs:
            y = 0.14 + 0.2 * row
            pen.line([(x - 0.08, y - 0.05), (x, y + 0.05), (x + 0.08, y - 0.05)], 0.05, pen.ink)
    for side in (-1, 1):
        pen.oval(side * 0.25, -0.38, 0.26, 0.26, pen.pale)
        pen.disc(side * 0.23, -0.38, 0.14, (15, 15, 18))
        pen.disc(side * 0.23 - 0.05, -0.43, 0.05, (250, 250, 245))
    pen.shape([(-0.1, -0.28), (0.1, -0.28), (0, -0.04)], pen.third)


def toucan(pen):
    pen.shape([(0.3, 0.4), (0.82, 0.98), (0.5, 1.0), (0.12, 0.55)], pen.second)
    for x in (-0.08, 0.14):
        pen.limb([(x, 0.5), (x - 0.04, 0.8)], 0.07, pen.third)
        _foot(pen, x - 0.04, 0.82, pen.third)
    pen.blob(
        [
            (-0.1, -0.72),
            (0.22, -0.66),
            (0.34, -0.35),
            (0.46, 0.1),
            (0.4, 0.5),
            (0.05, 0.62),
            (-0.2, 0.3),
            (-0.26, -0.2),
            (-0.3, -0.55),
        ],
        pen.main,
    )
    pen.blob([(-0.24, -0.3), (0.0, -0.32), (0.06, -0.1), (-0.06, 0.12), (-0.2, 0.1)], pen.pale)
    pen.blob(
        [(-0.18, -0.66), (-0.5, -0.76), (-0.9, -0.6), (-1.02, -0.24), (-0.86, -0.32), (-0.55, -0.34), (-0.2, -0.36)],
        pen.third,
    )
    pen.line([(-0.2, -0.5), (-0.6, -0.52), (-0.94, -0.38)], 0.04, pen.ink)
    pen.shape([(-0.93, -0.53), (-1.02, -0.24), (-0.84, -0.33)], pen.ink)
    pen.eye(-0.04, -0.5, 0.09)
    _wing(pen, 0.02, 0.1, 0.5, pen.second)


def duck(pen):
    for x in (0.02, 0.3):
        pen.limb([(x, 0.5), (x, 0.82)], 0.07, pen.third)
        pen.shape([(x + 0.06, 0.76), (x + 0.06, 0.9), (x - 0.24, 0.9)], pen.third)
    pen.blob(
        [
            (-0.46, 0.0),
            (-0.2, -0.06),
            (0.3, -0.02),
            (0.66, -0.1),
            (0.98, -0.34),
            (0.92, 0.16),
            (0.6, 0.54),
            (0.1, 0.64),
            (-0.38, 0.5),
            (-0.56, 0.22),
        ],
        pen.main,
    )
    pen.blob([(-0.58, -0.2), (-0.3, -0.2), (-0.14, 0.05), (-0.3, 0.24), (-0.54, 0.18)], pen.main, line=False)
    pen.oval(-0.38, -0.44, 0.31, 0.29, pen.main)
    pen.blob([(-0.58, -0.24), (-0.2, -0.24), (-0.18, -0.1), (-0.55, -0.1)], pen.pale)
    pen.blob([(-0.64, -0.5), (-0.84, -0.4), (-1.02, -0.38), (-0.98, -0.26), (-0.76, -0.24), (-0.62, -0.28)], pen.third)
    pen.line([(-0.98, -0.34), (-0.64, -0.36)], 0.035, pen.ink)
    pen.eye(-0.44, -0.52, 0.08)
    _wing(pen, -0.06, 0.18, 0.74, pen.second)


# reptiles: scales, claws, slit eyes


def _slit_eye(pen, x, y, r=0.08):
    pen.disc(x, y, r + 0.03, (15, 15, 18))
    pen.disc(x, y, r, (240, 220, 60))
    pen.line([(x, y - 0.8 * r), (x, y + 0.8 * r)], 0.05, (15, 15, 18))


def _claw_leg(pen, points, width, fill):
    pen.limb(points, width, fill)
    x, y = points[-1]
    dx, dy = np.subtract(points[-1], points[-2])
    dx, dy = (dx, dy) / np.hypot(dx, dy)
    for turn in (-0.7, 0.0, 0.7):
        tx, ty = dx * np.cos(turn) - dy * np.sin(turn), dx * np.sin(turn) + dy * np.cos(turn)
        pen.line([(x, y), (x + 0.17 * tx, y + 0.17 * ty)], 0.05, pen.ink)


def turtle(pen):
    pen.shape([(0.7, 0.28), (1.0, 0.42), (0.66, 0.46)], pen.second)
    for x in (-0.42, 0.46):
        _claw_leg(pen, [(x, 0.4), (x - 0.04, 0.68)], 0.24, pen.second)
    pen.tube([(-0.5, 0.34), (-0.72, 0.16), (-0.82, -0.02)], [0.15, 0.14, 0.18], pen.second)
    pen.oval(-0.84, -0.03, 0.2, 0.17, pen.second)
    _slit_eye(pen, -0.88, -0.08, 0.06)
    dome = smooth(
        [
            (-0.72, 0.4),
            (-0.62, 0.0),
            (-0.3, -0.38),
            (0.1, -0.48),
            (0.5, -0.32),
            (0.78, 0.05),
            (0.82, 0.4),
            (0.4, 0.48),
            (-0.4, 0.48),
        ]
    )

    def scutes():
        for x, y in ((-0.4, 0.1), (0.04, 0.08), (0.48, 0.1), (-0.18, -0.26), (0.26, -0.26)):
            hexagon = [
                (x - 0.19, y),
                (x - 0.1, y - 0.16),
                (x + 0.1, y - 0.16),
                (x + 0.19, y),
                (x + 0.1, y + 0.16),
                (x - 0.1, y + 0.16),
            ]
            pen.shape(hexagon, pen.third)
        pen.box(-0.9, 0.32, 0.95, 0.6, pen.third)

    pen.clipped(dome, pen.main, scutes)


def snake(pen):
    pen.line([(-0.84, -0.5), (-1.02, -0.44)], 0.04, (200, 30, 50))
    pen.line([(-1.1, -0.5), (-1.0, -0.44), (-1.08, -0.36)], 0.04, (200, 30, 50))
    path = [
        (-0.66, -0.56),
        (-0.36, -0.62),
        (-0.16, -0.3),
        (-0.36, 0.06),
        (-0.72, 0.3),
        (-0.5, 0.68),
        (0.0, 0.6),
        (0.16, 0.2),
        (0.3, -0.2),
        (0.62, -0.24),
        (0.72, 0.14),
        (0.62, 0.46),
        (0.86, 0.66),
    ]
    radii = [0.13, 0.15, 0.17, 0.18, 0.18, 0.18, 0.17, 0.16, 0.14, 0.12, 0.1, 0.07, 0.02]
    spine = pen.tube(path, radii, pen.main)
    for x, y, r in spine[8:-6:4]:
        r *= 0.75
        pen.shape([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], pen.second, line=False)
    pen.blob([(-0.44, -0.72), (-0.7, -0.76), (-0.92, -0.58), (-0.9, -0.46), (-0.66, -0.38), (-0.44, -0.44)], pen.main)
    _slit_eye(pen, -0.7, -0.62, 0.07)


def lizard(pen):
    for x, side in ((-0.28, -1), (-0.28, 1), (0.2, -1), (0.2, 1)):
        reach = -0.16 if x < 0 else 0.14
        _claw_leg(pen, [(x, 0.08 * side), (x + reach, 0.36 * side), (x + reach - 0.16, 0.52 * side)], 0.1, pen.main)
    path = [(-0.5, 0.0), (-0.24, 0.02), (0.06, 0.0), (0.36, 0.04), (0.62, 0.22), (0.86, 0.16), (0.98, -0.12)]
    spine = pen.tube(path, [0.12, 0.18, 0.19, 0.14, 0.09, 0.06, 0.02], pen.main)
    for x, y, r in spine[4:-8:3]:
        pen.line([(x, y - 0.8 * r), (x + 0.03, y), (x, y + 0.8 * r)], 0.06, pen.second)
    pen.blob(
        [(-0.92, 0.0), (-0.82, -0.14), (-0.58, -0.19), (-0.42, -0.1), (-0.42, 0.1), (-0.58, 0.19), (-0.82, 0.14)],
        pen.main,
    )
    for side in (-1, 1):
        _slit_eye(pen, -0.66, 0.12 * side, 0.06)


def crocodile(pen):
    for x in (-0.14, 0.4):
        _claw_leg(pen, [(x, 0.2), (x + 0.06, 0.38), (x - 0.06, 0.5)], 0.16, pen.main)
    back = [(-0.2, -0.22), (0.05, -0.28), (0.35, -0.24), (0.6, -0.14), (0.8, -0.1), (1.0, -0.3)]
    for x, y in smooth(back, closed=False)[::4]:
        pen.shape([(x - 0.07, y + 0.08), (x, y - 0.14), (x + 0.08, y + 0.08)], pen.second)
    body = smooth([*back, (0.92, 0.06), (0.62, 0.2), (0.3, 0.28), (-0.1, 0.3), (-0.32, 0.2), (-0.36, -0.12)])

    def scales():
        for row in range(3):
            xs = np.arange(-0.25 + 0.07 * row, 0.95, 0.16)
            pen.dots(xs, np.full(len(xs), -0.12 + 0.13 * row), 0.045, pen.second)

    pen.clipped(body, pen.main, scales)
    pen.shape([(-0.3, 0.1), (-0.98, 0.14), (-1.0, 0.26), (-0.3, 0.3)], pen.main)
    pen.blob(
        [
            (-0.16, -0.2),
            (-0.32, -0.3),
            (-0.46, -0.26),
            (-0.56, -0.12),
            (-0.9, -0.12),
            (-1.02, -0.06),
            (-0.98, 0.03),
            (-0.5, 0.06),
            (-0.2, 0.14),
        ],
        pen.main,
    )
    for x in np.arange(-0.92, -0.4, 0.13):
        pen.shape([(x, 0.03), (x + 0.1, 0.03), (x + 0.05, 0.15)], (250, 250, 250), line=False)
    pen.disc(-0.93, -0.07, 0.035, pen.ink)
    _slit_eye(pen, -0.38, -0.2, 0.07)


# clothes: all hang on a hanger


def _hanger(pen, top, wide, y):
    hook = [(0, 0.14), (0.0, 0.08), (0.09, 0.02), (0.06, -0.07), (-0.05, -0.06)]
    pen.line(smooth(hook, closed=False) + (0, top), 0.06, pen.ink)
    pen.line([(-wide, y), (0, top + 0.13), (wide, y)], 0.07, pen.ink)


def _mirrored(half):
    return half + [(-x, y) for x, y in half[::-1]]


def t_shirt(pen):
    _hanger(pen, -0.85, 0.4, -0.5)
    outline = _mirrored([(0.22, -0.66), (0.5, -0.6), (1.0, -0.22), (0.76, 0.12), (0.52, -0.08), (0.54, 0.85)])

    def stripes():
        for y in (-0.1, 0.2, 0.5):
            pen.box(-0.56, y, 0.56, y + 0.14, pen.second, line=False)
        for side in (-1, 1):
            pen.line([(side * 0.62, 0.06), (side * 0.95, -0.34)], 0.08, pen.second)

    pen.clipped(outline, pen.main, stripes)
    pen.blob([(-0.24, -0.68), (0, -0.6), (0.24, -0.68), (0.14, -0.45), (-0.14, -0.45)], pen.third)


def trousers(pen):
    _hanger(pen, -0.92, 0.4, -0.7)
    pen.shape(
        [(-0.46, -0.72), (0.46, -0.72), (0.6, 0.95), (0.16, 0.95), (0, -0.1), (-0.16, 0.95), (-0.6, 0.95)], pen.main
    )
    pen.box(-0.47, -0.74, 0.47, -0.56, pen.second)
    pen.box(-0.1, -0.76, 0.1, -0.54, pen.pale)
    pen.line([(0, -0.56), (0, -0.1)], 0.04, pen.ink)
    for side in (-1, 1):
        pen.line([(side * 0.48, -0.32), (side * 0.28, -0.36), (side * 0.22, -0.54)], 0.045, pen.ink)
        pen.line([(side * 0.27, -0.1), (side * 0.37, 0.8)], 0.04, pen.second)
        pen.shape([(side * 0.6, 0.95), (side * 0.59, 0.82), (side * 0.14, 0.82), (side * 0.16, 0.95)], pen.second)


def dress(pen):
    _hanger(pen, -0.9, 0.3, -0.62)
    outline = _mirrored(
        [
            (0.16, -0.58),
            (0.24, -0.78),
            (0.36, -0.74),
            (0.36, -0.4),
            (0.25, -0.06),
            (0.5, 0.45),
            (0.74, 0.85),
            (0.38, 0.94),
            (0.12, 0.86),
        ]
    )

    def dots():
        for row in range(4):
            xs = np.arange(-0.7 + 0.12 * (row % 2), 0.75, 0.25)
            pen.dots(xs, np.full(len(xs), 0.16 + 0.2 * row), 0.065, pen.second)

    pen.clipped(outline, pen.main, dots)
    pen.box(-0.29, -0.12, 0.29, 0.0, pen.third)
    pen.shape([(0, -0.06), (0.3, -0.2), (0.3, 0.1)], pen.third)
    pen.shape([(0, -0.06), (-0.3, -0.2), (-0.3, 0.1)], pen.third)


def jacket(pen):
    _hanger(pen, -0.86, 0.36, -0.56)
    for side in (-1, 1):
        pen.shape(
            [(side * 0.36, -0.64), (side * 0.62, -0.5), (side * 0.98, 0.52), (side * 0.7, 0.62), (side * 0.46, 0.0)],
            pen.main,
        )
        pen.shape([(side * 0.98, 0.52), (side * 0.7, 0.62), (side * 0.66, 0.48), (side * 0.93, 0.38)], pen.second)
    pen.shape(_mirrored([(0.2, -0.72), (0.5, -0.6), (0.54, 0.85)]), pen.main)
    pen.shape([(-0.2, -0.72), (0.2, -0.72), (0.0, 0.05)], pen.pale)
    for side in (-1, 1):
        pen.shape([(side * 0.2, -0.74), (side * 0.4, -0.42), (side * 0.28, -0.36), (0, 0.08)], pen.second)
        pen.box(side * 0.16, 0.36, side * 0.44, 0.58, pen.second)
    pen.line([(0, 0.05), (0, 0.85)], 0.05, pen.ink)
    pen.dots([0.09] * 3, [0.18, 0.42, 0.66], 0.055, pen.ink)


# food: on a plate, with crumbs, seeds or sprinkles on top


def _plate(pen, y, wide):
    pen.oval(0, y, wide, 0.16, pen.pale)
    pen.oval(0, y - 0.02, 0.72 * wide, 0.09, pen.pale)


def _sprinkles(pen, xs, ys, fill):
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        turn = 0.05 if i % 2 else -0.05
        pen.line([(x - 0.05, y + turn), (x + 0.05, y - turn)], 0.055, fill)


def burger(pen):
    _plate(pen, 0.66, 1.0)
    pen.blob([(-0.74, 0.36), (0, 0.32), (0.74, 0.36), (0.68, 0.62), (0.3, 0.68), (-0.3, 0.68), (-0.68, 0.62)], pen.main)
    pen.blob([(-0.8, 0.14), (0, 0.1), (0.8, 0.14), (0.84, 0.28), (0.76, 0.42), (-0.76, 0.42), (-0.84, 0.28)], pen.ink)
    pen.shape([(-0.8, 0.02), (0.8, 0.02), (0.5, 0.1), (0.28, 0.32), (0.06, 0.1), (-0.8, 0.12)], pen.third)
    waves = np.arange(-0.9, 0.91, 0.15)
    leaf = [(x, 0.16 if i % 2 else 0.02) for i, x in enumerate(waves)]
    pen.blob([(-0.88, -0.08), (0.0, -0.1), (0.88, -0.08), *leaf[::-1]], pen.second)
    pen.blob(
        [
            (-0.82, -0.06),
            (-0.78, -0.36),
            (-0.45, -0.66),
            (0, -0.74),
            (0.45, -0.66),
            (0.78, -0.36),
            (0.82, -0.06),
            (0.4, 0.0),
            (-0.4, 0.0),
        ],
        pen.main,
    )
    _sprinkles(
        pen, [-0.46, -0.18, 0.14, 0.44, -0.02, -0.34, 0.32], [-0.4, -0.54, -0.56, -0.4, -0.32, -0.2, -0.2], pen.pale
    )


def pizza(pen):
    pen.oval(0, 0.1, 0.98, 0.86, pen.pale)
    pen.oval(0, 0.1, 0.8, 0.7, pen.pale)
    pen.shape([(-0.66, -0.46), (0.66, -0.46), (0.03, 0.92)], pen.main)
    for x, y in ((-0.28, -0.2), (0.26, -0.16), (-0.04, 0.14), (0.06, 0.5)):
        pen.oval(x, y, 0.16, 0.15, pen.second)
        pen.dots([x - 0.05, x + 0.06], [y - 0.03, y + 0.05], 0.03, pen.ink)
    _sprinkles(pen, [0.0, -0.3, 0.28, -0.12], [-0.26, 0.08, 0.16, 0.4], pen.third)
    pen.tube(
        [(-0.74, -0.46), (-0.4, -0.6), (0.0, -0.66), (0.4, -0.6), (0.74, -0.46)],
        [0.14, 0.15, 0.15, 0.15, 0.14],
        pen.third,
    )


def ice_cream(pen):
    pen.oval(0, 0.86, 0.5, 0.12, pen.pale)
    cone = [(-0.42, -0.02), (0.42, -0.02), (0.04, 0.96), (-0.04, 0.96)]

    def waffle():
        for i in range(-3, 5):
            pen.line([(-0.6 + 0.22 * i, -0.1), (-0.1 + 0.22 * i, 1.0)], 0.04, pen.ink)
            pen.line([(0.6 - 0.22 * i, -0.1), (0.1 - 0.22 * i, 1.0)], 0.04, pen.ink)

    pen.clipped(cone, pen.third, waffle)
    for x, y, r, fill in ((-0.26, -0.18, 0.3, pen.main), (0.26, -0.18, 0.3, pen.second), (0.0, -0.52, 0.34, pen.main)):
        pen.oval(x, y, r, r, fill)
    pen.tube(
        [(-0.48, -0.02), (-0.24, 0.06), (0, 0.02), (0.24, 0.08), (0.48, -0.02)],
        [0.07, 0.09, 0.07, 0.09, 0.07],
        pen.second,
    )
    _sprinkles(
        pen, [-0.36, -0.12, 0.14, 0.34, -0.16, 0.1, 0.0], [-0.2, -0.1, -0.24, -0.16, -0.5, -0.44, -0.68], pen.pale
    )
    pen.oval(0.04, -0.88, 0.12, 0.12, pen.third)


def cake(pen):
    _plate(pen, 0.72, 1.0)
    pen.box(-0.72, -0.12, 0.72, 0.68, pen.main)
    pen.box(-0.72, 0.3, 0.72, 0.42, pen.pale)
    for x in (-0.36, 0.0, 0.36):
        pen.box(x - 0.05, -0.66, x + 0.05, -0.2, pen.third)
        pen.blob([(x, -0.96), (x + 0.08, -0.78), (x, -0.66), (x - 0.08, -0.78)], (255, 200, 60))
    drip = [(-0.76, -0.24), (0.76, -0.24)]
    for i, x in enumerate((0.76, 0.57, 0.38, 0.19, 0.0, -0.19, -0.38, -0.57, -0.76)):
        drip.append((x, 0.2 if i % 2 == 0 else 0.0))
    pen.blob(drip, pen.second)
    pen.oval(0, -0.24, 0.75, 0.15, pen.second)
    _sprinkles(pen, [-0.5, -0.2, 0.16, 0.48, 0.0], [-0.24, -0.18, -0.3, -0.22, -0.14], pen.pale)


# vehicles: wheels with hubs and windows (portholes on the boat)


def _wheel(pen, x, y, r):
    pen.disc(x, y, r + 0.02, (15, 15, 18))
    pen.disc(x, y, 0.78 * r, (52, 52, 58))
    pen.disc(x, y, 0.5 * r, (215, 215, 215))
    pen.disc(x, y, 0.16 * r, (40, 40, 45))


def car(pen):
    pen.blob(
        [
            (-0.98, 0.14),
            (-0.86, -0.06),
            (-0.5, -0.14),
            (-0.28, -0.48),
            (0.0, -0.56),
            (0.36, -0.54),
            (0.66, -0.14),
            (0.94, -0.06),
            (1.0, 0.2),
            (0.92, 0.4),
            (0.0, 0.42),
            (-0.92, 0.4),
        ],
        pen.main,
    )
    pen.shape([(-0.4, -0.12), (-0.2, -0.42), (0.04, -0.46), (0.04, -0.12)], pen.pale)
    pen.shape([(0.12, -0.12), (0.12, -0.46), (0.32, -0.44), (0.52, -0.12)], pen.pale)
    pen.line([(-0.95, 0.2), (0.97, 0.2)], 0.07, pen.second)
    pen.line([(0.08, -0.12), (0.08, 0.38)], 0.035, pen.ink)
    pen.line([(0.16, 0.04), (0.28, 0.04)], 0.05, pen.ink)
    pen.disc(-0.88, 0.08, 0.08, (255, 240, 170))
    for x in (-0.54, 0.58):
        _wheel(pen, x, 0.42, 0.26)


def truck(pen):
    pen.box(-0.95, 0.36, 0.95, 0.48, pen.ink)
    pen.box(-0.3, -0.66, 1.0, 0.36, pen.second)
    for x in (-0.06, 0.2, 0.46, 0.72):
        pen.line([(x, -0.62), (x, 0.32)], 0.035, pen.ink)
    pen.box(-0.28, -0.2, 0.98, -0.02, pen.third, line=False)
    pen.shape([(-0.36, -0.4), (-0.72, -0.4), (-0.86, -0.02), (-1.0, 0.06), (-1.0, 0.44), (-0.36, 0.44)], pen.main)
    pen.shape([(-0.44, -0.3), (-0.66, -0.3), (-0.76, 0.0), (-0.44, 0.0)], pen.pale)
    pen.disc(-0.92, 0.22, 0.07, (255, 240, 170))
    for x in (-0.64, 0.3, 0.72):
        _wheel(pen, x, 0.5, 0.21)


def bicycle(pen):
    for x in (-0.56, 0.56):
        rim = _CIRCLE * 0.4 + (x, 0.3)
        for turn in range(0, 14, 2):
            pen.line([rim[turn], rim[turn + 14]], 0.02, (150, 150, 155))
        pen.line(rim, 0.11, (20, 20, 24))
        pen.line(_CIRCLE * 0.33 + (x, 0.3), 0.04, (215, 215, 215))
        pen.disc(x, 0.3, 0.08, (215, 215, 215))
    frame = (
        [(-0.56, 0.3), (-0.36, -0.4)],
        [(-0.4, -0.22), (0.22, -0.24)],
        [(-0.38, -0.16), (-0.02, 0.32)],
        [(0.2, -0.38), (-0.02, 0.32)],
        [(-0.02, 0.32), (0.56, 0.3)],
        [(0.22, -0.24), (0.56, 0.3)],
    )
    for part in frame:
        pen.limb(part, 0.1, pen.main)
    pen.limb([(-0.34, -0.46), (-0.58, -0.52), (-0.64, -0.38)], 0.08, pen.second)
    pen.blob([(0.02, -0.46), (0.36, -0.52), (0.42, -0.4), (0.2, -0.36)], pen.second)
    pen.disc(-0.02, 0.32, 0.13, pen.ink)
    pen.line([(-0.1, 0.18), (0.06, 0.46)], 0.06, (215, 215, 215))


def sailboat(pen):
    pen.limb([(0.0, -0.95), (0.0, 0.4)], 0.07, pen.third)
    pen.shape([(0.02, -0.96), (0.34, -0.86), (0.02, -0.76)], pen.third)
    pen.blob([(0.07, -0.72), (0.4, -0.35), (0.6, 0.0), (0.78, 0.28), (0.4, 0.27), (0.07, 0.28)], pen.pale)
    pen.shape([(0.08, -0.14), (0.5, -0.14), (0.62, 0.06), (0.08, 0.06)], pen.second, line=False)
    pen.blob([(-0.07, -0.82), (-0.28, -0.35), (-0.48, 0.0), (-0.7, 0.26), (-0.38, 0.26), (-0.07, 0.26)], pen.second)
    pen.blob(
        [(-1.0, 0.36), (-0.5, 0.38), (0.5, 0.38), (0.96, 0.34), (0.82, 0.7), (0.55, 0.88), (-0.4, 0.88), (-0.8, 0.7)],
        pen.main,
    )
    for x in (-0.44, 0.0, 0.44):
        pen.disc(x, 0.6, 0.12, pen.ink)
        pen.disc(x, 0.6, 0.075, pen.pale)


# electrical devices: all have a cord with a plug


def _cord(pen, x, y):
    bends = [(x, y), (x + 0.2, y + 0.1), (x + 0.28, y - 0.12), (0.8, y - 0.06)]
    pen.line(smooth(bends, closed=False), 0.055, pen.ink)
    pen.box(0.76, y - 0.17, 0.92, y + 0.05, pen.third)
    for dy in (-0.12, 0.0):
        pen.line([(0.92, y + dy), (1.04, y + dy)], 0.05, pen.ink)


def lamp(pen):
    _cord(pen, 0.3, 0.84)
    for x0, y0, x1, y1 in ((-0.62, 0.14, -0.82, 0.36), (-0.34, 0.2, -0.38, 0.48), (-0.86, -0.04, -1.04, 0.06)):
        pen.line([(x0, y0), (x1, y1)], 0.06, (255, 225, 90))
    pen.limb([(0.02, 0.78), (0.42, 0.1)], 0.1, pen.main)
    pen.limb([(0.42, 0.1), (-0.12, -0.52)], 0.1, pen.main)
    pen.disc(0.42, 0.1, 0.11, pen.ink)
    pen.blob([(-0.42, 0.82), (-0.3, 0.68), (0.3, 0.68), (0.44, 0.82), (0.3, 0.94), (-0.3, 0.94)], pen.second)
    pen.disc(-0.5, -0.06, 0.19, (255, 245, 170))
    pen.shape([(-0.04, -0.72), (-0.24, -0.8), (-0.86, -0.36), (-0.16, 0.2), (0.1, -0.5)], pen.main)
    pen.line([(-0.86, -0.36), (-0.16, 0.2)], 0.1, pen.second)
    pen.dots([-0.1], [-0.52], 0.08, pen.ink)


def television(pen):
    _cord(pen, 0.3, 0.84)
    pen.line([(-0.42, -0.98), (0, -0.52), (0.46, -0.94)], 0.06, pen.ink)
    pen.dots([-0.42, 0.46], [-0.98, -0.94], 0.07, pen.ink)
    for x in (-0.5, 0.4):
        pen.limb([(x, 0.6), (x * 1.25, 0.9)], 0.09, pen.second)
    pen.box(-0.9, -0.54, 0.86, 0.66, pen.main)
    pen.blob(
        [
            (-0.76, -0.4),
            (-0.2, -0.44),
            (0.36, -0.4),
            (0.4, 0.06),
            (0.36, 0.5),
            (-0.2, 0.54),
            (-0.76, 0.5),
            (-0.8, 0.06),
        ],
        pen.pale,
    )
    pen.shape([(-0.62, 0.1), (-0.3, -0.3), (-0.12, -0.3), (-0.56, 0.26)], (255, 255, 255), line=False)
    for y in (-0.3, -0.02):
        pen.disc(0.63, y, 0.12, pen.ink)
        pen.line([(0.63, y), (0.69, y - 0.06)], 0.05, (235, 235, 235))
    for y in (0.24, 0.36, 0.48):
        pen.line([(0.52, y), (0.76, y)], 0.045, pen.ink)


def fan(pen):
    _cord(pen, 0.3, 0.88)
    pen.limb([(0, 0.3), (0, 0.84)], 0.14, pen.main)
    pen.blob([(-0.44, 0.94), (-0.34, 0.8), (0.34, 0.8), (0.44, 0.94), (0.0, 0.98)], pen.main)
    pen.oval(0, -0.24, 0.7, 0.7, pen.pale)
    start = pen.rng.uniform(0, 2)
    for k in range(4):
        a = start + k * np.pi / 2
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        petal = np.array([(0.05, 0.0), (0.25, -0.22), (0.52, -0.24), (0.58, 0.02), (0.32, 0.08)])
        pen.blob(petal @ turn + (0, -0.24), pen.second)
    for r in (0.7, 0.46):
        pen.line(_CIRCLE * r + (0, -0.24), 0.05, pen.ink)
    for x, y in _CIRCLE[:27:3]:
        pen.line([(0.15 * x, 0.15 * y - 0.24), (0.7 * x, 0.7 * y - 0.24)], 0.025, pen.ink)
    pen.oval(0, -0.24, 0.15, 0.15, pen.third)


def laptop(pen):
    _cord(pen, 0.42, 0.84)
    pen.line([(0.3, 0.6), (0.44, 0.84)], 0.055, pen.ink)
    pen.shape([(-0.66, -0.72), (0.66, -0.72), (0.7, 0.2), (-0.7, 0.2)], pen.main)
    pen.shape([(-0.55, -0.61), (0.55, -0.61), (0.58, 0.1), (-0.58, 0.1)], pen.pale)
    pen.box(-0.42, -0.48, 0.1, -0.38, pen.second, line=False)
    pen.box(-0.42, -0.28, 0.4, -0.2, pen.second, line=False)
    pen.box(-0.42, -0.12, 0.28, -0.04, pen.second, line=False)
    pen.shape([(-0.7, 0.2), (0.7, 0.2), (0.96, 0.7), (-0.96, 0.7)], pen.main)
    for row in range(3):
        y, half = 0.27 + 0.1 * row, 0.62 + 0.05 * row
        for i in range(7):
            x = half * (2 * i / 7 - 1)
            pen.box(x + 0.02, y, x + 0.02 + 0.2 * half, y + 0.07, pen.ink, line=False)
    pen.shape([(-0.18, 0.58), (0.18, 0.58), (0.2, 0.67), (-0.2, 0.67)], pen.second)


# dogs: four legs, a muzzle with a black nose, a collar with a tag


def _legs(pen, xs, top, bottom, width, fill):
    for x in xs:
        pen.limb([(x, top), (x, bottom - 0.06), (x - 0.08, bottom - 0.04)], width, fill)


def _muzzle(pen, x, y, length, fill):
    pen.blob(
        [
            (x + 0.1, y - 0.16),
            (x - 0.5 * length, y - 0.1),
            (x - length, y - 0.06),
            (x - length - 0.02, y + 0.08),
            (x - 0.5 * length, y + 0.16),
            (x + 0.1, y + 0.16),
        ],
        fill,
    )
    pen.disc(x - length, y - 0.05, 0.085, (15, 15, 18))
    pen.line([(x - length + 0.05, y + 0.07), (x - 0.3 * length, y + 0.09)], 0.035, pen.ink)
    pen.blob(
        [
            (x - 0.7 * length, y + 0.1),
            (x - 0.45 * length, y + 0.1),
            (x - 0.5 * length, y + 0.28),
            (x - 0.66 * length, y + 0.28),
        ],
        (225, 90, 110),
        line=False,
    )


def _collar(pen, x0, y0, x1, y1):
    pen.line([(x0, y0), (x1, y1)], 0.1, pen.third)
    pen.disc(x0 + 0.02, y0 + 0.06, 0.06, (250, 220, 90))


def dachshund(pen):
    pen.tube([(0.74, 0.06), (0.92, -0.1), (1.02, -0.4)], [0.08, 0.06, 0.03], pen.main)
    _legs(pen, (-0.28, 0.52), 0.3, 0.62, 0.13, pen.second)
    _legs(pen, (-0.42, 0.68), 0.3, 0.64, 0.14, pen.main)
    pen.tube([(-0.38, 0.16), (0.1, 0.18), (0.64, 0.14)], [0.24, 0.21, 0.23], pen.main)
    pen.tube([(-0.42, 0.1), (-0.5, -0.12), (-0.52, -0.28)], [0.19, 0.15, 0.14], pen.main)
    pen.oval(-0.36, 0.16, 0.21, 0.2, pen.main, line=False)
    _collar(pen, -0.66, -0.04, -0.34, -0.12)
    pen.oval(-0.56, -0.36, 0.22, 0.19, pen.main)
    _muzzle(pen, -0.66, -0.32, 0.34, pen.second)
    pen.eye(-0.64, -0.44, 0.055)
    pen.blob([(-0.52, -0.48), (-0.36, -0.46), (-0.28, -0.2), (-0.34, 0.0), (-0.48, -0.08), (-0.52, -0.3)], pen.second)


def _pompom(pen, x, y, r, fill):
    turns = np.arange(9) * 2 * np.pi / 9
    for grow, colour in ((pen.edge / pen.scale, pen.ink), (0.0, fill)):
        pen.dots(x + 0.72 * r * np.cos(turns), y + 0.72 * r * np.sin(turns), 0.36 * r + grow, colour)
    pen.disc(x, y, 0.75 * r, fill)
    curl = _CIRCLE[4:22] * 0.3 * r + (x, y)
    pen.line(curl, 0.035, pen.ink)


def poodle(pen):
    pen.limb([(0.48, -0.1), (0.7, -0.42)], 0.08, pen.main)
    _pompom(pen, 0.74, -0.54, 0.17, pen.second)
    for x in (-0.3, -0.02, 0.34, 0.56):
        pen.limb([(x, 0.2), (x, 0.88), (x - 0.07, 0.9)], 0.09, pen.main)
        _pompom(pen, x, 0.7, 0.14, pen.second)
    pen.oval(0.34, 0.08, 0.32, 0.2, pen.main)
    _pompom(pen, -0.12, 0.04, 0.38, pen.second)
    pen.tube([(-0.24, -0.16), (-0.38, -0.4)], [0.12, 0.11], pen.main)
    _collar(pen, -0.46, -0.2, -0.2, -0.32)
    _muzzle(pen, -0.5, -0.46, 0.36, pen.main)
    pen.oval(-0.44, -0.52, 0.18, 0.17, pen.main)
    pen.eye(-0.5, -0.54, 0.055)
    _pompom(pen, -0.36, -0.8, 0.22, pen.second)
    _pompom(pen, -0.22, -0.46, 0.15, pen.second)


def dalmatian(pen):
    pen.tube([(0.62, -0.1), (0.82, -0.24), (0.98, -0.56)], [0.07, 0.05, 0.03], pen.main)
    _legs(pen, (-0.14, 0.44), 0.2, 0.88, 0.13, pen.main)
    _legs(pen, (-0.32, 0.6), 0.1, 0.92, 0.15, pen.main)
    pen.blob(
        [
            (-0.5, -0.02),
            (-0.3, -0.2),
            (0.1, -0.16),
            (0.5, -0.2),
            (0.74, -0.04),
            (0.7, 0.28),
            (0.4, 0.26),
            (0.1, 0.32),
            (-0.3, 0.4),
            (-0.5, 0.26),
        ],
        pen.main,
    )
    pen.shape([(-0.5, 0.16), (-0.66, -0.36), (-0.34, -0.5), (-0.14, -0.1)], pen.main, line=False)
    pen.line([(-0.5, 0.16), (-0.64, -0.34)], 0.042, pen.ink)
    pen.line([(-0.34, -0.46), (-0.12, -0.14)], 0.042, pen.ink)
    _collar(pen, -0.62, -0.22, -0.24, -0.32)
    pen.oval(-0.52, -0.52, 0.25, 0.21, pen.main)
    _muzzle(pen, -0.64, -0.46, 0.32, pen.main)
    pen.eye(-0.6, -0.58, 0.055)
    pen.blob([(-0.44, -0.7), (-0.28, -0.66), (-0.2, -0.44), (-0.3, -0.28), (-0.42, -0.44)], pen.second)
    jitter = pen.rng.uniform(-0.03, 0.03, (12, 2))
    spots = (
        np.array(
            [
                (-0.36, 0.0),
                (-0.16, 0.14),
                (0.04, -0.04),
                (0.22, 0.14),
                (0.4, -0.06),
                (0.56, 0.14),
                (-0.36, 0.24),
                (0.64, -0.04),
                (-0.34, 0.52),
                (0.62, 0.42),
                (0.6, 0.68),
                (-0.3, 0.74),
            ]
        )
        + jitter
    )
    pen.dots(spots[:8, 0], spots[:8, 1], 0.068, pen.second)
    pen.dots(spots[8:, 0], spots[8:, 1], 0.045, pen.second)


def husky(pen):
    pen.tube(
        [(0.6, 0.0), (0.86, -0.1), (0.94, -0.4), (0.7, -0.56), (0.54, -0.42)], [0.12, 0.14, 0.16, 0.14, 0.08], pen.main
    )
    _legs(pen, (-0.12, 0.42), 0.2, 0.86, 0.15, pen.pale)
    body = smooth(
        [
            (-0.5, -0.06),
            (-0.3, -0.26),
            (0.1, -0.22),
            (0.5, -0.24),
            (0.74, -0.06),
            (0.72, 0.28),
            (0.4, 0.32),
            (0.1, 0.4),
            (-0.3, 0.46),
            (-0.54, 0.26),
        ]
    )
    belly = [(-0.7, 0.0), (-0.45, 0.2), (-0.2, 0.16), (0.1, 0.26), (0.5, 0.16), (0.8, 0.24), (0.8, 0.6), (-0.7, 0.6)]
    pen.clipped(body, pen.main, lambda: pen.blob(belly, pen.pale, line=False))
    _legs(pen, (-0.32, 0.6), 0.28, 0.9, 0.17, pen.pale)
    _collar(pen, -0.68, -0.14, -0.24, -0.2)
    for x in (-0.68, -0.34):
        pen.shape([(x - 0.14, -0.6), (x + 0.02, -1.0), (x + 0.15, -0.6)], pen.main)
        pen.shape([(x - 0.05, -0.66), (x + 0.02, -0.86), (x + 0.07, -0.66)], pen.second, line=False)
    pen.blob(
        [
            (-0.84, -0.46),
            (-0.72, -0.7),
            (-0.5, -0.74),
            (-0.26, -0.66),
            (-0.14, -0.4),
            (-0.26, -0.2),
            (-0.5, -0.14),
            (-0.76, -0.22),
        ],
        pen.main,
    )
    pen.blob(
        [
            (-0.56, -0.6),
            (-0.42, -0.46),
            (-0.22, -0.38),
            (-0.3, -0.22),
            (-0.52, -0.17),
            (-0.78, -0.24),
            (-0.8, -0.4),
            (-0.68, -0.48),
        ],
        pen.pale,
        line=False,
    )
    _muzzle(pen, -0.66, -0.3, 0.26, pen.pale)
    for x in (-0.7, -0.46):
        pen.eye(x, -0.48, 0.055)


# fmt: on

# by coarse and fine index, in the order of the names in scenes.py
OBJECTS = (
    (shark, ray, seahorse, angelfish),
    (flamingo, owl, toucan, duck),
    (turtle, snake, lizard, crocodile),
    (t_shirt, trousers, dress, jacket),
    (burger, pizza, ice_cream, cake),
    (car, truck, bicycle, sailboat),
    (lamp, television, fan, laptop),
    (dachshund, poodle, dalmatian, husky),
)
