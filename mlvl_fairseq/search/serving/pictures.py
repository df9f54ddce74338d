"""Pictures of an index as small JPEG files, made anew: nothing of the original file goes out but what is seen."""

import io
import threading
from collections import OrderedDict
from typing import Dict, Tuple

from mlvl_fairseq.data.images.reading import MAX_PIXELS
from mlvl_fairseq.data.images.transforms import WIDE_MODES, scaled
from mlvl_fairseq.search.searcher import Searcher

SIDES: Dict[str, int] = {"thumb": 360, "picture": 1600}  # longest side
KEPT_BYTES = 64 << 20


class Pictures:
    """JPEG files of pictures, by row; those that were asked for last are kept."""

    def __init__(self, searcher: Searcher):
        self._searcher, self._lock = searcher, threading.Lock()
        self._kept: "OrderedDict[Tuple[int, str], bytes]" = OrderedDict()
        self._bytes = 0

    def jpeg(self, row: int, size: str) -> bytes:
        """A picture.

        Args:
            size: one of :data:`SIDES`.

        Raises:
            DataError: there is no such picture in the index, or it cannot be read any more.
        """
        source, name = self._searcher.source_and_name(row)  # also where it is kept: it may have been taken out
        with self._lock:
            if (row, size) in self._kept:
                self._kept.move_to_end((row, size))
                return self._kept[row, size]
        content = as_jpeg(source.picture(name, MAX_PIXELS), SIDES[size])
        with self._lock:
            if (row, size) not in self._kept:
                self._kept[row, size] = content
                self._bytes += len(content)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return content


def as_jpeg(image, side: int) -> bytes:
    """A Pillow image, upright, on white, its longer side at most `side`."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(scaled(image) if image.mode in WIDE_MODES else image)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()
