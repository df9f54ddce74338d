"""Pixels of a picture: a background and one sticker an object (body, dark outline, white rim)."""

import math
from functools import lru_cache
from typing import Sequence, Tuple

from PIL import Image, ImageChops, ImageDraw

from mlvl_fairseq.picture_world.backgrounds import draw_background
from mlvl_fairseq.picture_world.layout import GRID, PlacedObject
from mlvl_fairseq.picture_world.palette import PAINTS, WHITE, Rgb
from mlvl_fairseq.picture_world.shapes import SHAPES, Pen

CELL = 16  # pixels: the patch size of the ViT the pictures are meant for
OVERSAMPLING = 8
# All in cells. Body + outline + rim + the largest shift (1/16 each side) fill exactly one cell.
BODY, OUTLINE, RIM = 11.8 / 16, 0.55 / 16, 0.55 / 16
Box = Tuple[int, int, int, int]
RIM_STEPS = 24  # directions a silhouette is moved in to grow its rim


def draw_picture(place: str, objects: Sequence[PlacedObject], cell: int = CELL) -> Image.Image:
    """Draw the objects in front of a place.

    Args:
        place: what the background shows.
        objects: what to draw; each stays inside its grid cell.
        cell: side of a grid cell in pixels; more than the default 16 gives the same picture in finer detail.

    Returns:
        RGB image of ``4 * cell`` x ``4 * cell`` pixels.
    """
    picture = draw_background(place, GRID * cell).copy()
    for item in objects:
        sticker = draw_sticker(item.kind, item.colour, cell)
        picture.paste(sticker, _corner(item, cell), sticker)
    return picture


def bounding_box(objects: Sequence[PlacedObject], cell: int = CELL) -> Box:
    """The smallest box around objects as :func:`draw_picture` draws them, rims included: ``(x, y, width, height)`` in
    pixels, from the top left."""
    bounds = []
    for item in objects:
        left, top = _corner(item, cell)
        inner = draw_sticker(item.kind, item.colour, cell).getchannel("A").getbbox()
        bounds.append((left + inner[0], top + inner[1], left + inner[2], top + inner[3]))
    x, y = (min(bound[side] for bound in bounds) for side in (0, 1))
    return x, y, max(bound[2] for bound in bounds) - x, max(bound[3] for bound in bounds) - y


def _corner(item: PlacedObject, cell: int) -> Tuple[int, int]:
    x, y = (round((at + shift / 16) * cell) for at, shift in zip(item.cell, item.shift))
    return x, y


@lru_cache(maxsize=None)
def draw_sticker(kind: str, colour: str, cell: int = CELL) -> Image.Image:
    """One object as a ``cell`` x ``cell`` RGBA image with a margin of a sixteenth on each side."""
    size = cell * OVERSAMPLING
    paint = PAINTS[colour]
    body_size = round(BODY * size)
    body = Image.new("RGBA", (body_size, body_size))
    SHAPES[kind](Pen(ImageDraw.Draw(body), body_size, paint))
    sheet = Image.new("RGBA", (size, size))
    sheet.paste(body, ((size - body_size) // 2,) * 2)
    outlined = _surround(sheet, OUTLINE * size, paint.outline)
    return _surround(outlined, RIM * size, WHITE).resize((cell, cell), Image.Resampling.BOX)


def _surround(image: Image.Image, width: float, colour: Rgb) -> Image.Image:
    """Put a rim of ``width`` pixels behind an RGBA image whose own margin is wider than that."""
    alpha = rim = image.getchannel("A")
    for step in range(RIM_STEPS):
        angle = 2 * math.pi * step / RIM_STEPS
        moved = ImageChops.offset(alpha, round(width * math.cos(angle)), round(width * math.sin(angle)))
        rim = ImageChops.lighter(rim, moved)
    behind = Image.new("RGBA", image.size, colour + (0,))
    behind.putalpha(rim)
    behind.alpha_composite(image)
    return behind
