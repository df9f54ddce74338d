"""Colours of the objects, chosen to stay apart from each other at 16 x 16 pixels."""

from dataclasses import dataclass
from typing import Dict, Tuple

Rgb = Tuple[int, int, int]


NIGHT: Rgb = (20, 20, 50)
WHITE: Rgb = (255, 255, 255)
INK: Rgb = (38, 38, 48)
BUTTER: Rgb = (255, 214, 51)


@dataclass(frozen=True)
class Paint:
    """A colour and what goes with it: ``dark`` for form, ``light`` for gloss, ``outline``, ``contrast``, ``eye``."""

    body: Rgb
    dark: Rgb
    light: Rgb
    outline: Rgb
    contrast: Rgb
    eye: Rgb


def _mix(colour: Rgb, other: Rgb, share: float) -> Rgb:
    return tuple(round(c + (o - c) * share) for c, o in zip(colour, other))


def _paint(body: Rgb, contrast: Rgb = BUTTER, eye: Rgb = INK) -> Paint:
    return Paint(
        body=body,
        dark=_mix(body, NIGHT, 0.28),
        light=_mix(body, WHITE, 0.5),
        outline=_mix(body, NIGHT, 0.6),
        contrast=contrast,
        eye=eye,
    )


PAINTS: Dict[str, Paint] = {
    "red": _paint((226, 32, 44)),
    "orange": _paint((255, 136, 20), contrast=(120, 62, 20)),
    "yellow": _paint((255, 222, 32), contrast=(176, 98, 24)),
    "green": _paint((38, 170, 70)),
    "blue": _paint((30, 100, 226)),
    "purple": _paint((150, 52, 190)),
    "white": _paint((255, 255, 255)),
    "black": _paint((34, 34, 40), eye=BUTTER),
}
