"""RandAugment (Cubuk et al. 2020) as ALBEF and LilT have it: ten changes of a picture, two of which are drawn.

Arithmetic is OpenCV's, with integers where it has integers, so that every change gives the published code's pixels to
the last bit: warps are bilinear with 5-bit fractions, outside a picture is (128, 128, 128).

Two faults of the published code are kept in the form ``reference`` only: AutoContrast negates an unsigned byte, so that
a channel whose least value is not 0 becomes white; Sharpness does not cut its values at 0 and 255, so that they wrap.
"""

import math
from functools import partial
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

FORMS = ("fixed", "reference", "none")
OPERATIONS, MAGNITUDE, HIGHEST = 2, 7, 10  # LilT's N and M; M is of 10
PROBABILITY = 0.5  # that what was drawn is done

_ENHANCE = MAGNITUDE / HIGHEST * 1.8 + 0.1
_SHEAR, _TRANSLATE, _DEGREES = (MAGNITUDE / HIGHEST * most for most in (0.3, 10.0, 30.0))
_OUTSIDE = 128
_FRACTION, _FINE = 5, 10  # bits of a position's fraction, and of the sums it is cut from
_LANES = (0, 21, 42)  # three channels in one integer: a weighted sum of bytes needs 18 bits
_RING = 2  # pixels around a picture, which are outside
_ROWS = 32  # at once: stays in the cache

Change = Callable[[Image.Image], Image.Image]


def rand_augment(image: Image.Image, form: str, generator, names: Optional[Sequence[str]] = None) -> Image.Image:
    """A picture changed by operations drawn with replacement, each done with probability 1/2.

    Args:
        image: RGB. form: ``fixed`` or ``reference``, see above; ``none`` changes nothing.
        generator: what draws: numpy's ``Generator``, or its ``RandomState`` as in the published code.
        names: of the operations to draw from; None: all ten.
    """
    if form == "none":
        return image
    for name in generator.choice(names or NAMES, OPERATIONS):
        if generator.random() <= PROBABILITY:
            image = changed(image, str(name), form, generator)
    return image


def changed(image: Image.Image, name: str, form: str, generator) -> Image.Image:
    """A picture after one operation, with a sign drawn if it has one."""
    if name in SIGNED:
        return SIGNED[name](-1 if _negative(name, generator) else 1)(image)
    return UNSIGNED[name](form)(image)


def _negative(name: str, generator) -> bool:
    drawn = generator.random()
    return drawn < 0.5 if name == "Rotate" else drawn > 0.5


# Of values alone: tables.
def auto_contrast(image: Image.Image, form: str = "fixed") -> Image.Image:
    """Stretch every channel to 0 ... 255."""
    tables = []
    for counts in _histograms(image):
        levels = np.flatnonzero(counts)
        low, high = int(levels[0]), int(levels[-1])
        if low == high:
            tables.append(np.arange(256))
            continue
        scale = 255 / (high - low)
        offset = -low if form == "fixed" else (256 - low) % 256
        tables.append((np.arange(256) * scale + offset * scale).clip(0, 255))
    return _by_tables(image, tables)


