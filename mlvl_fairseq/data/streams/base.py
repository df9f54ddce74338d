"""What a kind of stream is: records to rows of a batch. A kind is one file in ``kinds/``."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict, List, Optional, Tuple, Type

import numpy as np
import torch
from PIL import Image, ImageOps

from mlvl_fairseq.data.images.augmentation import Augmentation
from mlvl_fairseq.data.images.rand_augment import UNSIGNED, rand_augment
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.data.masking import Masked, Masking
from mlvl_fairseq.data.streams.boxes import Cut
from mlvl_fairseq.data.streams.pictures import Picture, Pictures
from mlvl_fairseq.data.streams.records import Record
from mlvl_fairseq.data.streams.texts import Texts

IN_PLACE = tuple(UNSIGNED)  # what RandAugment may do to a picture whose places are told: nothing that moves them


@dataclass
class Row:
    """A text and what it is read beside.

    Attributes:
        tokens: with ``<s>`` and ``</s>``. masked: the text of masked language modelling.
        identity: equal for rows that show the same thing.
        view: the other view, where it is a text; masking is of it, then. masks_both: of both, as one text.
        second: another caption of the image.
        box: centre, width and height in shares of the image. whole: whether that is all of it.
        patches: bool [N], those that it covers.
    """

    tokens: List[int]
    masked: Masked
    identity: int
    view: Optional[List[int]] = None
    masks_both: bool = False
    second: Optional[List[int]] = None
    box: Optional[Tuple[float, ...]] = None
    whole: bool = False
    patches: Optional[torch.Tensor] = None


@dataclass
class Item:
    """What a record gives to a batch.

    Attributes:
        rows: none, where it cannot be used. image: as the image tower takes it; None: there is none, or no row.
        problems: what could not be used, with file and line. clipped_boxes: cut at the edge of their picture.
    """

    rows: List[Row] = field(default_factory=list)
    image: Optional[torch.Tensor] = None
    problems: List[str] = field(default_factory=list)
    clipped_boxes: int = 0


@dataclass
class Tools:
    """What kinds make rows with.

    Attributes:
        options: of the task. texts: captions to ids. pictures: of records.
        form: ``fixed``, or ``reference`` as published.
        transform: a picture to what the image tower takes; None: features are given. augmentation: in training.
        side: patches a row and a column of an image. masking: of tokens.
    """

    options: Any
    texts: Texts
    pictures: Pictures
    masking: Masking
    form: str = "fixed"
    transform: Optional[ImageTransform] = None
    augmentation: Optional[Augmentation] = None
    side: int = 0

    def mask(self, tokens: List[int], generator: np.random.Generator, most: int = 0) -> Masked:
        """`most`: masked positions, where they are not as many as the options say."""
        return (replace(self.masking, most=most) if most else self.masking)(tokens, generator)

    def image(self, picture: Picture, generator: np.random.Generator, mirrors: bool = True) -> torch.Tensor:
        """A picture as the image tower takes it, changed at random in training.

        Args:
            mirrors: whether it may be mirrored.
        """
        if self.transform is None or isinstance(picture.content, torch.Tensor):
            return picture.content
        image = self.transform.prepared(picture.content)
        if self.augmentation:
            change = self.augmentation if mirrors else replace(self.augmentation, flip=0.0)
            image = change(image, self.transform.size, generator)
        return self.transform(image)

    def shown(self, picture: Picture, cut: Cut, generator: np.random.Generator) -> torch.Tensor:
        """A part of a picture as the image tower takes it, in training with changes that move nothing."""
        if self.transform is None or isinstance(picture.content, torch.Tensor):
            return picture.content
        size = (self.transform.size, self.transform.size)
        image = self.transform.prepared(picture.content).convert("RGB").crop(cut[:4])
        image = (ImageOps.mirror(image) if cut.mirrored else image).resize(size, resample=Image.Resampling.BICUBIC)
        if self.augmentation:
            image = rand_augment(image, self.augmentation.form, generator, IN_PLACE)
        return self.transform(image)


class StreamKind(ABC):
    """A kind of stream.

    Attributes:
        name: of the option with its training files; ``valid_<name>``: with those of validation.
        stream: what its batches are called.
        batch: name of the option with its rows a batch; 0 there: as many as ``--batch-size`` says.
        options: what it brings to a task.
        is_main: whether an iteration has a batch of this kind or of another main one; of the others it may have one of
            each. turn: of its batch in an iteration, the main one last.
        needs_patches: whether rows say which patches of an image they cover.
        repeats_rows: whether, as published, rows come twice where records give too few.
    """

    name: ClassVar[str]
    stream: ClassVar[str]
    batch: ClassVar[str]
    options: ClassVar[Type]
    is_main: ClassVar[bool] = True
    turn: ClassVar[int] = 2
    needs_patches: ClassVar[bool] = False
    repeats_rows: ClassVar[bool] = False

    def __init__(self, tools: Tools):
        self.tools = tools

    @classmethod
    def share(cls, options) -> Optional[float]:
        """Probability of a batch in an iteration; None: whenever no other main kind has one."""
        return None

    @classmethod
    def records_a_batch(cls, options, rows: int) -> int:
        """How many records make a batch of so many rows."""
        return rows

    @classmethod
    def longest_text(cls, options) -> int:
        """Tokens of the longest text of a row."""
        return options.max_length

    @classmethod
    def length_option(cls, options) -> str:
        """What says how long that is, for messages."""
        return "--max-length"

    @classmethod
    def check(cls, options) -> None:
        """Raises UserError: its options are none, or do not go together."""

    @abstractmethod
    def item(self, record: Record, generator: np.random.Generator) -> Item:
        """Raises DataError: the record cannot be used."""


STREAM_KINDS: Dict[str, Type[StreamKind]] = {}


def register_stream_kind(kind: Type[StreamKind]) -> Type[StreamKind]:
    """Class decorator: make a kind known by its name."""
    if kind.name in STREAM_KINDS:
        raise ValueError(f"a kind of stream '{kind.name}' is registered already")
    STREAM_KINDS[kind.name] = kind
    return kind
