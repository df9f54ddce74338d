"""Pictures of records: within the record in base64, beside it in an archive, or in a folder; or features of them that a
frozen network has computed."""

import base64
import binascii
import hashlib
import io
from dataclasses import dataclass, field
from typing import NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from PIL import Image

from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.data.feature_arrays import map_grids, read_row_names
from mlvl_fairseq.data.image_names import ImageFolder, image_name
from mlvl_fairseq.data.images.reading import decode_image, load_image
from mlvl_fairseq.data.images.transforms import HIGH_BIT_DEPTHS
from mlvl_fairseq.data.streams.boxes import is_length
from mlvl_fairseq.data.streams.records import Record
from mlvl_fairseq.errors import DataError, UserError

KEYS = ("binary", "image")  # fields that a record may have its picture in
ROW = "row"  # field that says which row of the given features is its picture's


@dataclass
class PictureSourceOptions:
    """Options of tasks that read streams with pictures."""

    image_root: str = field(
        default="",
        metadata={"help": "folder of pictures that records name; by default they hold their pictures in base64"},
    )
    image_key: str = field(
        default="",
        metadata={"help": f"field of a record that has its picture; empty: the first it has of {', '.join(KEYS)}"},
    )
    image_features: str = field(
        default="",
        metadata={
            "help": "FILE.npy [images, positions, dimensions]: what a frozen network gives for the pictures, which are "
            f"not read then. A record says its row by the field '{ROW}', or names its picture as a line of FILE.txt, "
            "the list of the rows' names, does"
        },
    )
    high_bit_depth: str = field(
        default="clip",
        metadata={
            "help": "pictures of 16-bit, 32-bit or floating point values: cut them at 0 and 255, or scale each "
            "picture's own range to 0 ... 255",
            "choices": HIGH_BIT_DEPTHS,
        },
    )


class Picture(NamedTuple):
    """Of a record.

    Attributes:
        content: of any mode; or given features float32 [positions, dimensions].
        size: width and height in pixels; None: features do not tell, and the record does not either.
        identity: equal where two records show the same picture.
    """

    content: Union[Image.Image, torch.Tensor]
    size: Optional[Tuple[int, int]]
    identity: bytes


class Pictures:
    """Record -> :class:`Picture`.

    Args:
        options: :class:`PictureSourceOptions`; they can be a task's.

    Attributes:
        shape: of given features of one picture, ``(positions, dimensions)``; None: there are pictures.

    Raises:
        UserError: options do not go together. DataError: the features are missing or damaged.
    """

    def __init__(self, options: PictureSourceOptions):
        refuse_remote(options.image_root, "--image-root")
        refuse_remote(options.image_features, "--image-features")
        self.keys = (options.image_key,) if options.image_key else KEYS
        self.folder = ImageFolder(options.image_root) if options.image_root else None
        self.features: Optional[np.ndarray] = None
        self._rows = {}
        if options.image_features:
            if not options.image_features.endswith(".npy"):
                raise UserError(f"--image-features {options.image_features}: give an .npy file")
            self.features = map_grids(options.image_features)
            self._names = f"{options.image_features.removesuffix('.npy')}.txt"

    @property
    def shape(self) -> Optional[Tuple[int, int]]:
        return None if self.features is None else self.features.shape[1:]

    def of(self, record: Record) -> Picture:
        """Raises DataError: it has none, or it cannot be read."""
        if self.features is not None:
            return self._given(record)
        if record.picture is not None:
            return self._decoded(record.picture, record)
        key, value = self._value(record)
        if self.folder is None and key != KEYS[1]:
            try:
                content = base64.b64decode(value.strip(), validate=True)
            except (binascii.Error, ValueError) as error:
                raise record.error(f"is no base64 ({error}); truncated, or a name? (--image-root)", key) from None
            return self._decoded(content, record, key)
        if self.folder is None:
            raise record.error("names a picture: say with --image-root where", key)
        try:
            image = load_image(self.folder.path(value), None)
        except DataError as error:
            raise record.error(str(error), key) from None
        return Picture(image, image.size, _digest(image_name(value).encode("utf-8", "surrogatepass")))

    def _value(self, record: Record) -> Tuple[str, str]:
        key = next((key for key in self.keys if record.fields.get(key) is not None), self.keys[0])
        return key, record.text(key)

    def _decoded(self, content: bytes, record: Record, key: Optional[str] = None) -> Picture:
        try:
            image = decode_image(io.BytesIO(content), "its picture")
        except DataError as error:
            raise record.error(str(error), key) from None
        return Picture(image, image.size, _digest(content))

    def _given(self, record: Record) -> Picture:
        row = record.fields.get(ROW)
        if row is None:
            if not self._rows:
                self._rows = read_row_names(self._names)
            key, name = self._value(record)
            row = self._rows.get(image_name(name))
            if row is None:
                raise record.error(f"'{name}' is not in {self._names}", key)
        if type(row) is not int or not 0 <= row < len(self.features):
            raise record.error(f"is no row of the {len(self.features)} that --image-features has", ROW)
        sides = tuple(record.fields.get(side) for side in ("width", "height"))
        known = all(is_length(side) and side > 0 for side in sides)
        grid = torch.from_numpy(np.asarray(self.features[row], np.float32))
        return Picture(grid, sides if known else None, _digest(b"row %d" % row))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def identity(*parts) -> int:
    """A number of 63 bits that is the same for the same things: bytes, numbers, texts."""
    content = b"\0".join(part if isinstance(part, bytes) else repr(part).encode("utf-8", "replace") for part in parts)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1