def equalize(image: Image.Image) -> Image.Image:
    """Give every channel's levels equal shares, as far as that goes."""
    tables = []
    for counts in _histograms(image):
        step = int(counts[counts > 0][:-1].sum()) // 255
        below = step // 2 + np.concatenate([[0], np.cumsum(counts)[:-1]])
        tables.append((below // step).clip(0, 255) if step else np.arange(256))
    return _by_tables(image, tables)


def brightness(image: Image.Image, factor: float) -> Image.Image:
    table = (np.arange(256, dtype=np.float32) * np.float32(factor)).clip(0, 255)
    return _by_tables(image, [table] * 3)


def _histograms(image: Image.Image) -> np.ndarray:
    """[3, 256]."""
    return np.reshape(image.histogram(), (3, 256))


def _by_tables(image: Image.Image, tables: List[np.ndarray]) -> Image.Image:
    return image.point(np.concatenate(tables).astype(np.uint8).tolist())


# Of neighbours.
def sharpness(image: Image.Image, factor: float, form: str = "fixed") -> Image.Image:
    """Away from the blurred picture (weights 1, in the middle 5), but for its border of one pixel."""
    pixels = np.asarray(image)
    sharp = pixels.copy()
    for start in range(1, image.height - 1, _ROWS):
        rows = slice(start, min(start + _ROWS, image.height - 1))
        wide = pixels[rows.start - 1 : rows.stop + 1].astype(np.uint16)
        inner = wide[1:-1, 1:-1]
        columns = wide[:-2] + wide[1:-1] + wide[2:]
        sums = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] + 4 * inner
        blurred = ((2 * sums + 13) // 26).astype(np.float32)  # rounded; 13 is odd: none lies in the middle
        values = (inner - blurred) * np.float32(factor) + blurred
        sharp[rows, 1:-1] = values.clip(0, 255) if form == "fixed" else values.astype(np.int32)
    return Image.fromarray(sharp)


# Of places.
def warped(image: Image.Image, matrix: np.ndarray) -> Image.Image:
    """Move pixels by an affine map, as OpenCV's ``warpAffine`` does.

    Args:
        matrix: float [2, 3], from the picture's places to those of what comes out.
    """
    width, height = image.size
    of_x, of_y = _inverted(matrix)
    line = width + 2 * _RING
    pixels = _packed(np.asarray(image))
    steps = np.diff(pixels, append=0)  # to the right; lanes may borrow from each other until all is summed
    pixels <<= _FRACTION
    half = sum(1 << lane + 2 * _FRACTION - 1 for lane in _LANES)
    moved = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, _ROWS):
        rows = slice(start, min(start + _ROWS, height))
        place, right = _positions(of_x, rows, width, width)
        below, down = _positions(of_y, rows, width, height)
        place += below * line
        upper = _between(pixels, steps, place, right)
        sums = (upper << _FRACTION) + half
        if down.any():
            sums += (_between(pixels, steps, place + line, right) - upper) * down
        for channel, lane in enumerate(_LANES):
            moved[rows, :, channel] = sums >> lane + 2 * _FRACTION
    return Image.fromarray(moved)


def _inverted(matrix: np.ndarray) -> Tuple[Tuple[float, float, float], Tuple[float, float, float]]:
    (a, b, c), (d, e, f) = np.asarray(matrix, np.float64).tolist()
    factor = 1 / (a * e - b * d)
    a, b, d, e = e * factor, -b * factor, -d * factor, a * factor
    return (a, b, -a * c - b * f), (d, e, -d * c - e * f)


def _positions(line: Tuple[float, float, float], rows: slice, width: int, most: int) -> Tuple[np.ndarray, np.ndarray]:
    """Where pixels come from along one axis: int64 [rows, width], in whole pixels, counted from the ring's first, and
    the rest in 1/32 pixels."""
    of_x, of_y, shift = line
    one, half = 1 << _FINE, 1 << _FINE - _FRACTION - 1
    columns = np.rint(of_x * np.arange(width) * one).astype(np.int64)
    lines = np.rint((of_y * np.arange(rows.start, rows.stop) + shift) * one).astype(np.int64) + half
    places = (lines[:, None] + columns) >> _FINE - _FRACTION
    rest = places & (1 << _FRACTION) - 1
    places >>= _FRACTION
    np.clip(places, -_RING, most, out=places)  # what is farther away is outside, too
    places += _RING
    return places, rest


def _packed(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> int64 [(H + 4) (W + 4)], the channels of a pixel in one integer, with a ring around."""
    height, width, _ = pixels.shape
    packed = np.full((height + 2 * _RING, width + 2 * _RING), sum(_OUTSIDE << lane for lane in _LANES), np.int64)
    inner = packed[_RING:-_RING, _RING:-_RING]
    inner[:] = 0
    for channel, lane in enumerate(_LANES):
        inner |= pixels[..., channel].astype(np.int64) << lane
    return packed.reshape(-1)


def _between(pixels: np.ndarray, steps: np.ndarray, place: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The value at a place of a line, times 32."""
    values = pixels.take(place, mode="clip")
    values += steps.take(place, mode="clip") * right
    return values


def shear_x(image: Image.Image, factor: float) -> Image.Image:
    """x' = x + factor y: :func:`warped`, where every row moves as a whole."""
    width, height = image.size
    shifts = np.rint(-float(np.float32(factor)) * np.arange(height) * (1 << _FINE)).astype(np.int64)
    shifts = (shifts + (1 << _FINE - _FRACTION - 1)) >> _FINE - _FRACTION
    starts, rest = shifts >> _FRACTION, (shifts & (1 << _FRACTION) - 1).astype(np.uint16)[:, None]
    starts = starts.clip(-width - 1, width)
    before = int(max(0, -starts.min()))
    wide = np.full((height, before + width + int(max(0, starts.max())) + 1, 3), _OUTSIDE, np.uint8)
    wide[:, before : before + width] = np.asarray(image)
    windows = np.lib.stride_tricks.sliding_window_view(wide.reshape(-1), 3 * (width + 1))
    rows = windows[(np.arange(height) * wide.shape[1] + before + starts) * 3].astype(np.uint16)
    sums = rows[:, :-3] * (32 - rest) + rows[:, 3:] * rest
    return Image.fromarray(((sums + 16) >> _FRACTION).astype(np.uint8).reshape(height, width, 3))


def shear_y(image: Image.Image, factor: float) -> Image.Image:
    """y' = y + factor x."""
    turned = image.transpose(Image.Transpose.TRANSPOSE)
    return shear_x(turned, factor).transpose(Image.Transpose.TRANSPOSE)


def translate_x(image: Image.Image, pixels: float) -> Image.Image:
    """To the left by whole pixels, whatever the picture's size."""
    return _moved(image, -round(pixels), 0)


def translate_y(image: Image.Image, pixels: float) -> Image.Image:
    """Upwards by whole pixels."""
    return _moved(image, 0, -round(pixels))


def _moved(image: Image.Image, right: int, down: int) -> Image.Image:
    moved = Image.new("RGB", image.size, (_OUTSIDE,) * 3)
    moved.paste(image, (right, down))
    return moved


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Counter-clockwise about (W / 2, H / 2)."""
    x, y = image.width / 2, image.height / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return warped(image, np.array([[cos, sin, (1 - cos) * x - sin * y], [-sin, cos, sin * x + (1 - cos) * y]]))


# Name -> form, or sign, -> change.
UNSIGNED: Dict[str, Callable[[str], Change]] = {
    "Identity": lambda form: lambda image: image,
    "AutoContrast": lambda form: partial(auto_contrast, form=form),
    "Equalize": lambda form: equalize,
    "Brightness": lambda form: partial(brightness, factor=_ENHANCE),
    "Sharpness": lambda form: partial(sharpness, factor=_ENHANCE, form=form),
}
SIGNED: Dict[str, Callable[[int], Change]] = {
    "ShearX": lambda sign: partial(shear_x, factor=sign * _SHEAR),
    "ShearY": lambda sign: partial(shear_y, factor=sign * _SHEAR),
    "TranslateX": lambda sign: partial(translate_x, pixels=sign * _TRANSLATE),
    "TranslateY": lambda sign: partial(translate_y, pixels=sign * _TRANSLATE),
    "Rotate": lambda sign: partial(rotate, degrees=sign * _DEGREES),
}
NAMES = (*UNSIGNED, *SIGNED)  # the published order, which draws depend on
