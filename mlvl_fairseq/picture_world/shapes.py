"""What each kind of object looks like: one function a kind, drawing on the unit square (origin top left)."""

import math
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple

from PIL import ImageDraw

from mlvl_fairseq.picture_world.palette import INK, Paint, Rgb

WOOD: Rgb = (141, 94, 54)
LEAF: Rgb = (77, 168, 61)
STEEL: Rgb = (104, 112, 128)
GLASS: Rgb = (214, 238, 252)
NOSE: Rgb = (255, 150, 160)
GOLD: Rgb = (255, 196, 37)

Point = Tuple[float, float]
Shape = Callable[["Pen"], None]
SHAPES: Dict[str, Shape] = {}


@dataclass
class Pen:
    """Draws on a square canvas of ``size`` pixels with coordinates from 0 to 1; ``paint`` is the object's colour."""

    canvas: ImageDraw.ImageDraw
    size: int
    paint: Paint

    def polygon(self, points: Sequence[Point], colour: Rgb) -> None:
        self.canvas.polygon(self._scale(points), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Rgb) -> None:
        self.ellipse(x - radius, y - radius, x + radius, y + radius, colour)

    def ellipse(self, left: float, top: float, right: float, bottom: float, colour: Rgb) -> None:
        self.canvas.ellipse(self._scale([(left, top), (right, bottom)]), fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Rgb, radius: float = 0.0) -> None:
        self.canvas.rounded_rectangle(self._scale([(left, top), (right, bottom)]), radius * self.size, fill=colour)

    def pie(self, left: float, top: float, right: float, bottom: float, start: int, end: int, colour: Rgb) -> None:
        """A sector from ``start`` to ``end`` degrees, clockwise from three o'clock."""
        self.canvas.pieslice(self._scale([(left, top), (right, bottom)]), start, end, fill=colour)

    def ring(
        self, x: float, y: float, radius: float, width: float, colour: Rgb, start: int = 0, end: int = 360
    ) -> None:
        """A circle line, or its part from ``start`` to ``end`` degrees, that lies inside ``radius``."""
        bounds = self._scale([(x - radius, y - radius), (x + radius, y + radius)])
        self.canvas.arc(bounds, start, end, fill=colour, width=round(width * self.size))

    def line(self, points: Sequence[Point], width: float, colour: Rgb) -> None:
        self.canvas.line(self._scale(points), fill=colour, width=round(width * self.size), joint="curve")

    def _scale(self, points: Sequence[Point]) -> List[Point]:
        return [(x * self.size, y * self.size) for x, y in points]


def shape(kind: str) -> Callable[[Shape], Shape]:
    """Register the drawing of one kind of object."""

    def register(function: Shape) -> Shape:
        SHAPES[kind] = function
        return function

    return register


def around(x: float, y: float, radius: float, degrees: float) -> Point:
    """The point at ``degrees`` clockwise from twelve o'clock on a circle."""
    angle = math.radians(degrees)
    return x + radius * math.sin(angle), y - radius * math.cos(angle)


@shape("star")
def draw_star(pen: Pen) -> None:
    points = [around(0.5, 0.54, 0.52 if i % 2 == 0 else 0.23, 36 * i) for i in range(10)]
    pen.polygon(points, pen.paint.body)


