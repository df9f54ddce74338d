"""What each place looks like: pale and quiet, so that the objects stand out."""

import random
from functools import lru_cache
from typing import Callable, Dict

from PIL import Image, ImageDraw

from mlvl_fairseq.picture_world.palette import Rgb

Background = Callable[[ImageDraw.ImageDraw, random.Random, int], None]
BACKGROUNDS: Dict[str, Background] = {}


def background(place: str) -> Callable[[Background], Background]:
    """Register the drawing of one place: a function of (canvas, random stream, side in pixels)."""

    def register(function: Background) -> Background:
        BACKGROUNDS[place] = function
        return function

    return register


@lru_cache(maxsize=None)
def draw_background(place: str, side: int) -> Image.Image:
    """The ``side`` x ``side`` RGB background of a place; always the same one, shared: copy it before drawing."""
    large = 4 * side
    image = Image.new("RGB", (large, large))
    BACKGROUNDS[place](ImageDraw.Draw(image), random.Random(place), large)
    return image.resize((side, side), Image.Resampling.BOX)


def _gradient(canvas: ImageDraw.ImageDraw, side: int, top: Rgb, bottom: Rgb) -> None:
    for y in range(side):
        share = y / (side - 1)
        canvas.line([(0, y), (side, y)], fill=tuple(round(t + (b - t) * share) for t, b in zip(top, bottom)))


def _scatter(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int, number: int, colour: Rgb) -> None:
    """Small dots at random, never closer to the border than they are wide."""
    for _ in range(number):
        radius = side * rng.uniform(0.004, 0.011)
        x, y = (rng.uniform(2 * radius, side - 2 * radius) for _ in range(2))
        canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


@background("night")
def draw_night(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    _gradient(canvas, side, (22, 24, 66), (58, 54, 116))
    _scatter(canvas, rng, side, 40, (208, 210, 240))


@background("grass")
def draw_grass(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    _gradient(canvas, side, (176, 224, 140), (138, 204, 108))
    for _ in range(60):
        x, y, height = rng.uniform(0, side), rng.uniform(0, side), side * rng.uniform(0.02, 0.05)
        for lean in (-0.5, 0.0, 0.5):
            canvas.line([(x, y), (x + lean * height, y - height)], fill=(110, 182, 84), width=side // 100)


@background("beach")
def draw_beach(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    _gradient(canvas, side, (252, 232, 184), (240, 208, 146))
    _scatter(canvas, rng, side, 90, (222, 186, 122))


@background("snow")
def draw_snow(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    _gradient(canvas, side, (206, 220, 234), (232, 240, 248))
    _scatter(canvas, rng, side, 110, (255, 255, 255))


@background("water")
def draw_water(canvas: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    _gradient(canvas, side, (150, 222, 236), (88, 184, 214))
    for row in range(8):
        y, start = side * (row + 0.5) / 8, -rng.uniform(0, side / 8)
        for step in range(10):
            x = start + step * side / 8
            canvas.arc([x, y - side / 40, x + side / 8, y + side / 40], 0, 180, fill=(190, 238, 246), width=side // 100)