@shape("heart")
def draw_heart(pen: Pen) -> None:
    curve = (2 * math.pi * i / 60 for i in range(60))
    points = [
        (
            0.5 + 0.5 * math.sin(t) ** 3,
            0.46 - (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 32,
        )
        for t in curve
    ]
    pen.polygon(points, pen.paint.body)
    pen.ellipse(0.16, 0.2, 0.36, 0.38, pen.paint.light)


@shape("moon")
def draw_moon(pen: Pen) -> None:
    outer = [around(0.58, 0.5, 0.5, -angle) for angle in range(-20, 201, 5)]
    inner = [around(0.8, 0.5, 0.43, -angle) for angle in range(165, 14, -5)]
    pen.polygon(outer + inner, pen.paint.body)


@shape("ball")
def draw_ball(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.48, pen.paint.body)
    pen.ring(0.02, 0.5, 0.42, 0.07, pen.paint.dark, -58, 58)
    pen.ring(0.98, 0.5, 0.42, 0.07, pen.paint.dark, 122, 238)
    pen.disc(0.5, 0.26, 0.09, pen.paint.light)


@shape("house")
def draw_house(pen: Pen) -> None:
    pen.box(0.68, 0.06, 0.82, 0.4, pen.paint.dark)
    pen.box(0.12, 0.42, 0.88, 0.98, pen.paint.body)
    pen.polygon([(0.5, 0.02), (1.0, 0.48), (0.0, 0.48)], pen.paint.dark)
    pen.box(0.54, 0.62, 0.76, 0.98, WOOD)
    pen.box(0.22, 0.58, 0.44, 0.8, GLASS)


@shape("tree")
def draw_tree(pen: Pen) -> None:
    pen.box(0.42, 0.66, 0.58, 0.99, WOOD)
    for top, width in ((0.36, 0.46), (0.18, 0.37), (0.0, 0.27)):
        pen.polygon([(0.5, top), (0.5 + width, top + 0.42), (0.5 - width, top + 0.42)], pen.paint.body)


@shape("flower")
def draw_flower(pen: Pen) -> None:
    for i in range(5):
        pen.disc(*around(0.5, 0.53, 0.335, 72 * i), 0.185, pen.paint.body)
    pen.disc(0.5, 0.53, 0.23, pen.paint.body)
    pen.disc(0.5, 0.53, 0.16, pen.paint.contrast)


@shape("apple")
def draw_apple(pen: Pen) -> None:
    pen.line([(0.5, 0.3), (0.54, 0.06)], 0.09, WOOD)
    pen.polygon([(0.54, 0.22), (0.64, 0.04), (0.9, 0.02), (0.8, 0.18)], LEAF)
    pen.ellipse(0.04, 0.22, 0.62, 0.94, pen.paint.body)
    pen.ellipse(0.38, 0.22, 0.96, 0.94, pen.paint.body)
    pen.ellipse(0.18, 0.5, 0.82, 0.99, pen.paint.body)
    pen.ellipse(0.16, 0.34, 0.32, 0.56, pen.paint.light)


@shape("fish")
def draw_fish(pen: Pen) -> None:
    pen.polygon([(0.66, 0.5), (1.0, 0.2), (0.94, 0.5), (1.0, 0.8)], pen.paint.dark)
    pen.polygon([(0.28, 0.3), (0.5, 0.08), (0.62, 0.34)], pen.paint.dark)
    pen.ellipse(0.0, 0.22, 0.8, 0.8, pen.paint.body)
    pen.disc(0.2, 0.45, 0.075, pen.paint.eye)


@shape("cat")
def draw_cat(pen: Pen) -> None:
    pen.polygon([(0.04, 0.02), (0.44, 0.26), (0.08, 0.6)], pen.paint.body)
    pen.polygon([(0.96, 0.02), (0.56, 0.26), (0.92, 0.6)], pen.paint.body)
    pen.ellipse(0.03, 0.2, 0.97, 0.97, pen.paint.body)
    for x in (0.31, 0.69):
        pen.ellipse(x - 0.075, 0.42, x + 0.075, 0.64, pen.paint.eye)
    pen.polygon([(0.4, 0.7), (0.6, 0.7), (0.5, 0.83)], NOSE)


@shape("bird")
def draw_bird(pen: Pen) -> None:
    pen.polygon([(0.2, 0.22), (0.2, 0.42), (0.0, 0.34)], GOLD)
    pen.polygon([(0.6, 0.55), (1.0, 0.28), (0.98, 0.62), (0.7, 0.8)], pen.paint.dark)
    pen.line([(0.45, 0.8), (0.45, 0.98)], 0.07, WOOD)
    pen.line([(0.6, 0.8), (0.6, 0.98)], 0.07, WOOD)
    pen.disc(0.36, 0.32, 0.23, pen.paint.body)
    pen.ellipse(0.16, 0.3, 0.86, 0.88, pen.paint.body)
    pen.pie(0.36, 0.26, 0.84, 0.76, 0, 180, pen.paint.dark)
    pen.disc(0.32, 0.28, 0.06, pen.paint.eye)


@shape("boat")
def draw_boat(pen: Pen) -> None:
    pen.box(0.46, 0.02, 0.53, 0.7, WOOD)
    pen.polygon([(0.57, 0.04), (0.96, 0.6), (0.57, 0.6)], pen.paint.light)
    pen.polygon([(0.42, 0.14), (0.42, 0.6), (0.1, 0.6)], pen.paint.light)
    pen.polygon([(0.0, 0.66), (1.0, 0.66), (0.82, 0.96), (0.18, 0.96)], pen.paint.body)


@shape("car")
def draw_car(pen: Pen) -> None:
    pen.polygon([(0.18, 0.5), (0.32, 0.2), (0.7, 0.2), (0.86, 0.5)], pen.paint.body)
    pen.box(0.0, 0.44, 1.0, 0.76, pen.paint.body, radius=0.1)
    pen.polygon([(0.29, 0.46), (0.38, 0.28), (0.48, 0.28), (0.48, 0.46)], GLASS)
    pen.polygon([(0.55, 0.46), (0.55, 0.28), (0.65, 0.28), (0.74, 0.46)], GLASS)
    for x in (0.25, 0.75):
        pen.disc(x, 0.76, 0.15, INK)
        pen.disc(x, 0.76, 0.06, GLASS)


@shape("cup")
def draw_cup(pen: Pen) -> None:
    pen.ring(0.74, 0.52, 0.25, 0.1, pen.paint.body)
    pen.box(0.04, 0.22, 0.76, 0.6, pen.paint.body)
    pen.ellipse(0.04, 0.3, 0.76, 0.96, pen.paint.body)
    pen.ellipse(0.04, 0.1, 0.76, 0.34, pen.paint.dark)


@shape("key")
def draw_key(pen: Pen) -> None:
    pen.ring(0.27, 0.5, 0.27, 0.14, pen.paint.body)
    pen.box(0.5, 0.43, 1.0, 0.57, pen.paint.body)
    pen.box(0.66, 0.5, 0.77, 0.76, pen.paint.body)
    pen.box(0.88, 0.5, 1.0, 0.82, pen.paint.body)


@shape("umbrella")
def draw_umbrella(pen: Pen) -> None:
    pen.box(0.46, 0.02, 0.54, 0.86, STEEL)
    pen.ring(0.385, 0.84, 0.155, 0.08, STEEL, 0, 180)
    pen.pie(0.0, 0.08, 1.0, 1.06, 180, 360, pen.paint.body)
    for x in (0.165, 0.5, 0.835):
        pen.ellipse(x - 0.165, 0.5, x + 0.165, 0.68, pen.paint.dark)
